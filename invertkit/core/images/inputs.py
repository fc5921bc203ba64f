"""What a run is given, at full size and at a stage's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.load import (
    Fit,
)
from invertkit.core.images.resize import resize_image, resize_mask
from invertkit.errors import InputError


@final
@dataclass(frozen=True)
class Inputs:
    """What a run is given, at full size.

    Args:
        image: The photograph, or None.
        mask: Where its object is, or None.
        target: Where it shall be, or None.
        name: What to call it among others.
    """

    image: Float[Tensor, "1 3 h w"] | None = None
    mask: Float[Tensor, "1 1 h w"] | None = None
    target: Float[Tensor, "1 1 h w"] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.image is None:
            return
        height, width = self.image.shape[-2:]
        for name, mask in (("mask", self.mask), ("target", self.target)):
            if mask is not None and mask.shape[-2:] != (height, width):
                raise InputError(
                    f"{name}: is {mask.shape[-1]}×{mask.shape[-2]} pixels, the image is "
                    f"{width}×{height}. A mask covers its image pixel by pixel; resize it to "
                    f"{width}×{height}."
                )

    def size(self, side: int, fit: Fit) -> tuple[int, int]:
        """Height and width of a stage of `side` pixels.

        With `keep`, the shape of the photograph and as many pixels as `side`×`side`.
        """
        if fit != "keep" or self.image is None:
            return side, side
        root = math.sqrt(self.image.shape[-2] / self.image.shape[-1])
        return max(1, round(side * root)), max(1, round(side / root))

    def at(self, size: tuple[int, int], fit: Fit) -> Inputs:
        """The same at a stage's size: images bilinear, masks by area and cut at one half."""

        def cut(values: Tensor) -> Tensor:
            if fit != "crop":
                return values
            side = min(values.shape[-2:])
            top, left = (values.shape[-2] - side) // 2, (values.shape[-1] - side) // 2
            return values[..., top : top + side, left : left + side]

        def fitted(mask: Tensor | None) -> Tensor | None:
            return None if mask is None else (resize_mask(cut(mask), size) > 0.5).to(mask)

        image = None if self.image is None else resize_image(cut(self.image), size)
        return Inputs(image, fitted(self.mask), fitted(self.target), self.name)

    def save(self) -> dict[str, Any]:
        """All of it, for `load`; what came from 8 bits goes back to them."""
        tensors = {"image": self.image, "mask": self.mask, "target": self.target}
        return {**{kind: _packed(tensor) for kind, tensor in tensors.items()}, "name": self.name}

    @classmethod
    def load(cls, saved: Mapping[str, Any]) -> Inputs:
        """What `save` saw, bit for bit."""
        image, mask, target = (_unpacked(saved[kind]) for kind in ("image", "mask", "target"))
        return cls(image, mask, target, saved["name"])


def _packed(tensor: Tensor | None) -> Tensor | None:
    if tensor is None:
        return None
    bytes_ = (tensor * 255).round().to(torch.uint8)
    return bytes_ if torch.equal(bytes_.to(tensor.dtype) / 255, tensor) else tensor


def _unpacked(tensor: Tensor | None) -> Tensor | None:
    return tensor.float() / 255 if tensor is not None and tensor.dtype == torch.uint8 else tensor
