"""Photographs: from whatever the user has to tensors in [0, 1], or to 8 bits.

Images are `(b, 3, h, w)`, RGB, float32 in [0, 1]. Runs, trainings, gradients and ablations all
read their pictures here.
"""

from __future__ import annotations

import os
from typing import IO, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from invertkit.core.images.decode import decoded, upright
from invertkit.core.images.pixels import Pixels, pixels_of
from invertkit.core.images.save import to_picture
from invertkit.core.log import warn
from invertkit.errors import InputError

ImageLike = str | os.PathLike[str] | bytes | IO[bytes] | Image.Image | np.ndarray | Tensor
"""A path, the bytes of a file, a file object, a PIL image, an array (h, w, 3) or (3, h, w), or a
tensor (3, h, w) or (1, 3, h, w).

Arrays and tensors are uint8 in 0–255 or floats in [0, 1]; a fourth channel is transparency.
"""

Fit = Literal["stretch", "crop", "keep"]

SMALLEST = 16
"""Shortest side of a photograph, in pixels: below it there is nothing to invert."""


def load_image(source: ImageLike, *, who: str = "image") -> Float[Tensor, "1 3 h w"]:
    """A photograph as a tensor in [0, 1].

    Files may be in any mode: palette, grey, CMYK, Lab and 16-bit are converted, colours follow
    the ICC profile, transparency is laid on white, and the EXIF orientation is applied.

    Args:
        source: See `ImageLike`.
        who: What to call it in messages.

    Raises:
        InputError: Missing, unreadable, a URL, too small, or with pixels that are NaN or out of
            range.
        ShapeError: An array or tensor of another shape or type.

    Example:
        >>> load_image(Image.new("RGB", (20, 16), "white")).shape
        torch.Size([1, 3, 16, 20])
    """
    pixels = pixels_of(source, who=who)
    image = _on_white(pixels)
    if pixels.note:
        warn(pixels.note)
    height, width = image.shape[-2:]
    if min(height, width) < SMALLEST:
        raise InputError(
            f"{pixels.name}: is {width}×{height} pixels; a photograph needs at least "
            f"{SMALLEST}×{SMALLEST}. Give a larger one."
        )
    return image.expand(-1, 3, -1, -1).contiguous()


def load_8_bits(source: ImageLike, *, who: str = "image") -> tuple[Image.Image, str]:
    """A photograph as a PIL picture, RGB of 8 bits, by the rules of `load_image`, of any size.

    Args:
        source: See `ImageLike`.
        who: What to call it in messages.

    Returns:
        The picture, and what to tell the user about how it was read.

    Raises:
        InputError: See `load_image`.
        ShapeError: See `load_image`.

    Example:
        >>> load_8_bits(np.ones((4, 5)))[0].getpixel((0, 0))
        (255, 255, 255)
    """
    if isinstance(source, np.ndarray | Tensor):
        pixels = pixels_of(source, who=who)
    else:
        picture, name = decoded(source, who=who)
        # Nearly all photographs of a large training are such, and are read again every epoch.
        if picture.mode == "RGB" and not picture.info.keys() & {"icc_profile", "transparency"}:
            return upright(picture), ""
        pixels = pixels_of(picture, who=name)
    if pixels.values.dtype == np.uint8 and pixels.alpha is None:
        return Image.fromarray(np.broadcast_to(pixels.values, (*pixels.values.shape[:2], 3))), ""
    return to_picture(_on_white(pixels)[0].expand(3, -1, -1)), pixels.note


def _on_white(pixels: Pixels) -> Float[Tensor, "1 c h w"]:
    """In [0, 1], transparency on white.

    Raises:
        InputError: There are numbers out of range.
    """
    values = pixels.values
    if values.dtype == np.uint8:
        image = torch.from_numpy(values).permute(2, 0, 1)[None].float() / 255
    else:
        low, high = float(values.min()), float(values.max())
        top = pixels.top
        # A little beyond is rounding, as resizing leaves it; more is another range.
        if low < -1e-6 * top or high > top * (1 + 1e-6):
            expected = "floats in [0, 1]" if top == 1 else f"whole numbers from 0 to {top:.0f}"
            advice = "Divide by 255, or undo a normalisation" if top == 1 else "Scale them"
            raise InputError(
                f"{pixels.name}: expected {expected}, got values from {low:.4g} to {high:.4g}. "
                f"{advice}, first."
            )
        scaled = (values / top).clip(0, 1).astype(np.float32)
        image = torch.from_numpy(scaled).permute(2, 0, 1)[None]
    if pixels.alpha is not None:
        alpha = torch.from_numpy(pixels.alpha)
        image = image * alpha + (1 - alpha)
    return image.clamp(0, 1)
