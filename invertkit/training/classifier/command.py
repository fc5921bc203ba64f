"""`invertkit train classifier`: train, measure, and write weights with their card."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import torch

from invertkit.core.devices import pick_device
from invertkit.errors import InputError, InvertkitError
from invertkit.training.classifier.card import Facts, save_classifier, write_card
from invertkit.training.classifier.measuring import (
    STREAMED_FROM,
    MeasuredCounts,
    measure,
    resolution_for,
    shown_for_tests,
)
from invertkit.training.classifier.normalized import Normalized
from invertkit.training.classifier.plan import TrainingPlan
from invertkit.training.classifier.sources import Sources
from invertkit.training.classifier.start import KITNET, Start, starting_network
from invertkit.training.classifier.train import steps_done, train_classifier
from invertkit.training.data.batches import InMemory, TrainingData
from invertkit.training.data.photographs import load_photographs
from invertkit.training.data.streaming import Streamed, spare_processors
from invertkit.training.loop.bar import TrainingBar
from invertkit.training.loop.checkpoints import CHECKPOINT, expect_begun, expect_new, make_folder
from invertkit.training.loop.history import (
    TensorBoard,
    TrainingHistory,
    TrainingMoment,
    TrainingObserver,
)
from invertkit.training.loop.options import Machines, Tell, Telling
from invertkit.training.processes.team import Team, team_of
from invertkit.training.robustness.attack import Attack
from invertkit.training.robustness.robustness import Batches, finder

WEIGHTS: Final = "classifier.safetensors"


def train_and_measure(
    *,
    sources: Sources,
    out: Path,
    plan: TrainingPlan,
    machines: Machines,
    telling: Telling,
    resume: bool = False,
) -> Path | None:
    """Train as asked, and leave weights, model card, history and checkpoint in `out`.

    Args:
        sources: Photographs and starting weights.
        out: Folder.
        plan: What to do; its `size` is replaced by that of `sources`, or by the network's own.
        machines: Where.
        telling: What to say and to measure.
        resume: Go on with the training in `out`.

    Returns:
        Path of `classifier.safetensors`; None on all processes but the leading one.

    Raises:
        InputError: The data cannot be used, an argument is out of range, an extra is missing, or
            the training has diverged.
        WeightsError: The starting weights cannot be had or do not fit.
        KeyboardInterrupt: It was stopped; the checkpoint is written.
    """
    plan = replace(plan, size=sources.size or plan.size)
    _check(sources, plan, telling)
    team = team_of(pick_device(machines.device), devices=machines.devices, nodes=machines.nodes)
    if sources.workers is None:
        sources = replace(sources, workers=spare_processors(team.local))
    try:
        _agreed(team, lambda: expect_begun(out / CHECKPOINT) if resume else expect_new(out))
        return _carry_out(sources, out, plan, resume=resume, team=team, telling=telling)
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


def _check(sources: Sources, plan: TrainingPlan, telling: Telling) -> None:
    """Complain of what cannot be, before anything is read."""
    workers = 0 if sources.workers is None else sources.workers
    if telling.log_every < 1 or telling.save_every < 0 or workers < 0:
        raise InputError(
            "expected --log-every at least 1, --save-every and --workers not below 0, got "
            f"{telling.log_every}, {telling.save_every:g} and {workers}."
        )
    for name in telling.attacks:
        finder(name, plan.attack.norm)
    for radius in telling.radii:
        Attack(plan.attack.norm, radius)


def _agreed(team: Team, check: Callable[[], None]) -> None:
    """Let the leading process check what is on the disk, and everybody stop if it is wrong."""
    fault: InvertkitError | None = None
    if team.leads:
        try:
            check()
        except InvertkitError as error:
            fault = error
    # A process that stopped alone would leave the others waiting for it.
    failed = team.sum(torch.tensor(float(fault is not None), device=team.device))
    if failed:
        raise fault or InputError("see the leading process.")


def _carry_out(
    sources: Sources, out: Path, plan: TrainingPlan, *, resume: bool, team: Team, telling: Telling
) -> Path | None:
    data, start, plan = _prepared(sources, plan)
    test = None if sources.test is None else _tests(sources.test, sources, plan, start)
    # The training changes `start` in place; what it said before is what label-free tests compare.
    before = deepcopy(start) if plan.label_free else start
    with _audience(out, telling, step=steps_done(out) if resume else 0, team=team) as audience:
        model = train_classifier(
            plan,
            data,
            out=out,
            start=start,
            resume=resume,
            team=team,
            report=audience.report,
            observers=audience.observers,
            log_every=telling.log_every,
            save_every=telling.save_every,
        )
        if not team.leads:
            return None
        path, report = out / WEIGHTS, audience.report
        # Before it is measured, which may take as long again: what was trained is safe by then.
        save_classifier(model, plan, start, start.classes, path)
        report(f"{path}: {path.stat().st_size / 1e6:.1f} MB.")
        measured = {} if test is None else _measured(model, test, plan, before, telling, report)
        if audience.board is not None:
            steps = plan.epochs * (len(data) // plan.batch)
            audience.board.add(_numbers(measured), TrainingMoment(steps, steps, None))
        facts = _facts(data, start, measured, sources=sources, telling=telling)
        write_card(path.with_name("classifier.md"), path, plan, facts, start.classes)
        report(f"{out / 'classifier.md'}: the model card.")
    return path


def _measured(
    model: Normalized,
    test: Callable[[], Batches],
    plan: TrainingPlan,
    before: Start,
    telling: Telling,
    report: Tell,
) -> MeasuredCounts:
    """Accuracy; without labels agreement with the network from before the training."""
    return measure(
        model,
        test,
        plan=plan,
        radii=telling.radii,
        attacks=telling.attacks,
        first=Normalized(before.net, model.mean, model.std) if plan.label_free else None,
        report=report,
    )


def _facts(
    data: TrainingData,
    start: Start,
    measured: MeasuredCounts,
    *,
    sources: Sources,
    telling: Telling,
) -> Facts:
    """What the model card tells beside the plan."""
    return Facts(
        start=start,
        source=data.source,
        count=len(data),
        names=data.files.names if isinstance(data, Streamed) else (),
        command=telling.command,
        measured=measured,
        test=str(sources.test or ""),
    )


class _Audience(NamedTuple):
    """Who hears of a training: the user a line at a time, observers every step."""

    report: Tell
    observers: Sequence[TrainingObserver]
    board: TensorBoard | None


@contextmanager
def _audience(out: Path, telling: Telling, *, step: int, team: Team) -> Iterator[_Audience]:
    """Of the leading process; the others speak to nobody."""
    if not team.leads:
        yield _Audience(lambda line: None, (), None)
        return
    make_folder(out)
    report, board = telling.report, None
    observers: list[TrainingObserver] = [TrainingHistory(out / "history.csv", step=step)]
    with ExitStack() as stack:
        if telling.tensorboard:
            board = TensorBoard(out / "tensorboard", step=step)
            stack.callback(board.close)
            observers.append(board)
        if telling.bar:
            bar = stack.enter_context(TrainingBar())
            report = bar.say  # above the bar, not through it
            observers.append(bar)
        yield _Audience(report, observers, board)


def _tests(path: Path, sources: Sources, plan: TrainingPlan, start: Start) -> Callable[[], Batches]:
    return shown_for_tests(
        path,
        classes=None if plan.label_free else start.classes,
        size=plan.size,
        resolution=sources.resolution or resolution_for(plan.size),
        stream=sources.stream,
        workers=sources.workers,
    )


def _prepared(sources: Sources, plan: TrainingPlan) -> tuple[TrainingData, Start, TrainingPlan]:
    """Photographs, network and the plan with its size."""
    labelled = not plan.label_free
    streamed = sources.stream or (sources.resolution or 0) >= STREAMED_FROM
    data: TrainingData | None = None
    if streamed or sources.resolution is None:
        files = Streamed(
            sources.data,
            labelled=labelled,
            workers=sources.workers,
            smallest_crop=plan.smallest_crop,
        )
        data, classes = files, files.classes
    else:
        data = _in_memory(sources.data, sources.resolution, labelled=labelled)
        classes = data.classes
    # The network before the photographs where they are kept in memory: at which side, it decides.
    start = starting_network(
        classes=classes,
        model=sources.model,
        pretrained=sources.pretrained,
        init=sources.init,
        widths=plan.widths,
        seed=plan.seed,
    )
    size = sources.size or start.size or (plan.size if start.architecture == KITNET else 224)
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


def _numbers(measured: MeasuredCounts) -> dict[str, float]:
    """What was measured, by the names under which TensorBoard shows it."""
    return {
        f"test/{name} {one.norm} eps {one.eps:g}": one.share
        for name, counts in measured.items()
        for one in counts
    }
