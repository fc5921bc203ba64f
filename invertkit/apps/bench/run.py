"""How fast the recipes are on this machine, in a given time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Final, final

import torch

from invertkit.apps.bench.machine import Clock, Machine, Peak, measure_machine
from invertkit.apps.bench.plan import BenchCase, cases, networks_at_hand
from invertkit.apps.bench.steps import Times, time_kinds
from invertkit.apps.bench.sums import summed
from invertkit.apps.bench.table import Bench, BenchRow
from invertkit.core.devices import pick_device
from invertkit.core.modes import ordinary_modes
from invertkit.core.precision import PRECISIONS, Precision, products
from invertkit.core.recording.replay import Compile
from invertkit.core.suggestions import one_of
from invertkit.core.version import __version__
from invertkit.errors import InputError, InvertkitError

COMPILE: Final[tuple[Compile, ...]] = ("graph", "inductor")
_OVERDRAW: Final = 3  # times its share a case may take for its heaviest kind of step


@ordinary_modes()
def bench(
    recipes: Sequence[str | Path] = (),
    *,
    budget: str | None = None,
    device: str = "auto",
    batches: Sequence[int] = (1, 4, 16),
    seconds: float = 120.0,
    threads: int | None = None,
    precision: str = "tf32",
    compile: str = "graph",
    clock: Clock = time.perf_counter,
    tell: Callable[[str], object] | None = None,
) -> Bench:
    """Time a few steps of every kind of every recipe, as Python takes them and replayed.

    Ctrl-C ends it; what was measured so far is returned.

    Args:
        recipes: Names or paths; if empty all that the package carries, `magic` first.
        budget: Only this one; by default all of each.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batches: Images side by side, on CUDA.
        seconds: For all of it. A step under way is finished.
        threads: Of the CPU; torch's own number by default.
        precision: Of the networks.
        compile: How steps are replayed: `graph` or `inductor`.
        clock: Tells the time.
        tell: Is told a sentence for every case.

    Raises:
        InputError: An argument is not among those expected.
        RecipeError: A recipe is not there or wrong.
    """
    where, begun = pick_device(device), clock()
    numbers: Precision = one_of("precision", precision, PRECISIONS)
    how: Compile = one_of("compile", compile, COMPILE)
    if not seconds > 0:
        raise InputError(f"seconds: expected a number above 0, got {seconds:g}.")
    if not batches or min(batches) < 1:
        raise InputError(f"batch: expected at least 1 image, got {min(batches, default='none')}.")
    if threads is not None and threads < 1:
        raise InputError(f"threads: expected at least 1, got {threads}.")
    planned = cases(
        recipes, budget=budget, batches=batches, device=where, precision=numbers, compile=how
    )
    rows = {case: BenchRow(case.recipe, case.budget, case.batch) for case in planned}
    with _threads(threads):
        import_module("torch._dynamo")  # else the first optimizer would, in somebody's set-up
        machine = measure_machine(where, numbers, clock)
        bench_run = BenchRun(machine, clock, end=begun + seconds, compile=how, tell=tell)
        interrupted = bench_run.go(rows)
    return Bench(
        invertkit=__version__,
        machine=machine,
        compile=how,
        seconds_allowed=float(seconds),
        seconds_taken=clock() - begun,
        interrupted=interrupted,
        rows=tuple(rows.values()),
    )


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """So many threads of torch inside, as before afterwards; None leaves their number."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@final
class BenchRun:
    """A bench under way.

    Args:
        machine: That measures.
        clock: Tells the time.
        end: When the time is over.
        compile: How steps are replayed.
        tell: Is told a sentence for every case.
    """

    def __init__(
        self,
        machine: Machine,
        clock: Clock,
        *,
        end: float,
        compile: Compile,
        tell: Callable[[str], object] | None,
    ) -> None:
        self._machine, self._clock, self._end = machine, clock, end
        self._compile, self._tell = compile, tell or (lambda sentence: None)

    def go(self, rows: dict[BenchCase, BenchRow]) -> bool:
        """Fill the rows, those that a run takes by default first; whether it was interrupted."""
        # What most users will run is measured even if the time ends there.
        order = sorted(rows, key=lambda case: (not case.usual, case.batch))
        left, why = list(order), "there was no time left; give more `--seconds`."
        interrupted = False
        try:
            while left and self._clock() < self._end:
                case = left[0]
                # Of the time that is left: what one case saves, the others have.
                share = (self._end - self._clock()) / len(left)
                rows[case] = row = self._measured(case, rows[case], share)
                left.pop(0)
                self._tell(_sentence(row, len(order) - len(left), len(order)))
        except KeyboardInterrupt:
            interrupted, why = True, "it was interrupted."
        for case in left:
            rows[case] = replace(rows[case], reason=why)
        return interrupted

    def _measured(self, case: BenchCase, row: BenchRow, share: float) -> BenchRow:
        """The row of a case, whatever becomes of it."""
        try:
            return self._timed(case, row, share)
        except InvertkitError as error:
            return replace(row, state="failed", reason=str(error))
        except RuntimeError as error:  # such as too little memory
            first_line = str(error).strip().split("\n")[0]
            reason = f"{type(error).__name__}: {first_line:.200}"
            return replace(row, state="failed", reason=reason)

    def _timed(self, case: BenchCase, row: BenchRow, share: float) -> BenchRow:
        began, job = self._clock(), case.job
        networks = networks_at_hand(job)
        job = job.using(models=networks.models, batch=case.batch)
        with products(job.settings.precision):
            problem = job.problem(job.seeds)
            if case.batch > 1 and len(job.batches(problem)) > 1:
                return replace(row, reason="its optimizer takes one image at a time.")
            times, peak = Times.of(problem), Peak(job.device)
            time_kinds(
                problem,
                times,
                compile=self._compile,
                clock=self._clock,
                until=began + share,
                at_last=min(began + _OVERDRAW * share, self._end),
            )
        run, kinds = summed(times, self._machine, batch=case.batch)
        return replace(
            row,
            state="measured",
            networks=networks.described(),
            random=networks.random,
            run=run,
            kinds=tuple(kinds),
            bytes_peak_memory=peak.read(),
        )


def _sentence(row: BenchRow, number: int, count: int) -> str:
    name = " ".join(filter(None, (row.recipe, row.budget)))
    several = f", {row.batch} images" if row.batch > 1 else ""
    if row.run is None:
        return f"{number}/{count} {name}{several}: {row.state}: {row.reason}"
    eager, replayed = row.run.seconds_per_step_eager, row.run.seconds_per_step_replayed
    again = "" if replayed is None else f", {replayed:.3g} s replayed"
    return f"{number}/{count} {name}{several}: {eager:.3g} s a step{again}"
