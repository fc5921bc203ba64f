"""The numbers of a picture, array or tensor as they are stored, before anybody scales them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from invertkit.core.images.colour import srgb_grey, to_srgb
from invertkit.core.images.decode import decoded, is_encoded, upright
from invertkit.errors import InputError, ShapeError

_LOSSY: Final = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF", "HEIF")
"""Formats that may change a number on the way to the file and back."""

_DEPTHS: Final = (8, 10, 12)
"""Bits that are known to be kept in 16."""


@final
@dataclass(frozen=True, eq=False)
class Pixels:
    """What a picture holds, upright.

    Args:
        name: What to call it in messages.
        values: `(h, w, 1 or 3)`, greys or RGB, as they are stored.
        top: The number that stands for white; 0 where nobody says.
        alpha: `(h, w)` from 0, transparent, to 1; None where nothing is transparent.
        classes: `(h, w)` whole numbers that may be classes: indices of a palette, or greys.
        is_lossy: Whether its format may have changed its numbers.
        note: What to tell the user about how it is read.
    """

    name: str
    values: np.ndarray
    top: float
    alpha: np.ndarray | None = None
    classes: np.ndarray | None = None
    is_lossy: bool = False
    note: str = ""


def pixels_of(source: Any, *, who: str, stored: bool = False) -> Pixels:
    """The numbers of a picture, array or tensor.

    Args:
        source: See `ImageLike`.
        who: What to call it in messages.
        stored: Whether colours are wanted as they are stored, without their ICC profile, and
            arrays of any numbers.

    Raises:
        InputError: It cannot be read, or has numbers that are NaN or infinite.
        ShapeError: An array or tensor of another shape or type.

    Example:
        >>> pixels_of(np.zeros((4, 5, 3), np.uint8), who="image").values.shape
        (4, 5, 3)
    """
    if is_encoded(source):
        picture, name = decoded(source, who=who)
        try:
            return _of_picture(picture, name=name, stored=stored)
        except (OSError, ValueError, MemoryError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{name}: cannot be read as a picture ({error}).") from None
    if isinstance(source, np.ndarray | Tensor):
        return _of_array(source, who=who, stored=stored)
    raise InputError(
        f"{who}: expected a path, a PIL image, an array or a tensor, got {type(source).__name__}."
    )


def _of_picture(picture: Image.Image, *, name: str, stored: bool) -> Pixels:
    is_lossy = picture.format in _LOSSY
    picture = upright(picture)
    if picture.mode.startswith("I") or picture.mode == "F":
        return _deep(picture, name=name, stored=stored)
    classes = np.array(picture) if picture.mode in ("1", "L", "P") else None
    alpha = None
    if picture.has_transparency_data:
        # By way of RGBA: straight from a palette to RGB, Pillow warns of what gets lost.
        whole = picture.convert("RGBA")
        alpha = np.array(whole.getchannel("A"), dtype=np.float32) / 255
        is_grey = picture.mode in ("1", "L", "LA", "La")
        picture = picture.convert("L") if is_grey else whole.convert("RGB")
    if picture.mode == "L" and (stored or "icc_profile" not in picture.info):
        values = np.array(picture)[..., None]
    elif stored and picture.mode != "LAB":
        values = np.array(picture.convert("RGB"))
    else:
        values = np.array(to_srgb(picture))
    return Pixels(name, values, 255, alpha, classes, is_lossy)


def _deep(picture: Image.Image, *, name: str, stored: bool) -> Pixels:
    """Greys of more than 8 bits, which Pillow would cut at 255."""
    values = np.asarray(picture, dtype=np.float64)
    _check_finite(values, who=name)
    transparent = picture.info.get("transparency")
    alpha = None
    if isinstance(transparent, int):
        alpha = (values != transparent).astype(np.float32)
    if picture.mode == "F":
        return Pixels(name, values[..., None], 1, alpha)
    top, note = 65535.0, ""
    for bits in _DEPTHS:
        if values.max(initial=0) < 2**bits:
            top = 2.0**bits - 1
            # Mode I holds pictures of 8 bits as a matter of course.
            if (bits, picture.mode) != (8, "I") and values.any():
                note = (
                    f"{name}: its values end at {int(values.max())}, which 16 bits would show "
                    f"nearly black; it is read as a picture of {bits} bits."
                )
            break
    classes = values.astype(np.int64)
    profile = picture.info.get("icc_profile")
    if profile and not stored and values.min() >= 0 and values.max() <= top:
        values = srgb_grey(values / top, profile) * top
    return Pixels(name, values[..., None], top, alpha, classes, note=note)


def _of_array(source: np.ndarray | Tensor, *, who: str, stored: bool) -> Pixels:
    array = _as_array(source, who=who)
    kind, shape = array.dtype.kind, array.shape
    if kind not in "fb" and array.dtype != np.uint8 and not (stored and kind in "iu"):
        raise ShapeError(
            f"{who}: expected uint8 in 0–255, floats in [0, 1] or booleans, got {source.dtype}."
        )
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3 and not (isinstance(source, np.ndarray) and shape[-1] in (1, 3, 4)):
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or not array.size:
        is_array = isinstance(source, np.ndarray)
        wanted = "(h, w, 3), (3, h, w)" if is_array else "(3, h, w), (1, 3, h, w)"
        raise ShapeError(f"{who}: expected shape {wanted} or (h, w), got {tuple(shape)}.")
    if kind == "f":
        _check_finite(array, who=who)
    top = {"f": 1.0, "b": 1.0}.get(kind, 255.0 if array.dtype == np.uint8 else 0.0)
    alpha = None
    if array.shape[-1] == 4:
        alpha = _alpha(array[..., 3], top, who=who)
    classes = array[..., 0] if array.shape[-1] == 1 and kind in "iub" else None
    return Pixels(who, array[..., : min(3, array.shape[-1])], top, alpha, classes)


def _as_array(source: np.ndarray | Tensor, *, who: str) -> np.ndarray:
    """A copy in this machine's order of bytes, as torch can take it."""
    try:
        if isinstance(source, np.ndarray):
            array = np.array(source, order="C", subok=False)
            if array.dtype.kind == "f" and array.dtype.itemsize > 8:
                array = array.astype(np.float64)
            array = array.astype(array.dtype.newbyteorder("="))
            torch.from_numpy(array.reshape(-1)[:0])  # whether torch knows the type
            return array
        tensor = source.detach().cpu()
        tensor = tensor.dequantize() if tensor.is_quantized else tensor
        tensor = tensor.to_dense() if tensor.layout != torch.strided else tensor
        if tensor.is_complex():
            raise TypeError
        if tensor.is_floating_point() and tensor.dtype != torch.float64:
            tensor = tensor.float()  # NumPy has no bfloat16
        return np.array(tensor.resolve_conj().resolve_neg().numpy())
    except (TypeError, ValueError, RuntimeError):  # of another type, or without numbers
        what = "an array" if isinstance(source, np.ndarray) else f"a tensor on {source.device}"
        raise ShapeError(
            f"{who}: expected uint8 in 0–255, floats in [0, 1] or booleans, got {what} of "
            f"{source.dtype}."
        ) from None


def _alpha(values: np.ndarray, top: float, *, who: str) -> np.ndarray:
    """The fourth channel in [0, 1]."""
    alpha = values.astype(np.float32) / (top or max(1.0, float(values.max())))
    if alpha.min() < 0 or alpha.max() > 1 + 1e-6:
        raise InputError(
            f"{who}: its fourth channel, transparency, is to be in [0, 1], and goes from "
            f"{values.min():.4g} to {values.max():.4g}."
        )
    return alpha


def _check_finite(values: np.ndarray, *, who: str) -> None:
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise InputError(
            f"{who}: has {bad} value{'s' if bad > 1 else ''} that are NaN or infinite; "
            "expected floats in [0, 1]."
        )
