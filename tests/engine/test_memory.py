from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from invertkit.engine.memory import Chunking, bytes_saved
from tests.helpers import uniform


@given(
    memory=st.integers(0, 300) | st.none(), count=st.integers(1, 40), per_row=st.integers(0, 100)
)
def test_chunks_cover_every_row_once_and_fit(memory: int | None, count: int, per_row: int) -> None:
    spans = Chunking(memory).spans(count, key="terms", bytes_per_row=lambda: per_row)
    assert [row for start, stop in spans for row in range(start, stop)] == list(range(count))
    if memory is None:
        assert len(spans) == 1
    else:
        assert all(stop - start == 1 or (stop - start) * per_row <= memory for start, stop in spans)


def test_a_row_is_measured_once_for_each_key_and_never_without_need() -> None:
    asked: list[str] = []

    def spans(chunks: Chunking, count: int, key: str) -> int:
        def measure() -> int:
            asked.append(key)
            return 10

        return len(chunks.spans(count, key=key, bytes_per_row=measure))

    chunks = Chunking(20)
    assert [spans(chunks, 4, key) for key in ("a", "a", "b")] == [2, 2, 2]
    assert asked == ["a", "b"]
    spans(chunks, 1, "c")
    spans(Chunking(None), 9, "c")
    assert asked == ["a", "b"]


def test_what_a_graph_saves_is_counted_once_and_weights_never() -> None:
    x = uniform(3, 4).requires_grad_()
    assert bytes_saved(lambda: x.sin()) == 3 * 4 * 8
    assert bytes_saved(lambda: (x.sin(), x.cos())) == 3 * 4 * 8
    assert bytes_saved(lambda: x.sin(), apart_from=[x]) == 0
    layer = nn.Linear(4, 4).double()
    assert bytes_saved(lambda: layer(x.detach())) == 3 * 4 * 8
    with torch.no_grad():  # whoever asks, it is measured with a graph
        assert bytes_saved(lambda: x.sin()) == 3 * 4 * 8
