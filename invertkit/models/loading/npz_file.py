"""NumPy's `.npz` files: arrays by name, read as data alone."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from invertkit.errors import WeightsError


def read_npz(path: Path) -> dict[str, Tensor]:
    """The arrays of a `.npz` file as tensors; nothing is unpickled.

    Args:
        path: The file. Whole and real numbers are read; names may have slashes.

    Raises:
        WeightsError: Missing, damaged, empty, or holding anything but arrays of numbers.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "weights.npz"
        ...     np.savez(path, **{"l1/W": np.zeros((2, 3), np.float32)})
        ...     {name: tuple(value.shape) for name, value in read_npz(path).items()}
        {'l1/W': (2, 3)}
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file.")
    if not zipfile.is_zipfile(path):
        raise WeightsError(f"{path}: is not a whole .npz file. Copy or download it again.")
    tensors: dict[str, Tensor] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                tensors[name] = torch.from_numpy(np.array(archive[name]))
    except Exception as error:  # a damaged archive may raise anything
        first = str(error).strip().split("\n")[0]
        raise WeightsError(f"{path}: cannot be read as arrays of numbers ({first:.120}).") from None
    if not tensors:
        raise WeightsError(f"{path}: holds no arrays.")
    return tensors
