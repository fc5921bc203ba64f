"""What is known of a stage before it begins: its parts, and what its steps will do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from invertkit.core.recording.phase import Phase
from invertkit.engine.problem import Problem, Stage, Term
from invertkit.objectives.base import Objective
from invertkit.optimizers.base import Optimizer
from invertkit.players.base import Player
from invertkit.variables.base import Variable

Phases = tuple[Phase, ...]
"""What players, terms and optimizer do on a step, in their order."""


@final
@dataclass(frozen=True)
class StagePlan:
    """A stage with the parts that act in it.

    Args:
        index: Of the stage, from 0.
        first: Step of the run at which it begins.
        stage: Its size, steps and name.
        variable: What is optimised in it.
        optimizer: How.
        terms: That fit it; whether they count depends on the step.
        players: That its terms ask, by name.
    """

    index: int
    first: int
    stage: Stage
    variable: Variable
    optimizer: Optimizer
    terms: tuple[Term, ...]
    players: Mapping[str, Player]

    @classmethod
    def of(cls, problem: Problem, index: int) -> StagePlan:
        """The plan of a problem's stage."""
        stage = problem.stages[index]
        return cls(
            index=index,
            first=sum(earlier.steps for earlier in problem.stages[:index]),
            stage=stage,
            variable=problem.variable_of(index),
            optimizer=problem.optimizer_of(index),
            terms=tuple(term for term in problem.terms if term.fits(stage)),
            players=problem.players_of(index),
        )

    @property
    def end(self) -> int:
        """First step of the run that is no longer of this stage."""
        return self.first + self.stage.steps

    @property
    def obstacle(self) -> str:
        """Why its steps cannot be replayed, whichever they are; empty if they can."""
        objectives = [term.objective for term in self.terms]
        parts: list[Variable | Player | Objective | Optimizer]
        parts = [self.variable, *self.players.values(), *objectives, self.optimizer]
        return next((part.obstacle for part in parts if part.obstacle), "")

    def terms_at(self, step: int) -> tuple[Term, ...]:
        """The terms that count at a step of the run."""
        return tuple(term for term in self.terms if term.counts(step))

    def phases_at(self, step: int) -> Phases:
        """What a step of the run does; with the names of its terms, that tells its kind."""
        return (
            *(player.phase(step) for player in self.players.values()),
            *(term.objective.phase(step) for term in self.terms_at(step)),
            self.optimizer.phase(step=step - self.first, total=self.stage.steps),
        )

    def alike_from(self, step: int) -> int:
        """How many steps do what this one does, itself included, before other terms count."""
        terms, phases, alike = self.terms_at(step), self.phases_at(step), 0
        for ahead in range(step, self.end):
            if self.terms_at(ahead) != terms:
                break
            alike += self.phases_at(ahead) == phases
        return alike
