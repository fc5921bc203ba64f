"""Carrying out a job: batches, checkpoints, interruptions, and the result at the end."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, final

import torch
from torch import Tensor

from invertkit import checkpoint
from invertkit.engine import Report, Run
from invertkit.errors import InputError
from invertkit.images import Inputs
from invertkit.job import Job, pick_device
from invertkit.precision import products
from invertkit.problem import Status
from invertkit.recipe.page import validate
from invertkit.registry import Registry
from invertkit.report import is_whole, write, write_index
from invertkit.result import History, Result
from invertkit.view import resize_image

log = logging.getLogger("invertkit")
log.addHandler(logging.NullHandler())

Observer = Callable[[Report], object]
"""Called after every step. Returning `STOP` ends the run."""

STOP = "stop"
FRAMES = 36
FRAME_SIDE = 160


def carry_out(
    job: Job,
    *,
    folder: Path | None = None,
    observers: Sequence[Observer] = (),
    checkpoint_every: float = 20.0,
    state: Mapping[str, Any] | None = None,
) -> Result:
    """`carry_out_each` for a job with one photograph, or none: its one result."""
    (result,) = carry_out_each(
        job,
        folder=folder,
        observers=observers,
        checkpoint_every=checkpoint_every,
        state=state,
    )
    return result


def carry_out_each(
    job: Job,
    *,
    folder: Path | None = None,
    observers: Sequence[Observer] = (),
    checkpoint_every: float = 20.0,
    state: Mapping[str, Any] | None = None,
) -> list[Result]:
    """Run a job to its end, to an interruption or to a stop; write its folder if there is one.

    Args:
        job: What to do.
        folder: An empty folder, or that of the interrupted run whose `state` is given. With
            several photographs each has a sub-folder, which is written when its images are made.
        observers: Called after every step.
        checkpoint_every: Seconds between checkpoints.
        state: The checkpoint to go on from.

    Returns:
        A result for every photograph that has an image, in the order of the job.
    """
    done: Sequence[Mapping[str, Any]] = state["done"] if state else []
    saver = None
    if folder is not None:
        saver = checkpoint.Saver(folder, every=checkpoint_every, done=len(done))
        if state is None:
            _begin(saver, job, job.photographs)
    problem = job.problem(job.seeds[:1])
    batches = job.batches(problem)
    names = {
        name: str(getattr(model, "description", type(model).__name__))
        for name, model in problem.models.items()
    }
    for model in names.values():
        log.info(f"Model: {model}.")
    results = _Results(job, names, folder)
    for outcome in done:
        results.add(outcome, again=True)
    with _interrupts() as interrupted, products(job.precision):
        for index in range(len(done), len(batches)):
            batch = batches[index]
            if batch.of != (0,) or batch.seeds != job.seeds[:1]:
                problem = job.problem(batch.seeds, batch.of)
            going = _Going(
                Run(problem, compile=job.compile),
                batch.of,
                state["now"] if state and index == len(done) else None,
            )
            status = going.go(
                observers,
                interrupted,
                lambda now: None if saver is None else saver.save_if_due(now),
            )
            if status in (Status.INTERRUPTED, Status.STOPPED):
                if saver is not None:
                    saver.save(going.state())
                results.add(going.outcome())
                break
            outcome = going.outcome()
            if saver is not None:
                saver.add(outcome)
            results.add(outcome)
    return results.finish()


def _begin(saver: checkpoint.Saver, job: Job, photographs: Sequence[Inputs]) -> None:
    saver.begin(
        job.raw,
        photographs,
        seeds=job.seeds,
        device=str(job.device),
        parts=job.parts,
        models=tuple(job.models),
        compile=job.compile,
        precision=job.precision,
        batch=job.batch,
    )


@final
class _Results:
    """What the batches of a job have come to, photograph by photograph.

    Args:
        job: That is carried out.
        models: What its networks are.
        folder: Of the run, or None.
    """

    def __init__(self, job: Job, models: Mapping[str, str], folder: Path | None) -> None:
        self.job, self.models, self.folder = job, models, folder
        self._parts: dict[int, list[dict[str, Any]]] = {}
        self._made: dict[int, Result] = {}

    def add(self, outcome: Mapping[str, Any], *, again: bool = False) -> None:
        """Take in a batch; a photograph whose last image it holds is written.

        Args:
            outcome: Of a batch that has ended.
            again: It ended before the run was resumed, so what is there is not written again.
        """
        for number in dict.fromkeys(outcome["of"]):
            parts = self._parts.setdefault(number, [])
            parts.append(_part(outcome, number))
            whole = sum(len(part["seeds"]) for part in parts) == len(self.job.seeds)
            ended = all(part["status"] not in ("INTERRUPTED", "STOPPED") for part in parts)
            if whole and ended:
                self._make(number, again=again)

    def finish(self) -> list[Result]:
        """Write what is not whole, and the page about all; every result."""
        for number in self._parts:
            if number not in self._made:
                self._make(number)
        results = [self._made[number] for number in sorted(self._made)]
        if self.folder is not None and self.job.each:
            write_index(results, self.folder, of=len(self.job.photographs))
        return results

    def _make(self, number: int, *, again: bool = False) -> None:
        parts, photograph = self._parts[number], self.job.photographs[number]
        result = self._made[number] = _result(self.job, photograph, parts, self.models)
        if self.folder is None:
            return
        if not self.job.each:
            write(result, self.folder)
            return
        place = self.folder / photograph.name
        if again and is_whole(place, images=len(result.seeds)):
            return
        try:
            place.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{place}: cannot be made ({error.strerror or error}).") from None
        own = checkpoint.Saver(place, every=0)
        _begin(own, self.job, [replace(photograph, name="")])
        for part in parts:
            own.add(part)
        write(result, place)


@final
class _Going:
    """One batch on its way, with what is recorded of it.

    Args:
        run: Of the batch.
        of: The number of each image's photograph.
        state: To go on from.
    """

    def __init__(self, run: Run, of: Sequence[int], state: Mapping[str, Any] | None) -> None:
        self.run, self.of = run, tuple(of)
        self._firsts = [self.of.index(number) for number in dict.fromkeys(self.of)]
        self.history = History(state["rows"] if state else ())
        self.frames: list[list[Tensor]] = (
            [list(frames) for frames in state["frames"]] if state else [[] for _ in self._firsts]
        )
        self._every = max(1, run.problem.total_steps // FRAMES)
        if state:
            run.restore(state["run"])

    def go(
        self,
        observers: Sequence[Observer],
        interrupted: threading.Event,
        after: Callable[[Callable[[], dict[str, Any]]], object],
    ) -> Status:
        for report in self.run.steps():
            self.history.add(report)
            if report.step % self._every == 0 or report.step == report.total:
                images = self.run.last_images()
                for frames, first in zip(self.frames, self._firsts, strict=True):
                    frames.append(_frame(images[first]))
            if any([observer(report) == STOP for observer in observers]):
                self.run.status = Status.STOPPED
            if interrupted.is_set():
                self.run.status = Status.INTERRUPTED
            after(self.state)
        return self.run.status

    def state(self) -> dict[str, Any]:
        """All that is needed to go on, as tensors, numbers, strings, lists and dicts."""
        return {"run": self.run.save(), "rows": self.history.rows, "frames": self.frames}

    def outcome(self) -> dict[str, Any]:
        """All that is needed of it once it has ended, likewise."""
        return {
            "of": list(self.of),
            "seeds": list(self.run.problem.seeds),
            "step": self.run.step,
            "seconds": self.run.seconds,
            "lost": list(self.run.lost),
            "rows": self.history.rows,
            "frames": self.frames,
            "best": self.run.best_images(),
            "last": self.run.last_images(),
            "best_steps": self.run.best_steps(),
            "best_losses": self.run.best_losses(),
            "tensors": self.run.best_tensors(),
            "status": self.run.status.name,
        }


def _part(outcome: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Of a batch that has ended, the images of one photograph."""
    of = outcome["of"]
    mine = [row for row, owner in enumerate(of) if owner == number]

    def some(values: Sequence[Any]) -> list[Any]:
        return [values[row] for row in mine]

    return {
        "of": [0] * len(mine),
        "step": outcome["step"],
        "seconds": outcome["seconds"] * len(mine) / len(of),
        "rows": [
            {
                **row,
                "values": {name: some(values) for name, values in row["values"].items()},
                "losses": some(row["losses"]),
            }
            for row in outcome["rows"]
        ],
        "frames": [outcome["frames"][list(dict.fromkeys(of)).index(number)]],
        "tensors": {name: value[mine] for name, value in outcome["tensors"].items()},
        "status": outcome["status"],
        **{name: outcome[name][mine] for name in ("best", "last")},
        **{name: some(outcome[name]) for name in ("seeds", "lost", "best_steps", "best_losses")},
    }


def _frame(image: Tensor) -> Tensor:
    """A small copy as bytes, for the animation."""
    height, width = image.shape[-2:]
    scale = min(1.0, FRAME_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return (resize_image(image[None], size)[0].clamp(0, 1) * 255).round().to("cpu", torch.uint8)


def _result(
    job: Job, photograph: Inputs, parts: Sequence[Mapping[str, Any]], models: Mapping[str, str]
) -> Result:
    """The result of one photograph."""
    status = Status[parts[-1]["status"]]
    if any(any(part["lost"]) for part in parts):
        status = Status.NON_FINITE
    elif status is Status.NON_FINITE:  # of its company
        status = Status.FINISHED
    count = sum(len(part["seeds"]) for part in parts)
    final_size = parts[-1]["best"].shape[-2:]

    def gather(key: str) -> Tensor:
        return torch.cat([resize_image(part[key].cpu(), tuple(final_size)) for part in parts])

    return Result(
        best=gather("best").clamp(0, 1),
        last=gather("last").clamp(0, 1),
        result=job.page.result,
        tensors=_tensors([part["tensors"] for part in parts]),
        seeds=job.seeds[:count],
        best_steps=tuple(step for part in parts for step in part["best_steps"]),
        best_losses=tuple(loss for part in parts for loss in part["best_losses"]),
        status=status,
        steps=max(part["step"] for part in parts),
        seconds=sum(part["seconds"] for part in parts),
        rows=tuple(part["rows"] for part in parts),
        batches=tuple(len(part["seeds"]) for part in parts),
        recipe=job.raw,
        inputs=photograph,
        models=models,
        device=str(job.device),
        frames=tuple(parts[0]["frames"][0]),
    )


def _tensors(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of all batches under one another; those that only some of them reached are cut.

    A run stopped in an early stage has no tensors of a later one.
    """
    shared = [name for name in parts[-1] if all(name in part for part in parts)]
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in shared}


def dry_run(job: Job, *, steps: int = 2) -> int:
    """Take a few steps of every stage and throw the pictures away; how many were taken.

    Players that learn before a stage do so for as many updates only.
    """
    problem = job.problem(job.seeds[:1])
    stages = [
        replace(stage, steps=min(stage.steps, steps), optimizer=problem.optimizer_of(i).trial())
        for i, stage in enumerate(problem.stages)
    ]
    terms = [replace(term, start=0, stop=None) for term in problem.terms]
    for player in problem.players.values():
        if hasattr(player, "updates"):
            player.updates = min(player.updates, steps)
    taken = 0
    for report in Run(replace(problem, stages=stages, terms=terms)).steps():
        taken = report.step
        if not report.losses.isfinite().all():
            bad = [name for name, value in report.values.items() if not value.isfinite().all()]
            raise InputError(f"The loss is not finite at step {taken}; look at: {', '.join(bad)}.")
    return taken


def restored(
    folder: Path, *, models: Mapping[str, Any] | None = None
) -> tuple[Job, dict[str, Any]]:
    """The job of an interrupted run and its checkpoint.

    Raises:
        InputError: The folder holds no checkpoint, or this machine lacks its device.
    """
    begun, state = checkpoint.load(folder)
    lacking = [name for name in begun["models"] if name not in (models or {})]
    if lacking:
        raise InputError(
            f"{folder}: was begun with networks given from Python ({', '.join(lacking)}); go on "
            f"from there: `invertkit.resume({str(folder)!r}, models={{{lacking[0]!r}: …}})`."
        )
    registry = Registry()
    for path in begun["parts"]:
        registry = registry.with_parts(Path(path))
    job = Job(
        page=validate(begun["recipe"]),
        raw=begun["recipe"],
        photographs=tuple(Inputs(**saved) for saved in begun["photographs"]),
        seeds=tuple(begun["seeds"]),
        device=pick_device(begun["device"]),
        registry=registry,
        models=dict(models or {}),
        parts=tuple(begun["parts"]),
        compile=begun["compile"],
        precision=begun["precision"],
        batch=begun["batch"],
        said=(f"Going on with {folder}.",),
    )
    return job, state


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set an event instead of breaking a step; a second one breaks it."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before: dict[int, Any] = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)
    }

    def ask(number: int, frame: FrameType | None) -> None:
        event.set()
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, ask)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
