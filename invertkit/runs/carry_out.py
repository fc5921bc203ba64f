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

from invertkit.core.images.load import Inputs
from invertkit.core.precision import products
from invertkit.core.view import resize_image
from invertkit.engine.problem import Status
from invertkit.engine.run import Report, Run
from invertkit.errors import InputError, WriteError
from invertkit.recipe.page import validate
from invertkit.recipe.registry import Registry
from invertkit.runs import checkpoint
from invertkit.runs.gather import Outcome, Outcomes, begin
from invertkit.runs.job import Job, pick_device
from invertkit.runs.result import History, Result

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
    names = {
        name: str(getattr(model, "description", type(model).__name__))
        for name, model in problem.models.items()
    }
    for model in names.values():
        log.info(f"Model: {model}.")
    outcomes = Outcomes(job, names, folder)
    for ended in done:
        outcomes.add(ended, again=True)
    opened = replace(job, models=problem.models)
    now, index = state["now"] if state else None, len(done)
    with _interrupts() as interrupted, products(job.precision):
        while index < len(batches):
            batch = batches[index]
            try:
                if index or batch != (job.seeds[:1], (0,)) or len(split):
                    problem = opened.problem(batch.seeds, batch.of)
                going = _Going(Run(problem, compile=job.compile), batch.of, now)
                status = going.go(
                    observers,
                    interrupted,
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


def _frame(image: Tensor) -> Tensor:
    """A small copy as bytes, for the animation."""
    height, width = image.shape[-2:]
    scale = min(1.0, FRAME_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return (resize_image(image[None], size)[0].clamp(0, 1) * 255).round().to("cpu", torch.uint8)


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
        way = "resume_each" if begun["photographs"][0]["name"] else "resume"
        raise InputError(
            f"{folder}: was begun with networks given from Python ({', '.join(lacking)}); go on "
            f"from there: `invertkit.{way}({str(folder)!r}, models={{{lacking[0]!r}: …}})`."
        )
    registry = Registry()
    for path in begun["parts"]:
        registry = registry.with_parts(Path(path))
    job = Job(
        page=validate(begun["recipe"]),
        raw=begun["recipe"],
        photographs=tuple(Inputs.load(saved) for saved in begun["photographs"]),
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
