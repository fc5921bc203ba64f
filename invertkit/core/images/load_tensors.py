"""Label maps, tensors and latents: from files, pictures and arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Int64
from PIL import Image
from torch import Tensor

from invertkit.core.images.decode import open_picture
from invertkit.core.suggestions import conjoined
from invertkit.errors import InputError, ShapeError

ARRAYS: Final = (".npy", ".safetensors")
"""Endings of files that hold arrays."""

_GREYS: Final = ("1", "L", "P", "I", "I;16", "I;16B")


def load_labels(source: Any, *, who: str = "labels") -> Int64[Tensor, "1 1 h w"]:
    """A class at every pixel.

    Args:
        source: A palette picture, whose indices are the classes; a grey one, whose values are; an
            integer array or tensor `(h, w)` or `(1, h, w)`; or a file of either.
        who: What to call it in messages.

    Raises:
        InputError: Missing, unreadable, in colours, or with classes below 0.
        ShapeError: An array or tensor of another shape or type.

    Example:
        >>> load_labels(np.array([[0, 1], [2, 2]])).shape
        torch.Size([1, 1, 2, 2])
    """
    if isinstance(source, str | os.PathLike) and Path(source).suffix.lower() not in ARRAYS:
        source = open_picture(Path(source).expanduser(), who=who)
    if isinstance(source, Image.Image):
        if source.mode not in _GREYS:
            raise InputError(
                f"{who}: is a picture in colours ({source.mode}); expected a palette or grey one, "
                "whose numbers are the classes."
            )
        source = np.array(source)
    values = load_array(source, who=who)
    shape = tuple(values.shape)
    if values.is_floating_point():
        raise ShapeError(f"{who}: expected whole numbers, one class a pixel, got {values.dtype}.")
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2 or not values.numel():
        raise ShapeError(f"{who}: expected shape (h, w), got {shape}.")
    labels = values.to(torch.int64)
    if int(labels.min()) < 0:
        raise InputError(f"{who}: expected classes from 0, got {int(labels.min())}.")
    return labels[None, None]


def load_array(source: Any, *, who: str, names: tuple[str, ...] = ()) -> Tensor:
    """An array, a tensor, or a `.npy` or `.safetensors` file, as a tensor on the CPU.

    Doubles become float32, booleans and whole numbers stay.

    Args:
        source: See above.
        who: What to call it in messages.
        names: Which tensor of a `.safetensors` file is meant, the first that is there; the only
            one of the file need not have such a name.

    Raises:
        InputError: Missing, unreadable, or with numbers that are NaN or infinite.
        ShapeError: No array of numbers.

    Example:
        >>> load_array([[1.0, 2.0]], who="measured")
        tensor([[1., 2.]])
    """
    if isinstance(source, str | os.PathLike):
        values, who = _from_file(Path(source).expanduser(), who=who, names=names), f"{who} {source}"
    elif isinstance(source, Tensor):
        values = source.detach().cpu()
    else:
        try:
            values = torch.from_numpy(np.array(source))
        except (TypeError, ValueError):
            raise ShapeError(
                f"{who}: expected numbers, as an array, a tensor or a file ending in "
                f"{' or '.join(ARRAYS)}, got {type(source).__name__}."
            ) from None
    if values.is_complex():
        raise ShapeError(f"{who}: expected real numbers, got {values.dtype}.")
    if values.is_floating_point():
        values = values.float()
        if not values.isfinite().all():
            raise InputError(f"{who}: has numbers that are NaN or infinite.")
    return values.contiguous()


def _from_file(path: Path, *, who: str, names: tuple[str, ...]) -> Tensor:
    if path.suffix.lower() not in ARRAYS:
        raise InputError(f"{who} {path}: expected a file ending in {' or '.join(ARRAYS)}.")
    if not path.is_file():
        raise InputError(f"{who} {path}: no such file.")
    try:
        if path.suffix.lower() == ".npy":
            return torch.from_numpy(np.load(path, allow_pickle=False))
        from safetensors.torch import load_file

        tensors = load_file(path)
    except Exception as error:  # damaged files raise whatever their reader meets
        what = str(error).strip().split("\n")[0]
        raise InputError(f"{who} {path}: cannot be read ({what:.120}).") from None
    chosen = next((name for name in names if name in tensors), None)
    if chosen is None and len(tensors) == 1:
        (chosen,) = tensors
    if chosen is None:
        raise InputError(
            f"{who} {path}: holds {conjoined(list(tensors)) or 'nothing'}; expected one tensor, or "
            f"one called {' or '.join(names) or 'alone'}."
        )
    return tensors[chosen]
