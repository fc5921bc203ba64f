"""What a trained classifier is measured on, and with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from invertkit.training.classifier.normalized import Normalized
from invertkit.training.classifier.plan import TrainingPlan
from invertkit.training.data.photographs import (
    as_labelled,
    load_photographs,
    places_of,
    plain_batches,
)
from invertkit.training.data.streaming import Streamed
from invertkit.training.robustness.robustness import Batches, RobustAccuracy, robust_accuracy

STREAMED_FROM: Final = 128
"""Photographs kept at this side or a larger one are read from the disk as they are wanted."""

MeasuredCounts = dict[str, Sequence[RobustAccuracy]]
"""By what was measured and with which attack, the counts at each radius."""


def resolution_for(size: int) -> int:
    """Side at which photographs are kept for a network that looks at `size` pixels."""
    return 32 if size <= 64 else size


def shown_for_tests(
    path: Path,
    *,
    classes: tuple[str, ...] | None,
    size: int,
    resolution: int,
    stream: bool = False,
    workers: int | None = None,
) -> Callable[[], Batches]:
    """Photographs to measure on: checked now, in batches when they are wanted.

    Args:
        path: Folder or zip.
        classes: What labels are indices into; None where they are not wanted.
        size: Side of the images.
        resolution: Side at which they are kept in memory; see `STREAMED_FROM`.
        stream: Read them from the disk at any resolution.
        workers: Reading processes then; None for as many as there are processors to spare.

    Raises:
        InputError: They cannot be read, or are of other classes.
    """
    labelled = classes is not None
    if stream or resolution >= STREAMED_FROM:
        files = Streamed(path, labelled=labelled, workers=workers)
        # Compared now: hours later, after the training, it would be too late to complain.
        places = torch.tensor(places_of(files.classes, classes) if classes is not None else [0])
        return lambda: (
            (images, places[labels]) for images, labels in files.plain(size=size, batch=100)
        )
    photographs = load_photographs(path, resolution=resolution, labelled=labelled)
    if classes is not None:
        photographs = as_labelled(photographs, classes)
    return lambda: plain_batches(photographs, batch=250, size=size)


def measure(
    model: Normalized,
    test: Callable[[], Batches],
    *,
    plan: TrainingPlan,
    radii: Sequence[float] = (),
    attacks: Sequence[str] = ("pgd-20",),
    first: Normalized | None = None,
    report: Callable[[str], None],
) -> MeasuredCounts:
    """Robust accuracy, or agreement with a starting network, which is then measured too.

    Args:
        model: The trained network.
        test: Gives the photographs; called once for every network and attack.
        plan: Of the training, for norm and radius.
        radii: None for 0 and ½, 1, 2 and 5 times the plan's ε, or 0.05 (l2) or 1/255 (linf)
            where that is 0.
        attacks: See `robust_accuracy`.
        first: The starting network, whose clean predictions then are the labels.
        report: Receives a line a number.
    """
    norm = plan.attack.norm
    # A twin that was trained without attack is compared at radii that make sense all the same.
    unit = plan.attack.eps or (0.05 if norm == "l2" else 1 / 255)
    chosen = tuple(radii) or (0.0, unit / 2, unit, 2 * unit, 5 * unit)
    rivals: dict[str, nn.Module] = {"trained": model}
    if first is not None:
        first = first.to(model.mean.device).eval()
        rivals = {"starting network": first, **rivals}
    measured: MeasuredCounts = {}
    for attack in attacks:
        for name, network in rivals.items():
            batches = _predicted(first, test()) if first is not None else test()
            counts = robust_accuracy(network, batches, radii=chosen, norm=norm, attack=attack)
            measured[f"{name}, {attack}"] = counts
            kind = "agreement" if first is not None else "accuracy"
            for one in counts:
                under = f"under {one.attack} at {norm} ε = {one.eps:g}" if one.eps else "clean"
                report(f"{name}: {kind} {under}: {one}")
    return measured


@torch.no_grad()
def _predicted(model: Normalized, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """The same images, labelled by `model`."""
    for images, _ in batches:
        yield images, model(images.to(model.mean.device)).argmax(1)
