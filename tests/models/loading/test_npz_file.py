"""`.npz` files are data and nothing else."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from invertkit.errors import WeightsError
from invertkit.models.loading.npz_file import read_npz

NAMES = st.text("abW1/", min_size=1, max_size=8).filter(lambda name: name.strip("/") == name)


@given(
    st.dictionaries(
        NAMES,
        arrays.arrays(np.float32, arrays.array_shapes(min_dims=0, max_dims=3, max_side=4)),
        min_size=1,
        max_size=4,
    )
)
def test_what_was_saved_is_read(saved: dict[str, np.ndarray]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w.npz"
        np.savez_compressed(path, **saved)
        read = read_npz(path)
    assert list(read) == list(saved)
    for name, value in saved.items():
        np.testing.assert_array_equal(read[name].numpy(), value)


def test_what_would_run_code_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", bad=np.array([print], dtype=object), good=np.zeros(2))
    with pytest.raises(WeightsError, match="cannot be read as arrays of numbers"):
        read_npz(tmp_path / "w.npz")


def test_texts_damage_and_nothing_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "text.npz", bad=np.array(["a"]))
    np.savez(tmp_path / "empty.npz")
    np.savez(tmp_path / "cut.npz", a=np.zeros(2000))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-500])
    for name in ("text", "empty", "cut", "missing"):
        with pytest.raises(WeightsError, match=f"{name}.npz"):
            read_npz(tmp_path / f"{name}.npz")
