"""Transforms one after another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.resize import resize_image, resize_mask
from invertkit.errors import InputError
from invertkit.variables.base import Size
from invertkit.variables.transforms.base import Range, Transform


@final
@dataclass(frozen=True)
class Composition(Transform):
    """Several transforms, one after the other; undone in reverse, the last first.

    The released code undoes them in the order in which it applies them, which is wrong as soon as
    two do not commute, as contrast and a brightness offset do not.

    Parameters are those of the parts, side by side. `inverse` gives each part the inverse of its
    own; they belong to the reversed composition, so call `invert` and not `apply` with them. The
    first part that moves pixels brings the image to its new size; colours before it act at full
    size. The paper's T = spatial ∘ colour has the colour first; its inverse then recolours the 0
    beyond a moved image's edge as well, so composite by `coverage * image`.

    Args:
        parts: In the order of application.

    Raises:
        InputError: There are no parts.

    Example:
        >>> from invertkit.variables.transforms.colour import Brightness, Contrast
        >>> both = Composition([Brightness(), Contrast()])
        >>> both.names
        ('brightness', 'contrast')
        >>> grey, parameters = torch.full((1, 3, 1, 1), 0.5), torch.tensor([[1.2, 2.0]])
        >>> there = both.apply(grey, parameters, (1, 1))
        >>> there.flatten().tolist(), both.invert(there, parameters, (1, 1)).flatten().tolist()
        ([0.7000000476837158, 0.7000000476837158, 0.7000000476837158], [0.5, 0.5, 0.5])
    """

    parts: Sequence[Transform]

    def __post_init__(self) -> None:
        if not self.parts:
            raise InputError("A composition needs at least one transform; give it some `parts`.")
        object.__setattr__(self, "parts", tuple(self.parts))

    @property
    def moves_pixels(self) -> bool:
        return any(part.moves_pixels for part in self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(chain.from_iterable(part.names for part in self.parts))

    @property
    def ranges(self) -> tuple[Range, ...]:
        return tuple(chain.from_iterable(part.ranges for part in self.parts))

    def identity(self) -> Float[Tensor, " size"]:
        return torch.cat([part.identity() for part in self.parts])

    def inverse(self, parameters: Float[Tensor, "b size"]) -> Float[Tensor, "b size"]:
        return torch.cat([part.inverse(values) for part, values in self._each(parameters)], 1)

    def apply(
        self, images: Float[Tensor, "#b c h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "b c h2 w2"]:
        # A part that only colours keeps the size, so that the resampling is left to one that moves.
        for part, values in self._each(parameters):
            images = part.apply(images, values, _size_after(part, images, out))
        return resize_image(images, out)

    def invert(
        self, images: Float[Tensor, "#b c h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "b c h2 w2"]:
        for part, values in reversed([*self._each(parameters)]):
            images = part.invert(images, values, _size_after(part, images, out))
        return resize_image(images, out)

    def weights(
        self, masks: Float[Tensor, "#b 1 h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "#b 1 h2 w2"]:
        for part, values in self._each(parameters):
            masks = part.weights(masks, values, _size_after(part, masks, out))
        return resize_mask(masks, out)

    def invert_weights(
        self, masks: Float[Tensor, "#b 1 h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "#b 1 h2 w2"]:
        for part, values in reversed([*self._each(parameters)]):
            masks = part.invert_weights(masks, values, _size_after(part, masks, out))
        return resize_mask(masks, out)

    def _each(self, parameters: Float[Tensor, "b size"]) -> Iterator[tuple[Transform, Tensor]]:
        values = self.clamp(parameters).split([part.size for part in self.parts], 1)
        return zip(self.parts, values, strict=True)


def _size_after(part: Transform, images: Tensor, out: Size) -> Size:
    height, width = images.shape[-2:]
    return out if part.moves_pixels else (height, width)
