"""What a recipe may ask to be given: the kinds of inputs, in words. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, final

KindWord = Literal["image", "images", "mask", "masks", "labels", "words", "tensor", "latent"]
"""`image`: a photograph. `images`: several. `mask`: white on an object of an image. `masks`:
several of one image. `labels`: a class at every pixel of an image. `words`: names, such as of
classes. `tensor`: numbers of any shape. `latent`: a row of a generator's
latent."""

COVERING: Final = ("mask", "masks", "labels")
"""Kinds that lie on an image, pixel by pixel."""


@final
@dataclass(frozen=True, slots=True)
class InputSpec:
    """What one input of a recipe is.

    Args:
        kind: See `KindWord`.
        of: Name of the image that a mask or a label map lies on.
        optional: A run may do without it.
    """

    kind: KindWord = "image"
    of: str = ""
    optional: bool = False


SHORT: Final[Mapping[str, InputSpec]] = MappingProxyType(
    {
        "image": InputSpec("image"),
        "mask": InputSpec("mask", of="image"),
        "target": InputSpec("mask", of="image"),
    }
)
"""What the names in a page's short list of inputs stand for."""


def lead(specs: Mapping[str, InputSpec]) -> str:
    """The first image among the inputs, with which results are compared; empty if there is none.

    Example:
        >>> lead({"layout": InputSpec("labels"), "photo": InputSpec(), "style": InputSpec()})
        'photo'
    """
    return next((name for name, spec in specs.items() if spec.kind == "image"), "")
