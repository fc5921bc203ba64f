"""How many candidates are evaluated at once, so that one backward fits into the memory given."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import final

import torch
from torch import Tensor, nn

Span = tuple[int, int]
"""Rows of a batch: the first, and the one after the last."""


@final
class Chunking:
    """The chunks of a stage's batches.

    Args:
        memory: Bytes that the tensors saved for one backward may take; None for any number.

    Example:
        >>> Chunking(1000).spans(5, key=(), bytes_per_row=lambda: 400)
        [(0, 2), (2, 4), (4, 5)]
    """

    def __init__(self, memory: int | None) -> None:
        self._memory = memory
        self._measured: dict[Hashable, int] = {}

    def spans(self, count: int, *, key: Hashable, bytes_per_row: Callable[[], int]) -> list[Span]:
        """Rows of each chunk; the same for the same memory, whatever the machine is doing.

        Args:
            count: Rows of the batch.
            key: What decides how much a row takes.
            bytes_per_row: Measures it; asked once for each key.
        """
        if self._memory is None or count == 1:
            return [(0, count)]
        # Measured and kept, not tried out: chunks must be the same before and after a resume.
        if key not in self._measured:
            self._measured[key] = bytes_per_row()
        rows = max(1, self._memory // max(1, self._measured[key]))
        return [(start, min(start + rows, count)) for start in range(0, count, rows)]


def bytes_saved(code: Callable[[], object], *, apart_from: Iterable[Tensor] = ()) -> int:
    """Bytes that the graph of some code saves for its backward.

    Args:
        code: Runs with gradients.
        apart_from: Tensors whose memory does not count.

    Example:
        >>> x = torch.zeros(4, requires_grad=True)
        >>> bytes_saved(lambda: x.exp()), bytes_saved(lambda: x + 1)
        (16, 0)
    """
    storages: dict[int, torch.UntypedStorage] = {}  # held, so that no address comes twice

    def pack(tensor: Tensor) -> Tensor:
        # Weights in another layout, which a network keeps beside its own, are no row's.
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage
        return tensor

    ignored = {tensor.untyped_storage().data_ptr() for tensor in apart_from}
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.enable_grad(), hooks:
        code()
    return sum(part.nbytes() for pointer, part in storages.items() if pointer not in ignored)
