"""The units in which pixel values are counted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Space = Literal["unit", "imagenet"]
"""Units of pixel values: [0, 1], or ImageNet-normalised, (value - mean) / std per channel."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def in_space(image: Float[Tensor, "b 3 h w"], space: Space) -> Float[Tensor, "b 3 h w"]:
    """An image in [0, 1] in the units of `space`."""
    if space == "unit":
        return image
    return (image - per_channel(IMAGENET_MEAN, image)) / per_channel(IMAGENET_STD, image)


def from_space(pixels: Float[Tensor, "b 3 h w"], space: Space) -> Float[Tensor, "b 3 h w"]:
    """The inverse of `in_space`."""
    if space == "unit":
        return pixels
    return pixels * per_channel(IMAGENET_STD, pixels) + per_channel(IMAGENET_MEAN, pixels)


def valid_range(like: Tensor, space: Space) -> tuple[Tensor, Tensor]:
    """Lowest and highest valid value, broadcastable to `(b, 3, h, w)`."""
    zero, one = like.new_zeros(1, 3, 1, 1), like.new_ones(1, 3, 1, 1)
    return in_space(zero, space), in_space(one, space)


@torch.no_grad()
def clip_pixels(pixels: Float[Tensor, "b 3 h w"], space: Space) -> None:
    """Bring pixels back, in place, into the range of valid images.

    Args:
        pixels: In the units of `space`.
        space: Where they are valid from 0 to 1, or in channel c from -mean/std to (1 - mean)/std.

    Example:
        >>> pixels = torch.tensor([-1.0, 0.5, 2.0]).reshape(1, 3, 1, 1)
        >>> clip_pixels(pixels, "unit")
        >>> pixels.flatten().tolist()
        [0.0, 0.5, 1.0]
    """
    low, high = valid_range(pixels, space)
    pixels.copy_(torch.minimum(torch.maximum(pixels, low), high))


def per_channel(values: Sequence[float], like: Tensor) -> Float[Tensor, "1 c 1 1"]:
    """Constants in the precision and on the device of `like`; moved there once, then kept."""
    return _constants(tuple(values), like.dtype, like.device)


@lru_cache(maxsize=64)
def _constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):  # what is kept must serve autograd later
        return torch.tensor(values, dtype=dtype, device=device).reshape(1, -1, 1, 1)
