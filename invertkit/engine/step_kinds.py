"""Kinds of steps: those of one kind do the same work, so one tells what all of them cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from invertkit.engine.plan import Phases, StagePlan
from invertkit.engine.problem import Problem


@final
@dataclass(frozen=True)
class StepKind:
    """Steps of a run that do the same work.

    Args:
        stage: Index of their stage.
        terms: Names of the terms that count.
        phases: What players, terms and optimizer do.
        steps: Of the run, ascending; never empty.
    """

    stage: int
    terms: tuple[str, ...]
    phases: Phases
    steps: tuple[int, ...]

    @property
    def replayable(self) -> bool:
        """Whether no part forbids that they are replayed."""
        return all(phase.replayable for phase in self.phases)


def kinds_of(problem: Problem) -> list[StepKind]:
    """Every kind of step that a run of the problem takes, in the order in which they begin.

    Each step of the run belongs to exactly one of them.
    """
    steps_of: dict[tuple[int, tuple[str, ...], Phases], list[int]] = {}
    for index in range(len(problem.stages)):
        plan = StagePlan.of(problem, index)
        for step in range(plan.first, plan.end):
            names = tuple(term.name for term in plan.terms_at(step))
            steps_of.setdefault((index, names, plan.phases_at(step)), []).append(step)
    return [StepKind(*key, tuple(steps)) for key, steps in steps_of.items()]
