"""What a run is given: stages, terms, models, and the sentence it ends with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from enum import Enum
from typing import Any, final

import torch

from invertkit.core.network import Model
from invertkit.core.regions import Region
from invertkit.core.scene import Scene
from invertkit.core.schedules import Schedule
from invertkit.errors import RecipeError, TapError
from invertkit.objectives.base import Objective
from invertkit.optimizers.base import Optimizer
from invertkit.players.base import Player
from invertkit.variables.base import Variable


class Status(Enum):
    """How a run ended; each value is the sentence that is shown."""

    FINISHED = "took every step it was given"
    INTERRUPTED = "was interrupted; `invertkit resume` continues it"
    STOPPED = "was stopped by an observer"
    NON_FINITE = (
        "met a loss that is not a number or infinite and stopped; the last finite picture is "
        "kept. Lower the learning rate or the weight of the term that grew"
    )
    RUNNING = "is still running"


@final
@dataclass(frozen=True)
class Term:
    """An objective with its place in the recipe.

    Args:
        objective: What is wanted.
        weight: Multiplies its value; a function of the step of the whole run. A term of weight 0
            is recorded and takes no part: no gradient of it is taken.
        region: Where it looks: a word, or masks by name.
        start: First step of the run at which it counts.
        stop: First step at which it no longer counts; None for never.
        min_size: Smallest stage at which it counts: side of the square of as many pixels.
        max_size: Largest stage at which it counts, likewise.
        stages: Names of the stages in which it counts; all if empty.
        of: Name of the image that it compares with; the first one if empty.
        name: Unique in the recipe.

    Example:
        >>> from invertkit.objectives.priors import TotalVariation
        >>> Term(TotalVariation(), weight=0.1, start=100, name="smooth").counts(99)
        False
    """

    objective: Objective
    _: KW_ONLY
    weight: Schedule = 1.0
    region: Region | str = "everywhere"
    start: int = 0
    stop: int | None = None
    min_size: int = 0
    max_size: int | None = None
    stages: tuple[str, ...] = ()
    of: str = ""
    name: str = ""

    def fits(self, stage: Stage) -> bool:
        """Whether it counts at this stage."""
        if self.stages and stage.name not in self.stages:
            return False
        side = round(math.sqrt(stage.size[0] * stage.size[1]))
        return self.min_size <= side and (self.max_size is None or side <= self.max_size)

    def counts(self, step: int) -> bool:
        """Whether it counts at this step of the run."""
        return self.start <= step and (self.stop is None or step < self.stop)

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"<Term{name}: {type(self.objective).__name__}, weight {self.weight}>"


@final
@dataclass(frozen=True)
class Stage:
    """So many steps at one size.

    Args:
        size: Height and width.
        steps: Of the optimizer.
        optimizer: Of this stage; None for the problem's.
        variable: Of this stage, taking over the tensors of the one before by name; None for the
            problem's.
        name: For terms that count in some stages only.
    """

    size: tuple[int, int]
    steps: int
    optimizer: Optimizer | None = None
    variable: Variable | None = None
    name: str = ""


@final
@dataclass(frozen=True)
class Problem:
    """Everything that is fixed before the first step.

    Args:
        scene: Makes the scene of a size; called once a stage.
        models: Frozen networks by name.
        variable: What is optimised.
        terms: What is wanted.
        optimizer: How it is searched.
        players: Networks that learn, by name.
        stages: In order.
        seeds: One per image; they are separate problems, solved side by side.
        device: Where.
        memory: Bytes that the tensors saved for one backward may take; larger batches are
            evaluated in chunks. None for all at once.
    """

    scene: Callable[[tuple[int, int]], Scene]
    models: Mapping[str, Model]
    variable: Variable
    terms: Sequence[Term]
    optimizer: Optimizer
    players: Mapping[str, Player]
    stages: Sequence[Stage]
    seeds: tuple[int, ...] = (0,)
    device: torch.device = torch.device("cpu")
    memory: int | None = None

    def __post_init__(self) -> None:
        # Once and for all: whoever asks for `names` later, before the first stage too, gets those
        # of the networks at hand.
        stages = [
            replace(
                stage,
                variable=stage.variable
                and _bound(stage.variable, self.models, f"stages.{stage.name or index}.variable"),
            )
            for index, stage in enumerate(self.stages)
        ]
        object.__setattr__(self, "variable", _bound(self.variable, self.models, "variable"))
        object.__setattr__(self, "stages", stages)

    def variable_of(self, stage: int) -> Variable:
        """The variable of a stage, by index."""
        return self.stages[stage].variable or self.variable

    def optimizer_of(self, stage: int) -> Optimizer:
        """The optimizer of a stage, by index."""
        return self.stages[stage].optimizer or self.optimizer

    def players_of(self, stage: int) -> dict[str, Player]:
        """The players that a term of a stage asks, by name."""
        terms = [term for term in self.terms if term.fits(self.stages[stage])]
        asked = {name for term in terms for name in term.objective.players()}
        return {name: player for name, player in self.players.items() if name in asked}

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def __repr__(self) -> str:
        names = ", ".join(term.name for term in self.terms)
        return (
            f"<Problem: {type(self.variable).__name__} by {type(self.optimizer).__name__}, terms "
            f"{names}; {self.total_steps} steps of {len(self.seeds)} images on {self.device}>"
        )


def _bound(variable: Variable, models: Mapping[str, Any], at: str) -> Variable:
    """A variable that knows the networks; what does not fit them is told with its path."""
    try:
        return variable.bind(models)
    except (RecipeError, TapError) as error:
        raise type(error)(f"{at}.{error}") from None
