"""How input gradients are measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final, get_args

from invertkit.core.images.load import Fit
from invertkit.errors import InputError


@final
@dataclass(frozen=True, kw_only=True)
class GradientSettings:
    """How input gradients are measured; each may be given to `gradients` by name.

    Args:
        label: Class whose cross-entropy is taken: a name, a number, or `predicted` for each
            classifier's own most likely class. By default the class of the photograph's folder in
            `data`, where every classifier knows that name, and otherwise `predicted`.
        size: Side in pixels at which photographs are shown to the classifiers; by default each
            classifier's own.
        fit: `crop` the central square, `stretch` to the square, or `keep` the shape.
        cutoff: Of `low_frequency_share`, in units of the Nyquist frequency.
        blur: Of `edge_alignment` and `orientation_agreement`, in pixels.
        batch: Photographs side by side.

    Raises:
        InputError: A number is out of range, or the fit unknown.

    Example:
        >>> GradientSettings(size=64).cutoff
        0.25
        >>> GradientSettings(blur=-1)
        Traceback (most recent call last):
        invertkit.errors.InputError: blur: expected 0 pixels or more, got -1.
    """

    label: str | int | None = None
    size: int | None = None
    fit: Fit = "crop"
    cutoff: float = 0.25
    blur: float = 1.0
    batch: int = 16

    def __post_init__(self) -> None:
        check_least(size=(self.size, 8), batch=(self.batch, 1))
        if not 0 < self.cutoff <= math.sqrt(2):
            raise InputError(
                "cutoff: expected above 0 and at most √2 of the Nyquist frequency, got "
                f"{self.cutoff:g}."
            )
        if not 0 <= self.blur < math.inf:
            raise InputError(f"blur: expected 0 pixels or more, got {self.blur:g}.")
        if self.fit not in get_args(Fit):
            raise InputError(f"fit: expected {', '.join(get_args(Fit))}, got {self.fit!r}.")

    def size_for(self, native: int) -> int:
        """Side in pixels for a classifier that was made for `native` pixels."""
        return self.size or native


def check_least(**numbers: tuple[int | None, int]) -> None:
    """Complain of a number below the least that it may be.

    Args:
        numbers: By name, each with its least value; None is left alone.

    Raises:
        InputError: One is smaller.

    Example:
        >>> check_least(every=(2, 1), limit=(None, 1))
    """
    for name, (value, least) in numbers.items():
        if value is not None and value < least:
            raise InputError(f"{name}: expected at least {least}, got {value}.")
