"""Carrying out a job to its end: observers, interruptions, and the result."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from invertkit.core.files import folder_if_it_succeeds
from invertkit.core.log import log
from invertkit.core.signals import Stopping
from invertkit.engine.problem import Status
from invertkit.errors import InputError
from invertkit.recipe.overlay import RecipeLike
from invertkit.runs.gather import Results
from invertkit.runs.inversion import Inversion
from invertkit.runs.job import Job
from invertkit.runs.keeping import Keeping
from invertkit.runs.observers import STOP, Observer
from invertkit.runs.prepare import prepare_job
from invertkit.runs.result import Result
from invertkit.runs.watching import watching


@contextlib.contextmanager
def run_folder(out: str | Path | None, *, judge: bool = False) -> Iterator[Path | None]:
    """The folder of a run, if it shall have one; if the run fails, it goes again.

    Raises:
        InputError: It exists and holds something, or there is none and something is to be judged.
    """
    if judge and out is None:
        raise InputError(
            "judge: measures into a folder's metrics.json; give `out` too, or use "
            "`result.save(folder, judge=True)`."
        )
    with folder_if_it_succeeds(out) as folder:
        yield folder


def single_job(recipe: RecipeLike, given: Mapping[str, Any]) -> Job:
    """The job of one photograph, or none.

    Raises:
        InvertkitError: Anything the caller can mend, in one sentence.
    """
    if "photographs" in given:
        raise InputError("photographs: many are for `invertkit.run_each`; this makes one of them.")
    return prepare_job(recipe, **given)


def tell(job: Job) -> None:
    """Say what is to be told before the first step."""
    for sentence in job.sentences:
        log.info(sentence)


def made(
    job: Job, observers: Sequence[Observer], keeping: Keeping, *, progress: bool | None
) -> Results:
    """All steps that are left, shown to whoever waits.

    Raises:
        InvertkitError: Anything the caller can mend, in one sentence.
    """
    if not isinstance(observers, Sequence) or not all(map(callable, observers)):
        raise InputError(f"observers: expected a list of functions, got {observers!r:.60}.")
    tell(job)
    with watching(job, wanted=progress, done=keeping.images_made) as shown:
        return carry_out_each(job, observers=(*observers, *shown), keeping=keeping)


def carry_out(
    job: Job, *, observers: Sequence[Observer] = (), keeping: Keeping | None = None
) -> Result:
    """`carry_out_each` for a job with one photograph, or none: its one result."""
    return carry_out_each(job, observers=observers, keeping=keeping)[0]


def carry_out_each(
    job: Job, *, observers: Sequence[Observer] = (), keeping: Keeping | None = None
) -> Results:
    """Run a job to its end, to an interruption or to a stop; write its folder if there is one.

    A photograph with which the recipe cannot go on is left out, and the others are made.

    Args:
        job: What to do.
        observers: Called after every step.
        keeping: Where it is kept, and what it goes on from; by default nothing is written.

    Raises:
        InvertkitError: The recipe cannot be run with these inputs.
        WriteError: The disk is full; what was saved can be gone on with.
    """
    inversion = Inversion(job, keeping)
    with Stopping() as stopping:
        for report in inversion.steps():
            # A list, not a generator: every observer sees every step.
            if any([observer(report) == STOP for observer in observers]):
                inversion.stop(Status.STOPPED)
            if stopping.asked:
                inversion.stop(Status.INTERRUPTED)
    return inversion.results()
