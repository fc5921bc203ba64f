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
    """An image in [0, 1] in the units of `space`.

    Args:
        image: In [0, 1].
        space: The units.

    Example:
        >>> in_space(torch.zeros(1, 3, 1, 1), "imagenet").flatten()
        tensor([-2.1179, -2.0357, -1.8044])
    """
    if space == "unit":
        return image
    return (image - per_channel(IMAGENET_MEAN, image)) / per_channel(IMAGENET_STD, image)


def from_space(pixels: Float[Tensor, "b 3 h w"], space: Space) -> Float[Tensor, "b 3 h w"]:
    """An image in [0, 1] from one in the units of `space`: the inverse of `in_space`.

    Args:
        pixels: In the units of `space`; what is beyond its valid range leaves [0, 1] too.
        space: The units.

    Example:
        >>> from_space(torch.zeros(1, 3, 1, 1), "imagenet").flatten()
        tensor([0.4850, 0.4560, 0.4060])
    """
    if space == "unit":
        return pixels
    return pixels * per_channel(IMAGENET_STD, pixels) + per_channel(IMAGENET_MEAN, pixels)


def valid_range(like: Tensor, space: Space) -> tuple[Tensor, Tensor]:
    """Lowest and highest valid value of every channel, each `(1, 3, 1, 1)`.

    Args:
        like: Of the precision and on the device that is wanted.
        space: The units.

    Example:
        >>> low, high = valid_range(torch.zeros(()), "unit")
        >>> low.unique(), high.unique()
        (tensor([0.]), tensor([1.]))
    """
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
    """Constants in the precision and on the device of `like`; moved there once, then kept.

    A step must not copy to a device: the copy would wait for what is under way there, and a
    recorded step could not hold it.

    Args:
        values: One a channel.
        like: Any tensor.

    Example:
        >>> per_channel([0.5, 0.25], torch.zeros(())).shape
        torch.Size([1, 2, 1, 1])
    """
    return _constants(tuple(values), like.dtype, like.device)


@lru_cache(maxsize=64)
def _constants(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # What is kept must serve autograd later, whoever asks first.
    with torch.inference_mode(mode=False):
        return torch.tensor(values, dtype=dtype, device=device).reshape(1, -1, 1, 1)
