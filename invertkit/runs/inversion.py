"""A job under way, step by step: its batches one after the other, and what they have come to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from invertkit.core.log import log
from invertkit.core.modes import ordinary_modes
from invertkit.core.precision import products
from invertkit.engine.problem import Status
from invertkit.engine.run import Run, StepReport
from invertkit.errors import InputError, WriteError
from invertkit.runs.batch_outcome import UNFINISHED, BatchFailure, EndedBatch
from invertkit.runs.batch_run import BatchRun
from invertkit.runs.batching import Batch
from invertkit.runs.checkpoint import Saver
from invertkit.runs.gather import PhotographResults, Results
from invertkit.runs.job import Job
from invertkit.runs.keeping import Keeping
from invertkit.runs.result import Result


@final
class Inversion:
    """A recipe with its inputs, ready to be run step by step; `invertkit.prepare` makes one.

    The networks are opened here, once for all images. Images that are not solved side by side come
    one after the other: first all steps of the one, then those of the next.

    Args:
        job: What to do.
        keeping: Where it is kept, and what it goes on from; by default nothing is written.

    Attributes:
        job: With its networks opened.

    Raises:
        InvertkitError: The recipe cannot be run with these inputs.
    """

    def __init__(self, job: Job, keeping: Keeping | None = None) -> None:
        keeping = keeping or Keeping()
        folder, state = keeping.folder, keeping.state
        # Networks are opened once, here, and shared by the problems of all batches.
        problem = job.problem()
        self.job = job.using(models=problem.models)
        done = state.done if state else ()
        self._split = list(state.split) if state else []
        self._batches = job.batches(problem)
        for place in self._split:
            self._batches[place : place + 1] = self._batches[place].apart()
        self._index, self._now = len(done), state.now if state else None
        self._going: BatchRun | None = None
        # Nearly always the first images are those of this problem: it is not built twice.
        is_first = self._index == 0 and self._batches[0] == Batch(job.seeds[:1], (0,))
        self._built = problem if is_first else None
        names = {name: model.description for name, model in problem.models.items()}
        for description in names.values():
            log.info(f"Model: {description}.")
        self._saver: Saver | None = None
        if folder is not None:
            self._saver = Saver(
                folder, every=keeping.checkpoint_every, done=len(done), split=self._split
            )
            if state is None:
                self._saver.begin(job.raw, job.photographs, job.settings)
        self._ended = PhotographResults(job, names, folder, judge=keeping.judge)
        for batch in done:
            self._ended.add(batch, again=True)

    @property
    def run(self) -> Run:
        """The engine's run of the images that are under way or come next.

        Its `params` are the tensors that are searched, by name, also before the first step.

        Raises:
            InputError: Every step was taken.
        """
        if self._index == len(self._batches):
            raise InputError("Every step was taken; prepare the recipe again to go on from anew.")
        run = self._begun(self._batches[self._index]).run
        if not run.params:
            with self._computing():
                run.go_to(run.step)
        return run

    def steps(self) -> Iterator[StepReport]:
        """Take the steps that are left, one at a time, of all images.

        Breaking out of it leaves an inversion that can be iterated again.

        Raises:
            InvertkitError: A step cannot be taken.
            WriteError: The disk is full; what was saved can be gone on with.
        """
        while self._index < len(self._batches):
            batch = self._batches[self._index]
            try:
                going = self._begun(batch)
                for report in self._taken(going):
                    yield report
                    if self._saver is not None:
                        self._saver.save_if_due(going.state)
            except InputError as error:
                if isinstance(error, WriteError) or not self.job.each:
                    raise
                self._set_aside(batch, str(error))
                continue
            # Two loops may take the steps in turn; the batch ends once.
            if self._going is not going:
                continue
            if going.status in UNFINISHED:
                return
            # The last image is made here once more, and must be rounded as the steps did it.
            with self._computing():
                self._end(going.outcome())

    def stop(self, status: Status) -> None:
        """End the iteration of `steps` after this step, for this reason."""
        if self._going is not None:
            self._going.run.status = status

    def results(self) -> Results:
        """What there is by now; with a folder it is written, and can be gone on with.

        Raises:
            InputError: No step was taken.
            WriteError: A file cannot be written.
        """
        under_way = None
        if self._going is not None and self._going.run.step:
            # Saved before it is written: a disk that fills meanwhile costs no step.
            if self._saver is not None:
                self._saver.save(self._going.state())
            with self._computing():
                under_way = self._going.outcome()
        results = self._ended.gathered(under_way)
        if not results:
            raise InputError("There is no picture before the first step; take one.")
        return results

    def result(self) -> Result:
        """`results` of a recipe with one photograph, or none: the one.

        Raises:
            InputError: No step was taken.
            WriteError: A file cannot be written.
        """
        return self.results()[0]

    # ------------------------------------------------------------------ batch by batch

    def _begun(self, batch: Batch) -> BatchRun:
        """The batch on its way."""
        if self._going is None:
            with self._computing():
                problem = self._built or self.job.problem(batch.seeds, batch.of)
                self._built = None
                run = Run(problem, compile=self.job.settings.compile)
                self._going = BatchRun(run, batch.of, self._now)
            self._now = None
        return self._going

    def _taken(self, going: BatchRun) -> Iterator[StepReport]:
        """Its steps; between two of them the process computes as it did before."""
        steps = going.steps()
        while True:
            with self._computing():
                report = next(steps, None)
            if report is None:
                return
            yield report

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """How steps are computed, whatever whoever takes them has set."""
        with ordinary_modes(), products(self.job.settings.precision):
            yield

    def _set_aside(self, batch: Batch, reason: str) -> None:
        """A batch that cannot be gone on with: take it apart, to see which photograph it is."""
        # A fault of one photograph must not end the others that shared its batch.
        if len(apart := batch.apart()) == 1:
            self._end(BatchFailure(batch.of, reason))
            return
        self._batches[self._index : self._index + 1] = apart
        self._split.append(self._index)
        self._going, self._now = None, None

    def _end(self, batch: EndedBatch) -> None:
        if self._saver is not None:
            self._saver.add(batch)
        self._ended.add(batch)
        self._index, self._going, self._now = self._index + 1, None, None

    def __repr__(self) -> str:
        under_way = self._going.run if self._going is not None else None
        place = f", step {under_way.step} of {under_way.problem.total_steps}" if under_way else ""
        return (
            f"{repr(self.job).replace('Job', 'Inversion', 1).rstrip('>')}: "
            f"{self._index} of {len(self._batches)} batches done{place}>"
        )
