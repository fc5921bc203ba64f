"""Carrying out a job: batches, checkpoints, interruptions, and the result at the end."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from invertkit.core.log import log
from invertkit.core.precision import products
from invertkit.core.signals import Stopping
from invertkit.engine.problem import Status
from invertkit.engine.run import Run
from invertkit.errors import InputError, WriteError
from invertkit.runs import checkpoint
from invertkit.runs.batch_run import _Going
from invertkit.runs.gather import Outcome, Outcomes, begin
from invertkit.runs.job import Job
from invertkit.runs.observers import Observer
from invertkit.runs.result import Result

log.addHandler(logging.NullHandler())


def carry_out(
    job: Job,
    *,
    folder: Path | None = None,
    observers: Sequence[Observer] = (),
    checkpoint_every: float = 20.0,
    state: Mapping[str, Any] | None = None,
) -> Result:
    """`carry_out_each` for a job with one photograph, or none: its one result."""
    outcome = carry_out_each(
        job,
        folder=folder,
        observers=observers,
        checkpoint_every=checkpoint_every,
        state=state,
    )
    return outcome.results[0]


def carry_out_each(
    job: Job,
    *,
    folder: Path | None = None,
    observers: Sequence[Observer] = (),
    checkpoint_every: float = 20.0,
    state: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run a job to its end, to an interruption or to a stop; write its folder if there is one.

    A photograph with which the recipe cannot go on is left out, and the others are made.

    Args:
        job: What to do.
        folder: An empty folder, or that of the interrupted run whose `state` is given. With
            several photographs each has a sub-folder, which is written when its images are made.
        observers: Called after every step.
        checkpoint_every: Seconds between checkpoints.
        state: The checkpoint to go on from.

    Raises:
        WriteError: The disk is full; what was saved can be gone on with.
    """
    done: Sequence[Mapping[str, Any]] = state["done"] if state else []
    split: list[int] = list(state["split"]) if state else []
    saver = None
    if folder is not None:
        saver = checkpoint.Saver(folder, every=checkpoint_every, done=len(done), split=split)
        if state is None:
            begin(saver, job, job.photographs)
    problem = job.problem(job.seeds[:1])
    batches = job.batches(problem)
    for place in split:
        batches[place : place + 1] = batches[place].apart()
    names = {name: model.description for name, model in problem.models.items()}
    for model in names.values():
        log.info(f"Model: {model}.")
    outcomes = Outcomes(job, names, folder)
    for ended in done:
        outcomes.add(ended, again=True)
    opened = replace(job, models=problem.models)
    now, index = state["now"] if state else None, len(done)
    with Stopping() as stopping, products(job.precision):
        while index < len(batches):
            batch = batches[index]
            try:
                if index or batch != (job.seeds[:1], (0,)) or len(split):
                    problem = opened.problem(batch.seeds, batch.of)
                going = _Going(Run(problem, compile=job.compile), batch.of, now)
                status = going.go(
                    observers,
                    stopping,
                    lambda now: None if saver is None else saver.save_if_due(now),
                )
            except InputError as error:
                if isinstance(error, WriteError) or not job.each:
                    raise
                if len(apart := batch.apart()) > 1:  # to see which of them it is
                    batches[index : index + 1], now = apart, None
                    split.append(index)
                    continue
                ended = {"of": list(batch.of), "failed": str(error)}
            else:
                ended = going.outcome()
                if status in (Status.INTERRUPTED, Status.STOPPED):
                    if saver is not None:
                        saver.save(going.state())
                    outcomes.add(ended)
                    break
            if saver is not None:
                saver.add(ended)
            outcomes.add(ended)
            index, now = index + 1, None
    return outcomes.finish()
