"""The units in which pixel values are counted."""

from __future__ import annotations

from typing import Literal

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
    mean = image.new_tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1)
    std = image.new_tensor(IMAGENET_STD).reshape(1, 3, 1, 1)
    return (image - mean) / std


def from_space(pixels: Float[Tensor, "b 3 h w"], space: Space) -> Float[Tensor, "b 3 h w"]:
    """The inverse of `in_space`."""
    if space == "unit":
        return pixels
    mean = pixels.new_tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1)
    std = pixels.new_tensor(IMAGENET_STD).reshape(1, 3, 1, 1)
    return pixels * std + mean


def valid_range(like: Tensor, space: Space) -> tuple[Tensor, Tensor]:
    """Lowest and highest valid value, broadcastable to `(b, 3, h, w)`."""
    zero, one = like.new_zeros(1, 3, 1, 1), like.new_ones(1, 3, 1, 1)
    return in_space(zero, space), in_space(one, space)
