"""Numbers that depend on the step: term weights and learning rates.

A schedule is a plain number or one of the records below. A term's weight is asked at the step of
the whole run, a learning rate at the step of its stage; `total` is the length of either.
This module does not import torch, so that a recipe page can be read in milliseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, final

from annotated_types import MinLen
from pydantic import Discriminator, Tag

from invertkit.core.ranges import Count, Index


@final
@dataclass(frozen=True)
class Linear:
    """From `start` to `stop` over `steps` (default: to the end), then `stop`.

    Example:
        >>> [Linear("linear", start=1.0, stop=0.0).at(step, 3) for step in range(3)]
        [1.0, 0.5, 0.0]
    """

    type: Literal["linear"]
    start: float
    stop: float
    steps: Count | None = None

    def at(self, step: int, total: int) -> float:
        """Value at `step` of `total`."""
        # By default the last step, `total - 1`, has the final value.
        share = min(1.0, step / max(1, self.steps or total - 1))
        return self.start + (self.stop - self.start) * share


@final
@dataclass(frozen=True)
class Piecewise:
    """The value of the last `(step, value)` reached; before the first, `before`.

    `points: [[0, 1.0], [500, 0.1]]` is 1 until step 499 and 0.1 from step 500 on.

    Example:
        >>> steps = Piecewise("piecewise", points=((0, 1.0), (500, 0.1)))
        >>> steps.at(499, 1000), steps.at(500, 1000)
        (1.0, 0.1)
    """

    type: Literal["piecewise"]
    points: Annotated[tuple[tuple[Index, float], ...], MinLen(1)]
    before: float = 0.0

    def at(self, step: int, total: int) -> float:
        """Value at `step`; `total` does not matter."""
        reached = [value for start, value in sorted(self.points) if start <= step]
        return reached[-1] if reached else self.before


@final
@dataclass(frozen=True)
class Cosine:
    """Linear rise over `warmup` steps to `peak`, then half a cosine down to `floor`.

    At step `i` of `n`: `peak·(i+1)/w` while `i < w`, then
    `floor + (peak-floor)·(1 + cos(π(i-w)/(n-w)))/2`.

    Source: the released DeepInversion and MAGIC loops (`warmup` 100, `floor` 0).

    Example:
        >>> rate = Cosine("cosine", peak=0.2, warmup=2)
        >>> [round(rate.at(step, 6), 3) for step in range(6)]
        [0.1, 0.2, 0.2, 0.171, 0.1, 0.029]
    """

    type: Literal["cosine"]
    peak: float
    warmup: Index = 0
    floor: float = 0.0

    def at(self, step: int, total: int) -> float:
        """Value at `step` of `total`."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        share = min(1.0, (step - self.warmup) / max(1, total - self.warmup))
        return self.floor + (self.peak - self.floor) * 0.5 * (1 + math.cos(math.pi * share))


def _kind(node: Any) -> str:
    """Which member of the union a value is meant to be; numbers are the rest."""
    if isinstance(node, dict):
        return str(node.get("type", "a `type`"))
    return str(getattr(node, "type", "number"))


Schedule = Annotated[
    Annotated[float, Tag("number")]
    | Annotated[Linear, Tag("linear")]
    | Annotated[Piecewise, Tag("piecewise")]
    | Annotated[Cosine, Tag("cosine")],
    Discriminator(_kind),
]
"""A number, or `{type: linear | piecewise | cosine, ...}`."""


def value_at(schedule: Schedule, step: int, total: int) -> float:
    """The schedule's value at `step` of `total`.

    Example:
        >>> value_at(Linear("linear", start=0.0, stop=1.0, steps=4), 1, 100)
        0.25
        >>> value_at(3.0, 7, 100)
        3.0
    """
    return schedule if isinstance(schedule, int | float) else schedule.at(step, total)
