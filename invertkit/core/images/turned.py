"""Photographs that a camera says are turned, and masks drawn over them as they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from torch import Tensor

from invertkit.core.images.decode import orientation_of
from invertkit.core.images.kinds import Value
from invertkit.core.images.masks import class_of
from invertkit.core.images.specs import COVERING, InputSpec
from invertkit.core.log import warn
from invertkit.errors import InputError

_WORDS: Final = {
    2: "mirrored left to right",
    3: "turned by 180°",
    4: "mirrored top to bottom",
    5: "turned by 90° clockwise and mirrored left to right",
    6: "turned by 90° clockwise",
    7: "turned by 90° anticlockwise and mirrored left to right",
    8: "turned by 90° anticlockwise",
}
"""What brings a picture upright, by its EXIF orientation."""


def check_turned(
    given: Mapping[str, Any], values: Mapping[str, Value], specs: Mapping[str, InputSpec]
) -> None:
    """Whether masks were drawn over the pixels of a photograph before it is turned.

    Where the sides tell it, it is refused. Where they cannot, since the turn keeps them, and the
    mask says nothing of a turn itself, it is told.

    Args:
        given: What the user gave, by name.
        values: The same, read.
        specs: What each is.

    Raises:
        InputError: One was.
    """
    for name, value in values.items():
        spec = specs[name]
        image = values.get(spec.of)
        if spec.kind not in COVERING or not isinstance(image, Tensor):
            continue
        turn = orientation_of(given[spec.of])
        if turn == 1:
            continue
        height, width = image.shape[-2:]
        for layer, source in _layers(value, given[name]):
            same = layer.shape[-2:] == (height, width)
            what = f"the {spec.of} is shown {_WORDS[turn]}, by its EXIF orientation"
            if not same and layer.shape[-2:] == (width, height):
                raise InputError(
                    f"{name}: is {height}×{width} pixels, and {what}, {width}×{height}: it seems "
                    f"drawn over the pixels as they are stored. It needs to be {_WORDS[turn]} too."
                )
            if same and (turn < 5 or height == width) and orientation_of(source) != turn:
                warn(
                    f"{name}: {what}. If the mask was drawn over the pixels as they are stored, it "
                    f"needs to be {_WORDS[turn]} too."
                )


def _layers(value: Value, source: Any) -> Iterator[tuple[Tensor, Any]]:
    """Each mask of an input, and what it was read from where that can be told."""
    if isinstance(value, Tensor):
        yield value, class_of(source)[0]
        return
    sources = source if isinstance(source, list | tuple) else [None] * len(value)
    yield from zip(value, sources, strict=True)
