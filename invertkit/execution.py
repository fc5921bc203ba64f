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
from invertkit.report import write
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
    """Run a job to its end, to an interruption or to a stop; write its folder if there is one.

    Args:
        job: What to do.
        folder: An empty folder, or that of the interrupted run whose `state` is given.
        observers: Called after every step.
        checkpoint_every: Seconds between checkpoints.
        state: The checkpoint to go on from.
    """
    saver = checkpoint.Saver(folder, every=checkpoint_every) if folder is not None else None
    if saver is not None and state is None:
        saver.begin(
            job.raw,
            job.inputs,
            seeds=job.seeds,
            device=str(job.device),
            parts=job.parts,
            models=tuple(job.models),
            compile=job.compile,
            precision=job.precision,
        )
    done: list[dict[str, Any]] = list(state["done"]) if state else []
    problem = job.problem(job.seeds[:1])
    batches = job.batches(problem)
    names = {
        name: str(getattr(model, "description", type(model).__name__))
        for name, model in problem.models.items()
    }
    for model in names.values():
        log.info(f"Model: {model}.")
    status, first = Status.FINISHED, len(done)
    with _interrupts() as interrupted, products(job.precision):
        for index in range(first, len(batches)):
            batch = batches[index]
            problem = job.problem(batch) if index or len(batch) > 1 else problem
            going = _Going(
                Run(problem, compile=job.compile),
                state["now"] if state and index == first else None,
            )
            status = going.go(
                observers,
                interrupted,
                lambda now: None if saver is None else saver.save_if_due(done, now),
            )
            if status in (Status.INTERRUPTED, Status.STOPPED):
                if saver is not None:
                    saver.save(done, going.state())
                done.append(going.state())
                break
            done.append(going.state())
            if saver is not None:
                saver.save(done, None)
    result = _result(job, done, status, names)
    if folder is not None:
        write(result, folder)
    return result


@final
class _Going:
    """One batch on its way, with what is recorded of it."""

    def __init__(self, run: Run, state: Mapping[str, Any] | None) -> None:
        self.run = run
        self.history = History(state["rows"] if state else ())
        self.frames: list[Tensor] = list(state["frames"]) if state else []
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
                self.frames.append(_frame(self.run.last_images()[0]))
            if any([observer(report) == STOP for observer in observers]):
                self.run.status = Status.STOPPED
            if interrupted.is_set():
                self.run.status = Status.INTERRUPTED
            after(self.state)
        return self.run.status

    def state(self) -> dict[str, Any]:
        """All of it, as tensors, numbers, strings, lists and dicts."""
        return {
            "run": self.run.save(),
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


def _result(
    job: Job, done: Sequence[Mapping[str, Any]], status: Status, models: Mapping[str, str]
) -> Result:
    for state in done:
        if Status[state["status"]] is Status.NON_FINITE:
            status = Status.NON_FINITE
    count = sum(len(state["run"]["seeds"]) for state in done)
    final_size = done[-1]["best"].shape[-2:]

    def gather(key: str) -> Tensor:
        return torch.cat([resize_image(state[key].cpu(), tuple(final_size)) for state in done])

    return Result(
        best=gather("best").clamp(0, 1),
        last=gather("last").clamp(0, 1),
        result=job.page.result,
        tensors=_tensors([state["tensors"] for state in done]),
        seeds=job.seeds[:count],
        best_steps=tuple(step for state in done for step in state["best_steps"]),
        best_losses=tuple(loss for state in done for loss in state["best_losses"]),
        status=status,
        steps=max(state["run"]["step"] for state in done),
        seconds=sum(state["run"]["seconds"] for state in done),
        rows=tuple(state["rows"] for state in done),
        batches=tuple(len(state["run"]["seeds"]) for state in done),
        recipe=job.raw,
        inputs=job.inputs,
        models=models,
        device=str(job.device),
        frames=tuple(done[0]["frames"]),
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
        inputs=Inputs(*(begun["inputs"][name] for name in ("image", "mask", "target"))),
        seeds=tuple(begun["seeds"]),
        device=pick_device(begun["device"]),
        registry=registry,
        models=dict(models or {}),
        parts=tuple(begun["parts"]),
        compile=begun["compile"],
        precision=begun["precision"],
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
