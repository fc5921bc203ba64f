"""What a notebook calls: `run`, `resume`, and the job that both of them carry out."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, final

import torch
from torch import Tensor

from invertkit import checkpoint
from invertkit.demo import CREDIT, demo_inputs
from invertkit.engine import Problem, Report, Run, Status
from invertkit.errors import InputError
from invertkit.images import ImageLike, Inputs, load_image, load_mask
from invertkit.recipe.build import build
from invertkit.recipe.page import Node, Page, choose, override, read_raw, validate
from invertkit.registry import Registry
from invertkit.report import new_folder, write
from invertkit.result import History, Result
from invertkit.view import resize_image

log = logging.getLogger("invertkit")
log.addHandler(logging.NullHandler())

Observer = Callable[[Report], object]
"""Called after every step. Returning `STOP` ends the run."""

STOP = "stop"
FRAMES = 36
FRAME_SIDE = 160


def run(
    recipe: str | Path = "magic",
    *,
    image: ImageLike | None = None,
    mask: ImageLike | None = None,
    target: ImageLike | None = None,
    seed: int = 0,
    seeds: int = 1,
    device: str = "auto",
    budget: str | None = None,
    choices: Mapping[str, str] | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    models: Mapping[str, Any] | None = None,
    parts: Sequence[str | Path] = (),
    out: str | Path | None = None,
    observers: Sequence[Observer] = (),
    progress: bool | None = None,
    checkpoint_every: float = 20.0,
) -> Result:
    """Carry out a recipe.

    Args:
        recipe: Name of a recipe, or the path of a page.
        image: Photograph: a path, PIL image, array or tensor; see `invertkit.images.ImageLike`.
            If the recipe needs inputs and none at all is given, the demonstration is used.
        mask: Where its object is: the same kinds, of the same size, white on the object.
        target: Where the object shall be.
        seed: Of the first image; the others count up from it.
        seeds: How many images. Each is the same alone or in company.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        budget: Option of the recipe's choice `budget`, such as `preview` or `full`.
        choices: Option of any other choice, such as `{"mode": "location"}`.
        overrides: `{"objective.control.weight": 20}`, or the same as `KEY=VALUE` texts.
        models: Networks by name, replacing the recipe's: any `nn.Module` that takes
            ImageNet-normalised images, or a `Classifier` for other normalisations.
        parts: Python files with parts of your own.
        out: Folder to write; without it nothing is written.
        observers: Called after every step.
        progress: Show a progress bar; by default on a terminal or in a notebook.
        checkpoint_every: Seconds between checkpoints, if there is a folder.

    Returns:
        The result; interrupted by Ctrl-C, the result so far.

    Raises:
        InvertkitError: Anything the caller can mend, in one sentence.
    """
    job = prepare(
        recipe,
        image=image,
        mask=mask,
        target=target,
        seed=seed,
        seeds=seeds,
        device=device,
        choices={**(choices or {}), **({"budget": budget} if budget else {})},
        overrides=overrides,
        models=models,
        parts=parts,
    )
    for sentence in job.said:
        log.info(sentence)
    folder = new_folder(Path(out)) if out is not None else None
    with progress_bar(job, wanted=progress) as bar:
        return carry_out(
            job, folder=folder, observers=(*observers, *bar), checkpoint_every=checkpoint_every
        )


def resume(
    folder: str | Path,
    *,
    models: Mapping[str, Any] | None = None,
    observers: Sequence[Observer] = (),
    progress: bool | None = None,
    checkpoint_every: float = 20.0,
) -> Result:
    """Go on with an interrupted run, to the same picture as if it had never stopped.

    Args:
        folder: Of the run.
        models: The networks that were given from Python, if any were.
        observers: Called after every step.
        progress: As in `run`.
        checkpoint_every: Seconds between checkpoints.

    Raises:
        InputError: The folder holds no checkpoint.
    """
    path = Path(folder)
    job, state = restored(path, models=models)
    with progress_bar(job, wanted=progress) as bar:
        return carry_out(
            job,
            folder=path,
            observers=(*observers, *bar),
            checkpoint_every=checkpoint_every,
            state=state,
        )


@final
@dataclass(frozen=True)
class Job:
    """A recipe with its inputs, ready to run.

    Args:
        page: The resolved recipe, checked.
        raw: The same as plain data, written beside the result.
        inputs: Photograph and masks.
        seeds: One per image.
        device: Where.
        registry: The parts that exist.
        models: Networks given from Python.
        parts: Files with the user's own parts.
        said: What to tell the user before the first step.
    """

    page: Page
    raw: Node
    inputs: Inputs
    seeds: tuple[int, ...]
    device: torch.device
    registry: Registry = field(default_factory=Registry)
    models: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    said: tuple[str, ...] = ()

    def problem(self, seeds: tuple[int, ...]) -> Problem:
        """The problem of some of the images."""
        return build(
            self.page,
            self.inputs,
            seeds=seeds,
            device=self.device,
            registry=self.registry,
            models=self.models,
        )

    def batches(self, problem: Problem) -> list[tuple[int, ...]]:
        """Which images are solved side by side.

        On a CPU one at a time: it is as fast, takes less memory, and rounds the same whatever the
        company. On an accelerator all at once, unless the optimizer would mix them.
        """
        if self.device.type == "cpu" or problem.optimizer.couples_images:
            return [(seed,) for seed in self.seeds]
        return [self.seeds]


def prepare(
    recipe: str | Path,
    *,
    image: ImageLike | None = None,
    mask: ImageLike | None = None,
    target: ImageLike | None = None,
    seed: int = 0,
    seeds: int = 1,
    device: str = "auto",
    choices: Mapping[str, str] | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    models: Mapping[str, Any] | None = None,
    parts: Sequence[str | Path] = (),
) -> Job:
    """Read, choose, override and check a recipe, and load its inputs; see `run`."""
    if seeds < 1:
        raise InputError(f"seeds: expected at least 1 image, got {seeds}.")
    where = pick_device(device)
    registry = Registry()
    for path in parts:
        registry = registry.with_parts(Path(path))
    raw = read_raw(recipe)
    notes: Mapping[str, str] = raw.get("notes") or {}
    options = raw.get("choices") or {}
    raw = choose(raw, choices or {}, device=where.type)
    if isinstance(overrides, Mapping):
        overrides = [f"{key}={value}" for key, value in overrides.items()]
    page = validate(override(raw, overrides), text=_own_text(recipe))
    raw = override(raw, overrides)
    said = [*_about_choices(page, notes, options, choices or {}, where)]
    if page.inputs and image is mask is target is None:
        inputs = demo_inputs()
        said.append(f"No image given: taking the demonstration ({CREDIT}) and its two masks.")
    else:
        inputs = Inputs(
            None if image is None else load_image(image),
            None if mask is None else load_mask(mask),
            None if target is None else load_mask(target, who="target"),
        )
    return Job(
        page=page,
        raw=raw,
        inputs=inputs,
        seeds=tuple(range(seed, seed + seeds)),
        device=where,
        registry=registry,
        models=dict(models or {}),
        parts=tuple(str(Path(path).resolve()) for path in parts),
        said=tuple(said),
    )


def pick_device(device: str) -> torch.device:
    """The torch device of that name; `auto` is CUDA where there is one, else the CPU.

    Raises:
        InputError: CUDA is asked for and absent, or the name means nothing.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = torch.device("meta")
    if wanted.type not in ("cpu", "cuda"):
        raise InputError(f"device: expected auto, cpu, cuda or cuda:N, got {device!r}.")
    if wanted.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (wanted.index or 0) >= count:
            raise InputError(
                f"device: {device!r} was asked for, but this machine has {count or 'no'} CUDA "
                f"device{'s' if count > 1 else ''} that PyTorch can use. Use `--device cpu`, or "
                "install a CUDA build of PyTorch."
            )
    return wanted


def _own_text(recipe: str | Path) -> str | None:
    """Text of the user's own page, so that messages can name its lines."""
    path = Path(recipe)
    return path.read_text(encoding="utf-8") if path.suffix in (".yaml", ".yml") else None


def _about_choices(
    page: Page,
    notes: Mapping[str, str],
    options: Mapping[str, Any],
    wanted: Mapping[str, str],
    device: torch.device,
) -> Iterator[str]:
    """Which option of each choice was taken, why, and how to ask for another."""
    for group, option in page.chosen.items():
        if group not in options:
            continue
        others = [name for name in options[group]["options"] if name != option]
        why = (
            "as asked"
            if group in wanted
            else f"since this runs on {device.type}"
            if isinstance(options[group]["default"], dict)
            else "by default"
        )
        note = notes.get(f"{group}.{option}", "")
        flag = f"--{group}" if group == "budget" else f"--choose {group}="
        ask = " or ".join(f"{flag}{' ' if group == 'budget' else ''}{other}" for other in others)
        yield (
            f"{group}: {option}, {why}{': ' + note if note else ''}."
            f"{f' For the other: {ask}.' if others else ''}"
        )


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
        saver.begin(job.raw, job.inputs, seeds=job.seeds, device=str(job.device), parts=job.parts)
    done: list[dict[str, Any]] = list(state["done"]) if state else []
    problem = job.problem(job.seeds[:1])
    batches = job.batches(problem)
    names = {
        name: str(getattr(model, "description", type(model).__name__))
        for name, model in problem.models.items()
    }
    for model in names.values():
        log.info(f"Model: {model}.")
    status = Status.FINISHED
    with _interrupts() as interrupted:
        for index in range(len(done), len(batches)):
            batch = batches[index]
            problem = job.problem(batch) if index or len(batch) > 1 else problem
            going = _Going(Run(problem), state["now"] if state and index == len(done) else None)
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


def dry_run(job: Job, *, steps: int = 2) -> int:
    """Take a few steps of every stage and throw the pictures away; how many were taken.

    Players that learn before a stage do so for as many updates only.
    """
    problem = job.problem(job.seeds[:1])
    stages = [replace(stage, steps=min(stage.steps, steps)) for stage in problem.stages]
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


@contextlib.contextmanager
def progress_bar(job: Job, *, wanted: bool | None) -> Iterator[tuple[Observer, ...]]:
    """A progress bar as an observer, if it is wanted."""
    from invertkit import progress

    if not (progress.somebody_looks() if wanted is None else wanted):
        yield ()
        return
    with progress.Bar(images=len(job.seeds), one_by_one=job.device.type == "cpu") as bar:
        yield (bar,)
