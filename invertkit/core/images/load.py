"""Photographs and masks: from whatever the user has to tensors, and back to files.

Images are `(b, 3, h, w)`, RGB, float32 in [0, 1]; masks are `(1, 1, h, w)` with 1 on the object.
"""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from invertkit.errors import InputError, ShapeError

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
"""A path, a PIL image, an array (h, w, 3) or (3, h, w), or a tensor (3, h, w) or (1, 3, h, w).

Arrays and tensors are uint8 in 0–255 or floats in [0, 1].
"""

Fit = Literal["stretch", "crop", "keep"]

SMALLEST = 16
"""Shortest side of a photograph, in pixels: below it there is nothing to invert."""

GREY_SHARE = 0.05
"""A mask may have this share of its pixels between 10 % and 90 % white: soft edges, JPEG."""


def load_image(source: ImageLike, *, who: str = "image") -> Float[Tensor, "1 3 h w"]:
    """A photograph as a tensor in [0, 1].

    Files may be in any mode: palette, grey, CMYK and 16-bit are converted, transparency is laid on
    white, and the EXIF orientation is applied.

    Args:
        source: See `ImageLike`.
        who: What to call it in messages.

    Raises:
        InputError: Missing, unreadable, too small, or with pixels that are NaN or out of range.
        ShapeError: An array or tensor of another shape or type.
    """
    image, name = _to_tensor(source, who=who)
    if image.shape[1] == 1:
        image = image.expand(-1, 3, -1, -1)
    height, width = image.shape[-2:]
    if min(height, width) < SMALLEST:
        raise InputError(
            f"{name}: is {width}×{height} pixels; a photograph needs at least "
            f"{SMALLEST}×{SMALLEST}. Give a larger one."
        )
    return image.contiguous()


def load_mask(source: ImageLike, *, who: str = "mask") -> Float[Tensor, "1 1 h w"]:
    """A binary mask, white (1) on the object; values are cut at one half.

    Raises:
        InputError: Missing, unreadable, grey, empty or full.
        ShapeError: An array or tensor of another shape or type.
    """
    image, name = _to_tensor(source, who=who)
    grey = image.mean(1, keepdim=True)
    share = ((grey > 0.1) & (grey < 0.9)).float().mean().item()
    if share > GREY_SHARE:
        raise InputError(
            f"{name}: is not binary: {share:.0%} of its pixels are grey. A mask is white on the "
            "object and black elsewhere; threshold it first."
        )
    mask = (grey > 0.5).float()
    covered = mask.mean().item()
    if covered == 0:
        raise InputError(
            f"{name}: is empty: no pixel is white. A mask is white on the object and black "
            "elsewhere."
        )
    if covered == 1:
        raise InputError(
            f"{name}: is full: every pixel is white, so nothing is left for the background. "
            "A mask is white on the object and black elsewhere."
        )
    return mask


def _to_tensor(source: ImageLike, *, who: str) -> tuple[Tensor, str]:
    """`(1, 1 or 3, h, w)` float32 in [0, 1], and what to call it in messages."""
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        return _from_picture(open_picture(path, who=who), name=f"{who} {path}"), f"{who} {path}"
    if isinstance(source, Image.Image):
        return _from_picture(source, name=who), who
    if isinstance(source, np.ndarray):
        try:
            values = torch.from_numpy(np.array(source, order="C"))  # a copy: it may be read-only
        except TypeError:
            raise ShapeError(
                f"{who}: expected uint8 in 0–255, floats in [0, 1] or booleans, got an array of "
                f"{source.dtype}."
            ) from None
        return _from_array(values, who=who, hwc=True), who
    if isinstance(source, Tensor):
        return _from_array(source.detach().cpu(), who=who, hwc=False), who
    raise InputError(
        f"{who}: expected a path, a PIL image, an array or a tensor, got {type(source).__name__}."
    )


_UNREADABLE: Final = (
    OSError, SyntaxError, ValueError, LookupError, TypeError, OverflowError, MemoryError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow raises for damaged files, according to their format."""


@contextmanager
def _quietly() -> Iterator[None]:
    """Pillow warns of damage that does not keep it from reading the picture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_picture(path: Path, *, who: str) -> Image.Image:
    """A picture file, decoded.

    Raises:
        InputError: Missing, a folder, or damaged.
    """
    try:
        with _quietly(), Image.open(path) as picture:
            picture.load()
            return picture
    except FileNotFoundError:
        raise InputError(f"{who} {path}: no such file.") from None
    except IsADirectoryError:
        raise InputError(f"{who} {path}: is a folder; expected a picture.") from None
    except _UNREADABLE as error:
        raise InputError(f"{who} {path}: cannot be read as a picture ({error}).") from None


def _from_picture(picture: Image.Image, *, name: str) -> Tensor:
    try:
        with _quietly():
            picture = ImageOps.exif_transpose(picture)
    except _UNREADABLE:
        picture = picture.copy()  # a broken EXIF block says nothing about orientation
    # Pillow converts deep greys to RGB by cutting at 255, so they are scaled here.
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, dtype=np.float64)
        top = 65535.0 if picture.mode.startswith("I") else 1.0
        # Mode I does not tell its depth: values that fit into 8 bits are taken for such.
        if picture.mode == "I" and values.max(initial=0) <= 255:
            top = 255.0
        if not np.isfinite(values).all():
            raise InputError(f"{name}: has pixels that are not finite numbers.")
        scaled = torch.from_numpy((values / top).clip(0, 1).astype(np.float32))
        return scaled[None, None]
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        picture = Image.alpha_composite(white, rgba)
    values8 = np.array(picture.convert("RGB"))
    return torch.from_numpy(values8).permute(2, 0, 1)[None].float() / 255


def _from_array(values: Tensor, *, who: str, hwc: bool) -> Tensor:
    shape = tuple(values.shape)
    if values.dtype in (torch.uint8, torch.bool):
        values = values.float() / (255 if values.dtype == torch.uint8 else 1)
    elif not values.is_floating_point():
        raise ShapeError(
            f"{who}: expected uint8 in 0–255, floats in [0, 1] or booleans, got {values.dtype}."
        )
    values = values.float()
    if values.ndim == 4 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 2:
        values = values[None]
    channels = (1, 3)
    if values.ndim == 3 and hwc and values.shape[-1] in (1, 3, 4):
        values = values[..., :3].permute(2, 0, 1)
    if values.ndim != 3 or values.shape[0] not in channels or not values.numel():
        wanted = "(h, w, 3), (3, h, w) or (h, w)" if hwc else "(3, h, w), (1, 3, h, w) or (h, w)"
        raise ShapeError(f"{who}: expected shape {wanted}, got {shape}.")
    if not values.isfinite().all():
        bad = int((~values.isfinite()).sum())
        raise InputError(
            f"{who}: has {bad} value{'s' if bad > 1 else ''} that are NaN or infinite; "
            "expected floats in [0, 1]."
        )
    low, high = values.min().item(), values.max().item()
    # A little beyond is rounding, as resizing leaves it; more is another range.
    if low < -1e-6 or high > 1 + 1e-6:
        raise InputError(
            f"{who}: expected floats in [0, 1], got values from {low:.4g} to {high:.4g}. "
            "Divide by 255, or undo a normalisation, first."
        )
    return values.clamp(0, 1)[None]
