"""A few steps of every stage, to see whether a recipe runs."""

from __future__ import annotations

from dataclasses import replace

from invertkit.engine.run import Run
from invertkit.errors import InputError
from invertkit.runs.job import Job


def dry_run(job: Job, *, steps: int = 2) -> int:
    """Take a few steps of every stage and throw the pictures away; how many were taken.

    Players that learn before a stage do so for as many updates only.
    """
    problem = job.problem()
    stages = [
        replace(stage, steps=min(stage.steps, steps), optimizer=problem.optimizer_of(i).trial())
        for i, stage in enumerate(problem.stages)
    ]
    terms = [replace(term, start=0, stop=None) for term in problem.terms]
    players = {name: player.trial(steps) for name, player in problem.players.items()}
    taken = 0
    for report in Run(replace(problem, stages=stages, terms=terms, players=players)).steps():
        taken = report.step
        if not report.losses.isfinite().all():
            bad = [name for name, value in report.values.items() if not value.isfinite().all()]
            raise InputError(f"The loss is not finite at step {taken}; look at: {', '.join(bad)}.")
    return taken
