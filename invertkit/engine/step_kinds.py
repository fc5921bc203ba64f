"""Kinds of steps: those of one kind do the same work, so one tells what all of them cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from invertkit.core.recording.phase import Phase
from invertkit.engine.problem import Problem, Term
from invertkit.optimizers.base import Optimizer
from invertkit.players.base import Player

Phases = tuple[Phase, ...]
"""What players, terms and optimizer do on a step, in their order."""


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


def phases_of(
    players: Iterable[Player],
    terms: Iterable[Term],
    optimizer: Optimizer,
    *,
    step: int,
    stage_step: int,
    total: int,
) -> Phases:
    """What a step does.

    Args:
        players: That the stage asks.
        terms: That count on the step.
        optimizer: Of the stage.
        step: Of the run.
        stage_step: Of the stage.
        total: Steps of the stage.
    """
    return (
        *(player.phase(step) for player in players),
        *(term.objective.phase(step) for term in terms),
        optimizer.phase(step=stage_step, total=total),
    )


def replays(phases: Phases) -> bool:
    """Whether steps that do this may be replayed."""
    return all(phase.replayable for phase in phases)


def kinds_of(problem: Problem) -> list[StepKind]:
    """Every kind of step that a run of the problem takes, in the order in which they begin.

    Each step of the run belongs to exactly one of them.
    """
    found: dict[tuple[int, tuple[str, ...], Phases], list[int]] = {}
    begin = 0
    for index, stage in enumerate(problem.stages):
        fitting = [term for term in problem.terms if term.fits(stage)]
        players = problem.players_of(index).values()
        optimizer = problem.optimizer_of(index)
        for step in range(begin, begin + stage.steps):
            terms = [term for term in fitting if term.counts(step)]
            phases = phases_of(
                players,
                terms,
                optimizer,
                step=step,
                stage_step=step - begin,
                total=stage.steps,
            )
            names = tuple(term.name for term in terms)
            found.setdefault((index, names, phases), []).append(step)
        begin += stage.steps
    return [StepKind(*key, tuple(steps)) for key, steps in found.items()]
