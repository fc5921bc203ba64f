"""Carrying out a job to its end: observers, interruptions, and the result."""

from __future__ import annotations

from collections.abc import Sequence

from invertkit.core.signals import Stopping
from invertkit.engine.problem import Status
from invertkit.runs.gather import Results
from invertkit.runs.inversion import Inversion
from invertkit.runs.job import Job
from invertkit.runs.keeping import Keeping
from invertkit.runs.observers import STOP, Observer
from invertkit.runs.result import Result


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
