"""Masks: where an object is, from whatever shows it.

A mask is `(1, 1, h, w)` with 1 on the object. Files show it by brightness, by transparency, or as
one class of several.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.load import ImageLike
from invertkit.core.images.pixels import Pixels, pixels_of
from invertkit.core.log import warn
from invertkit.core.suggestions import conjoined
from invertkit.errors import InputError

GREY_SHARE: Final = 0.05
"""A mask may have this share of its pixels between 10 % and 90 % white: soft edges, JPEG."""

_CONTRAST: Final = 0.25
"""Levels nearer to each other than this share of white are two only where nothing lies between."""

_MOST_CLASSES: Final = 64
_BORDER: Final = 0.75
_RULE: Final = "A mask is white on the object and black elsewhere"


def load_mask(
    source: ImageLike, *, who: str = "mask", alone: bool = True
) -> Float[Tensor, "1 1 h w"]:
    """A binary mask, 1 on the object.

    Of two levels the brighter one is the object, whatever they are: 0 and 255, 0 and 1, two
    colours. Between the levels of soft edges it is cut at one half. Where transparency has a
    shape, as in paint on an empty layer or an object cut out, what is opaque is the object. Of a
    map of classes one is taken by its number: `labels.png#1` is a palette's index, or the value of
    a grey picture.

    Args:
        source: See `ImageLike`; a path may end in `#` and a class.
        who: What to call it in messages.
        alone: Whether it is no mask of several: among these one may well be the background.

    Raises:
        InputError: Missing, unreadable, grey, empty or full, with several classes, or with a shape
            both in its colours and in its transparency.
        ShapeError: An array or tensor of another shape or type.

    Example:
        >>> load_mask(np.eye(2, dtype=np.uint8))[0, 0]
        tensor([[1., 0.],
                [0., 1.]])
    """
    source, number = class_of(source)
    pixels = pixels_of(source, who=who, stored=True)
    if number is not None:
        inside = _class(pixels, number)
    elif pixels.alpha is not None and _has_shape(pixels.alpha):
        inside = _opaque(pixels, pixels.alpha)
    else:
        inside = _bright(pixels)
    if inside.all():
        _refuse_level(1, 1, pixels.name)
    if alone:
        _warn_if_inverted(inside, pixels.name)
    return torch.from_numpy(inside.astype(np.float32))[None, None]


def class_of(source: Any) -> tuple[Any, int | None]:
    """A path without the class at its end, and the class; a file may be called so itself.

    Example:
        >>> class_of("labels.png#3"), class_of("labels.png")
        (('labels.png', 3), ('labels.png', None))
    """
    if not isinstance(source, str | os.PathLike):
        return source, None
    found = re.fullmatch(r"(.+)#(\d+)", os.fspath(source))
    if found is None or Path(source).expanduser().exists():
        return source, None
    return type(source)(found[1]) if isinstance(source, Path) else found[1], int(found[2])


def _class(pixels: Pixels, number: int) -> np.ndarray:
    """Where a map of classes has one of them."""
    if pixels.classes is None:
        raise InputError(
            f"{pixels.name}: is a picture in colours, so it has no class {number}; a map of "
            "classes is a palette picture or a grey one."
        )
    inside: np.ndarray = pixels.classes == number
    if not inside.any():
        raise InputError(
            f"{pixels.name}: has no pixel of class {number}; its classes: "
            f"{_numbers(np.unique(pixels.classes))}."
        )
    return inside


def _has_shape(alpha: np.ndarray) -> bool:
    """Whether some pixels are rather opaque and others rather not."""
    return bool((alpha > 0.5).any()) and bool((alpha <= 0.5).any())


def _opaque(pixels: Pixels, alpha: np.ndarray) -> np.ndarray:
    """The shape of the transparency.

    Raises:
        InputError: The colours that are seen make another shape.
    """
    inside: np.ndarray = alpha > 0.5
    seen = _grey(pixels)[inside]
    low, high = float(seen.min()), float(seen.max())
    top = pixels.top or max(high, 1.0)
    # The dark or bright seam of paint has levels in between; black beside white has none.
    apart = low <= _CONTRAST * top and high >= (1 - _CONTRAST) * top
    if apart and _share_between(seen, low, high) <= GREY_SHARE:
        raise InputError(
            f"{pixels.name}: has a shape in its transparency, and another in its colours, black "
            "and white where it is opaque; which is the mask? Save it without transparency, or in "
            "a single colour."
        )
    share = ((alpha > 0.1) & (alpha < 0.9)).mean()
    if share > GREY_SHARE:
        raise InputError(
            f"{pixels.name}: is not binary: {share:.0%} of its pixels are partly transparent. A "
            "mask is opaque on the object and transparent elsewhere, or white and black."
        )
    return inside


def _bright(pixels: Pixels) -> np.ndarray:
    """The brighter of two levels.

    Raises:
        InputError: There are more levels, or one alone.
    """
    grey = _grey(pixels)
    if pixels.top == 1 and grey.max() > 1 + 1e-6:
        pixels = Pixels(pixels.name, pixels.values, float(grey.max()))
    levels, counts = np.unique(grey, return_counts=True)
    low, high = float(levels[0]), float(levels[-1])
    top = pixels.top or max(abs(low), abs(high), 1.0)
    if len(levels) == 1:
        _refuse_level(high, top, pixels.name)
    has_contrast = high - low >= _CONTRAST * top
    if len(levels) == 2 and (has_contrast or not pixels.is_lossy):
        return np.asarray(grey == high)
    share = _share_between(grey, low, high)
    few = len(levels) <= _MOST_CLASSES and not pixels.is_lossy
    if pixels.classes is not None and (
        (few and (not has_contrast or _are_classes(levels, counts))) or _is_coloured_palette(pixels)
    ):
        values = np.unique(pixels.classes)
        raise InputError(
            f"{pixels.name}: is not binary: it has the values {_numbers(values)}. Of a map of "
            f"classes name the object's, as in `labels.png#{values[-1]:d}` (from Python an array: "
            f"`labels == {values[-1]:d}`)."
        )
    if not has_contrast:
        raise InputError(
            f"{pixels.name}: has hardly any contrast: its greys go from {low / top:.0%} to "
            f"{high / top:.0%} of white. {_RULE}."
        )
    if share > GREY_SHARE:
        raise InputError(
            f"{pixels.name}: is not binary: {share:.0%} of its pixels are grey. {_RULE}; threshold "
            "it first."
        )
    return np.asarray(grey - low > (high - low) / 2)


def _refuse_level(level: float, top: float, name: str) -> NoReturn:
    """Say what a picture is that has one level alone."""
    share = level / top
    if share <= 0:
        raise InputError(f"{name}: is empty: no pixel is white. {_RULE}.")
    if share > 0.9:
        raise InputError(
            f"{name}: is full: every pixel is white, so nothing is left for the background. "
            f"{_RULE}."
        )
    if share >= 0.1:
        raise InputError(
            f"{name}: is not binary: 100% of its pixels are grey. {_RULE}; threshold it first."
        )
    raise InputError(f"{name}: has one value alone, {level:g}, and no object beside it. {_RULE}.")


def _grey(pixels: Pixels) -> np.ndarray:
    """Brightness by Rec. 601, in the unit of the values; whole numbers stay exact."""
    values = pixels.values
    if values.shape[-1] == 1:
        return values[..., 0] if values.dtype != bool else values[..., 0].astype(np.uint8)
    red, green, blue = np.moveaxis(values.astype(np.float64), -1, 0)
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return np.asarray(red)
    grey: np.ndarray = (299 * red + 587 * green + 114 * blue) / 1000
    return grey


def _share_between(grey: np.ndarray, low: float, high: float) -> float:
    """The share of pixels that is neither nearly the one nor nearly the other."""
    if high <= low:
        return 1.0
    place = (grey - low) / (high - low)
    return float(((place > 0.1) & (place < 0.9)).mean())


def _are_classes(levels: np.ndarray, counts: np.ndarray) -> bool:
    """Whether more than two levels look like numbers of classes rather than like soft edges.

    Edges lie between the two levels that most pixels have. Classes are numbered without gaps, or
    one of them is commoner than the brightest: in a segmentation with the value 255 for "nobody
    knows", that would be taken for the object.
    """
    numbered = levels[levels < 255]
    if len(numbered) > 1 and np.array_equal(numbered, np.arange(len(numbered))):
        return True
    common = set(levels[np.argsort(counts)[-2:]].tolist())
    return common != {levels[0], levels[-1]}


def _is_coloured_palette(pixels: Pixels) -> bool:
    """Whether it has more than two indices, and colours that are no greys."""
    if pixels.classes is None or pixels.values.shape[-1] == 1:
        return False
    used = np.unique(pixels.classes)
    has_colours = not (pixels.values == pixels.values[..., :1]).all()
    return 2 < len(used) <= _MOST_CLASSES and has_colours


def _numbers(values: np.ndarray) -> str:
    """The first of them, in words."""
    words = [str(int(value)) for value in values]
    return conjoined(words if len(words) <= 12 else [*words[:10], "…", words[-1]])


def _warn_if_inverted(inside: np.ndarray, name: str) -> None:
    """Objects rarely cover most of a picture and of its border."""
    covered = float(inside.mean())
    border = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
    if covered > 0.5 and border.mean() >= _BORDER:
        warn(
            f"{name}: covers {covered:.0%} of the picture, its border too, so it is likely "
            f"inverted. {_RULE}."
        )
