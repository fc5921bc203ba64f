"""What an edit changes, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

from invertkit.apps.editing.directions import Steering
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

    Raises:
        InputError: The zoom is not above 0, or a number is not finite.

    Example:
        >>> Change(label="bird", components={2: -1.5}, shift=(0.1, 0.0)).words
        ['class bird', 'component 2:-1.5', 'shift 0.1,0']
    """

    label: str | int | None = None
    components: Mapping[int, float] | None = None
    shift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.zoom) or self.zoom <= 0:
            raise InputError(f"zoom: expected a factor above 0, such as 1.2, got {self.zoom:g}.")
        if len(self.shift) != 2 or not all(math.isfinite(value) for value in self.shift):
            raise InputError(f"shift: expected two finite numbers, got {self.shift}.")

    @property
    def words(self) -> list[str]:
        """Each of its parts; none if nothing changes."""
        words = [] if self.label is None else [f"class {self.label}"]
        for number, amount in (self.components or {}).items():
            words.append(f"component {number}:{amount:g}")
        if self.shift != (0, 0):
            words.append(f"shift {self.shift[0]:g},{self.shift[1]:g}")
        return words if self.zoom == 1 else [*words, f"zoom {self.zoom:g}"]

    def walks(self) -> dict[Steering, float]:
        """How far to go along each learned direction."""
        wanted: dict[Steering, float] = {
            "shift_x": self.shift[0],
            "shift_y": self.shift[1],
            # Walks are straight lines, and zooming twice by a half way is adding logarithms.
            "zoom": math.log(self.zoom),
        }
        return {name: amount for name, amount in wanted.items() if amount}


def strengths_of(strength: float | Sequence[float], change: Change) -> tuple[float, ...]:
    """How far to go, once or several times.

    Raises:
        InputError: A strength is no finite number, or there is nothing to go along.

    Example:
        >>> strengths_of([0, 0.5, 1], Change(label="bird"))
        (0.0, 0.5, 1.0)
    """
    values = (strength,) if isinstance(strength, int | float) else tuple(strength)
    if not values or not all(math.isfinite(value) for value in values):
        raise InputError(f"strength: expected a finite number or several, got {strength!r}.")
    if not change.words and values != (1.0,):
        raise InputError(
            "strength: there is nothing to edit. Give a class, a component, a shift or a zoom; "
            "without any, the projection itself is blended in, which has no strength."
        )
    return tuple(float(value) for value in values)


def known_to(generator: Generator, change: Change) -> Change:
    """The change, with the class by its name.

    Raises:
        InputError: The generator has no such class or component, or no class at all.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from invertkit.models.generators.latents import ClassEmbedding
        >>> net = nn.Sequential(nn.Linear(2, 3 * 4 * 4), nn.Unflatten(1, (3, 4, 4)))
        >>> kinds = ClassEmbedding(torch.eye(2), names=("round", "square"))
        >>> known_to(Generator(net, latents={"kind": kinds}), Change(label=1)).label
        'square'
    """
    if change.components:
        count = components_of(generator)
        for number, amount in change.components.items():
            if not 0 <= number < count:
                raise InputError(f"component: expected 0 to {count - 1}, got {number}.")
            if not math.isfinite(amount):
                raise InputError(f"component: expected a finite amount, got {amount}.")
    if change.label is None:
        return change
    return replace(change, label=generator.classes[generator.label(change.label)])


def components_of(generator: Generator) -> int:
    """How many principal components of a generator there are to choose from.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(5, 3 * 4 * 4), nn.Unflatten(1, (3, 4, 4)))
        >>> components_of(Generator(net, latents={"z": 5}))
        5
    """
    return min(COMPONENTS, generator.latents[generator.leading].numbers)
