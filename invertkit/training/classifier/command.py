"""`invertkit train classifier`: train, measure, and write weights with their card."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

import torch

from invertkit.errors import InputError, InvertkitError
from invertkit.training.classifier.card import Facts, save_classifier, write_card
from invertkit.training.classifier.measuring import (
    STREAMED_FROM,
    Measured,
    measure,
    resolution_for,
    shown_for_tests,
)
from invertkit.training.classifier.normalized import Normalized
from invertkit.training.classifier.plan import TrainingPlan
from invertkit.training.classifier.start import KITNET, Start, starting_network
from invertkit.training.classifier.train import Report, steps_done, train_classifier
from invertkit.training.data.batches import InMemory, TrainingData
from invertkit.training.data.photographs import load_photographs
from invertkit.training.data.streaming import Streamed
from invertkit.training.loop.bar import TrainingBar
from invertkit.training.loop.checkpoints import CHECKPOINT, expect_begun, expect_new, make_folder
from invertkit.training.loop.history import History, Moment, Observer, TensorBoard
from invertkit.training.processes.team import Team, team_of
from invertkit.training.robustness.attack import Attack
from invertkit.training.robustness.robustness import finder

WEIGHTS: Final = "classifier.safetensors"


@final
@dataclass(frozen=True)
class Sources:
    """Where photographs and starting weights come from.

    Args:
        data: Folder or zip of training photographs.
        test: The same, to measure on; None to measure nothing.
        model: `kitnet` or `timm:NAME`; None for what `init` says, else `kitnet`.
        pretrained: Load a timm model's published weights.
        init: A weights file to start from, or `embedded`.
        resolution: Side at which photographs are kept in memory; None for 32 or, for networks that
            look at more than 64 pixels, the network's own.
        stream: Read photographs from the disk as the training goes; always so from a resolution of
            128 on.
        workers: Processes that read then.
    """

    data: Path
    test: Path | None = None
    model: str | None = None
    pretrained: bool = True
    init: str | None = None
    resolution: int | None = None
    stream: bool = False
    workers: int = 4


@final
@dataclass(frozen=True)
class Machines:
    """Where to train.

    Args:
        device: As PyTorch names it.
        devices: Processes on this machine.
        nodes: Machines.
    """

    device: str = "cpu"
    devices: int = 1
    nodes: int = 1


@final
@dataclass(frozen=True)
class Telling:
    """What is said and written on the way, and measured at the end.

    Args:
        report: Receives what is to be told, a line at a time.
        bar: Draw a progress bar; lines then appear above it.
        tensorboard: Also write TensorBoard event files.
        log_every: Steps per row of the history.
        save_every: Seconds between checkpoints.
        radii: To measure at; none for 0 and ½, 1, 2 and 5 times ε.
        attacks: To measure with, such as `pgd-20` and `autoattack`.
        command: As it was typed, for the model card.
    """

    report: Report = print
    bar: bool = False
    tensorboard: bool = False
    log_every: int = 50
    save_every: float = 300.0
    radii: tuple[float, ...] = ()
    attacks: tuple[str, ...] = ("pgd-20",)
    command: str = ""


def train_and_measure(
    *,
    sources: Sources,
    out: Path,
    plan: TrainingPlan,
    size: int | None = None,
    resume: bool = False,
    machines: Machines = Machines(),
    telling: Telling = Telling(),
) -> Path | None:
    """Train as asked, and leave weights, model card, history and checkpoint in `out`.

    Args:
        sources: Photographs and starting weights.
        out: Folder.
        plan: What to do; its `size` is replaced.
        size: Side of the network's input; None for the network's own, 64 for `kitnet`.
        resume: Go on with the training in `out`.
        machines: Where.
        telling: What to say and to measure.

    Returns:
        Path of `classifier.safetensors`; None on all processes but the leading one.

    Raises:
        InputError: The data cannot be used, an argument is out of range, an extra is missing, or
            the training has diverged.
        WeightsError: The starting weights cannot be had or do not fit.
        KeyboardInterrupt: It was stopped; the checkpoint is written.
    """
    if telling.log_every < 1 or telling.save_every < 0 or sources.workers < 0:
        raise InputError(
            "expected --log-every at least 1, --save-every and --workers not below 0, got "
            f"{telling.log_every}, {telling.save_every:g} and {sources.workers}."
        )
    for name in telling.attacks:
        finder(name, plan.attack.norm)  # complains of one that there is not
    for radius in telling.radii:
        Attack(plan.attack.norm, radius)  # likewise
    team = team_of(torch.device(machines.device), devices=machines.devices, nodes=machines.nodes)
    try:
        _agreed(team, lambda: expect_begun(out / CHECKPOINT) if resume else expect_new(out))
        return _carry_out(sources, out, plan, size=size, resume=resume, team=team, telling=telling)
    except InvertkitError:
        if team.leads:
            raise
        raise SystemExit(2) from None  # the leading process says it
    except RuntimeError as error:
        if team.leads or "peer" not in str(error):
            raise
        raise SystemExit(2) from None  # the leading process ended, and said why
    except KeyboardInterrupt:
        if team.leads:
            begun = (out / CHECKPOINT).is_file()
            more = "Go on with the same options and --resume." if begun else "Nothing was begun."
            telling.report(f"Interrupted. {more}")
        raise
    finally:
        team.leave()


def _agreed(team: Team, check: Callable[[], None]) -> None:
    """Let the leading process check what is on the disk, and everybody stop if it is wrong."""
    fault: InvertkitError | None = None
    if team.leads:
        try:
            check()
        except InvertkitError as error:
            fault = error
    failed = team.sum(torch.tensor(float(fault is not None), device=team.device))
    if failed:
        raise fault or InputError("see the leading process.")


def _carry_out(
    sources: Sources,
    out: Path,
    plan: TrainingPlan,
    *,
    size: int | None,
    resume: bool,
    team: Team,
    telling: Telling,
) -> Path | None:
    data, start, plan = _prepared(sources, plan, size)
    test = (
        shown_for_tests(
            sources.test,
            classes=None if plan.label_free else start.classes,
            size=plan.size,
            resolution=sources.resolution or resolution_for(plan.size),
            stream=sources.stream,
            workers=sources.workers,
        )
        if sources.test
        else None
    )
    before = deepcopy(start) if plan.label_free else start
    step = steps_done(out) if resume else 0
    with ExitStack() as stack:
        report, observers = telling.report, list[Observer]()
        if team.leads:
            make_folder(out)
            observers.append(History(out / "history.csv", step=step))
            if telling.tensorboard:
                board = TensorBoard(out / "tensorboard", step=step)
                stack.callback(board.close)
                observers.append(board)
            if telling.bar:
                bar = stack.enter_context(TrainingBar())
                report = bar.say
                observers.append(bar)
        else:
            report = lambda line: None
        model = train_classifier(
            plan,
            data,
            out=out,
            start=start,
            resume=resume,
            team=team,
            report=report,
            observers=observers,
            log_every=telling.log_every,
            save_every=telling.save_every,
        )
        if not team.leads:
            return None
        path = out / WEIGHTS
        save_classifier(model, plan, start, start.classes, path)
        report(f"{path}: {path.stat().st_size / 1e6:.1f} MB.")
        measured: Measured = {}
        if test is not None:
            first = Normalized(before.net, model.mean, model.std) if plan.label_free else None
            measured = measure(
                model,
                test,
                plan=plan,
                radii=telling.radii,
                attacks=telling.attacks,
                first=first,
                report=report,
            )
        if telling.tensorboard:
            _to_board(board, measured, plan, steps=plan.epochs * (len(data) // plan.batch))
        _write(path, plan, sources, data, start, measured, telling)
        report(f"{out / 'classifier.md'}: the model card.")
    return path


def _prepared(
    sources: Sources, plan: TrainingPlan, size: int | None
) -> tuple[TrainingData, Start, TrainingPlan]:
    """Photographs, network and the plan with its size."""
    labelled = not plan.label_free
    streamed = sources.stream or (sources.resolution or 0) >= STREAMED_FROM
    data: TrainingData | None = None
    if streamed or sources.resolution is None:
        files = Streamed(sources.data, labelled=labelled, workers=sources.workers)
        data, classes = files, files.classes
    else:
        data = _in_memory(sources.data, sources.resolution, labelled=labelled)
        classes = data.classes
    start = starting_network(
        classes=classes,
        model=sources.model,
        pretrained=sources.pretrained,
        init=sources.init,
        widths=plan.widths,
        seed=plan.seed,
    )
    size = size or start.size or (plan.size if start.architecture == KITNET else 224)
    if start.fixed and size != start.size:
        raise InputError(f"--size: {start.architecture} takes {start.size}×{start.size} only.")
    plan = replace(plan, size=size, widths=start.widths or plan.widths)
    resolution = sources.resolution or resolution_for(size)
    if not streamed and sources.resolution is None and resolution < STREAMED_FROM:
        data = _in_memory(sources.data, resolution, labelled=labelled)
    return data, start, plan


def _in_memory(source: Path, resolution: int, *, labelled: bool) -> InMemory:
    if resolution < 2:
        raise InputError(f"--resolution: expected at least 2, got {resolution}.")
    return InMemory(load_photographs(source, resolution=resolution, labelled=labelled), str(source))


def _to_board(
    board: TensorBoard,
    measured: Measured,
    plan: TrainingPlan,
    *,
    steps: int,
) -> None:
    numbers = {
        f"test/{name} {one.norm} eps {one.eps:g}": one.share
        for name, counts in measured.items()
        for one in counts
    }
    board.add(numbers, Moment(steps, steps, None))


def _write(
    path: Path,
    plan: TrainingPlan,
    sources: Sources,
    data: TrainingData,
    start: Start,
    measured: Measured,
    telling: Telling,
) -> None:
    facts = Facts(
        start=start,
        source=data.source,
        count=len(data),
        names=data.files.names if isinstance(data, Streamed) else (),
        command=telling.command,
        measured=measured,
        test=str(sources.test or ""),
    )
    write_card(path.with_name("classifier.md"), path, plan, facts, start.classes)
