"""What an edit changes, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from invertkit.apps.editing.directions import (
    Steering,
)
from invertkit.errors import InputError
from invertkit.models.generators.generator import Generator

COMPONENTS: Final = 16
"""How many principal components there are to choose from."""


@final
@dataclass(frozen=True)
class Change:
    """What is changed at strength 1.

    Args:
        label: The new class, by name or number.
        components: Steps along principal components, by number.
        shift: To the right and down, in sides of the generator's picture.
        zoom: How much larger.
    """

    label: str | int | None = None
    components: Mapping[int, float] | None = None
    shift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0

    @property
    def words(self) -> list[str]:
        """Each of its parts; none if nothing changes."""
        found = [] if self.label is None else [f"class {self.label}"]
        for number, amount in (self.components or {}).items():
            found.append(f"component {number}:{amount:g}")
        if self.shift != (0, 0):
            found.append(f"shift {self.shift[0]:g},{self.shift[1]:g}")
        return found if self.zoom == 1 else [*found, f"zoom {self.zoom:g}"]

    def walks(self) -> dict[Steering, float]:
        """How far to go along each learned direction."""
        wanted: dict[Steering, float] = {
            "shift_x": self.shift[0],
            "shift_y": self.shift[1],
            "zoom": math.log(self.zoom),
        }
        return {name: amount for name, amount in wanted.items() if amount}


def _strengths(strength: float | Sequence[float]) -> tuple[float, ...]:
    values = (strength,) if isinstance(strength, int | float) else tuple(strength)
    if not values or not all(math.isfinite(value) for value in values):
        raise InputError(f"strength: expected a finite number or several, got {strength!r}.")
    return tuple(float(value) for value in values)


def _check(change: Change, strengths: tuple[float, ...]) -> None:
    if not change.words and strengths != (1.0,):
        raise InputError(
            "strength: there is nothing to edit. Give a class, a component, a shift or a zoom; "
            "without any, the projection itself is blended in, which has no strength."
        )
    if not math.isfinite(change.zoom) or change.zoom <= 0:
        raise InputError(f"zoom: expected a factor above 0, such as 1.2, got {change.zoom:g}.")
    if len(change.shift) != 2 or not all(math.isfinite(value) for value in change.shift):
        raise InputError(f"shift: expected two finite numbers, got {change.shift}.")


def _known(change: Change, generator: Generator) -> Change:
    """The change, with the class by its name.

    Raises:
        InputError: The generator has no such class or component.
    """
    count = min(COMPONENTS, generator.latent)
    for number, amount in (change.components or {}).items():
        if not 0 <= number < count:
            raise InputError(f"component: expected 0 to {count - 1}, got {number}.")
        if not math.isfinite(amount):
            raise InputError(f"component: expected a finite amount, got {amount}.")
    if change.label is None:
        return change
    known = generator.classes[generator.label(change.label)]
    return Change(known, change.components, change.shift, change.zoom)
