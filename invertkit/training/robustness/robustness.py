"""Robust accuracy: how many photographs a classifier still labels rightly under attack."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from invertkit.errors import InputError, ShapeError
from invertkit.training.data.photographs import PhotographSet, plain_batches
from invertkit.training.robustness.attack import Attack, Norm
from invertkit.training.robustness.pgd import pgd

Batches = Iterable[tuple[Tensor, Tensor]]
Finder = Callable[[nn.Module, Tensor, Tensor, float, int], Tensor]
AUTOATTACK = "autoattack"


@final
@dataclass(frozen=True)
class RobustAccuracy:
    """What was counted at one radius.

    Args:
        norm: `"l2"` or `"linf"`.
        eps: Radius, in the units of images in [0, 1], at the size the network saw.
        attack: `"none"` (radius 0: clean accuracy), `"pgd-N"` or `"autoattack"`.
        right: Photographs labelled rightly, and still so at every point the attack found.
        count: Photographs in all.
    """

    norm: Norm
    eps: float
    attack: str
    right: int
    count: int

    @property
    def share(self) -> float:
        """Accuracy, 0 to 1."""
        return self.right / self.count

    @property
    def standard_error(self) -> float:
        """Of `share` as an estimate of the accuracy on all photographs like these (binomial)."""
        return math.sqrt(self.share * (1 - self.share) / self.count)

    def __str__(self) -> str:
        """Such as `63.25 ± 1.08 %`."""
        return f"{100 * self.share:.2f} ± {100 * self.standard_error:.2f} %"


def measuring_attack(norm: Norm, eps: float, *, steps: int = 20) -> Attack:
    """The attack that accuracy is measured with: steps of 2.5 ε / `steps`, no random start.

    Example:
        >>> measuring_attack("l2", 0.8, steps=20).step_size
        0.1

    Source: Madry et al. 2018 measure with 20 steps; the step size is the default of
    MadryLab/robustness' evaluation, 2.5 ε over the number of steps.
    """
    return Attack(norm, eps, steps, 2.5 * eps / max(1, steps))


def robust_accuracy(
    model: nn.Module,
    photographs: PhotographSet | Batches,
    *,
    radii: Sequence[float],
    norm: Norm = "l2",
    attack: str = "pgd-20",
    size: int | None = None,
    batch: int = 250,
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> tuple[RobustAccuracy, ...]:
    """Accuracy at each radius, in the order of `radii`.

    Each photograph counts as right at a radius if it is labelled rightly as it is and also at the
    point that the attack finds in its ball. Photographs that are already wrong are not attacked.
    Each point is checked to lie in the ball and in [0, 1], and is labelled anew here.

    Args:
        model: From images in [0, 1] to logits `(b, k)`. It is measured in evaluation mode, and
            left in the mode it was in.
        photographs: Labelled photographs, or batches of images `(b, 3, h, w)` in [0, 1] and
            labels `(b,)`, each batch looked at once.
        radii: In the units of images in [0, 1], at the size the network sees; 0 is clean.
        norm: `"l2"` or `"linf"`.
        attack: `"pgd-N"`, N steps of 2.5 ε / N, or `"autoattack"`, which needs the extra
            `invertkit[attack]`.
        size: Side to which `photographs` are resized; by default their own. Not for batches.
        batch: Photographs at once. Not for batches.
        seed: Of AutoAttack's random numbers, from 0. They are drawn batch by batch.
        report: Receives a line a batch.

    Raises:
        InputError: An argument is out of range, nothing is to be measured, a label is no class of
            the model, or the extra is missing.
        ShapeError: The model does not give logits.
    """
    if not radii:
        raise InputError(
            "radii: expected at least one radius, got none. Give 0 for clean accuracy."
        )
    for radius in radii:
        Attack(norm, radius)  # complains of a norm or a radius that cannot be
    find = finder(attack, norm)
    batches = _in_batches(photographs, size=size, batch=batch)
    right, count = [0] * len(radii), 0
    with _evaluating(model):
        for number, (images, labels) in enumerate(batches):
            withstood = _right_at(model, images, labels, radii, norm, find, seed + number)
            right = [total + more for total, more in zip(right, withstood, strict=True)]
            count += len(labels)
            if report is not None:
                report(_so_far(right, count, radii))
    if count == 0:
        raise InputError("photographs: there are none to measure on.")
    return tuple(
        RobustAccuracy(norm, radius, attack if radius > 0 else "none", withstood, count)
        for radius, withstood in zip(radii, right, strict=True)
    )


def _in_batches(photographs: PhotographSet | Batches, *, size: int | None, batch: int) -> Batches:
    if not isinstance(photographs, PhotographSet):
        return photographs
    side = photographs.images.shape[-1] if size is None else size
    return plain_batches(photographs, batch=batch, size=side)


def _so_far(right: Sequence[int], count: int, radii: Sequence[float]) -> str:
    shares = (f"{r / count:.3f} at ε = {e:g}" for r, e in zip(right, radii, strict=True))
    return f"{count} photographs: {', '.join(shares)}"


def _right_at(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    radii: Sequence[float],
    norm: Norm,
    find: Finder,
    seed: int,
) -> list[int]:
    """How many images of a batch are right at each radius."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    images = images.to(device, memory_format=torch.channels_last)
    labels = labels.to(device)
    clean = still_right(model, images, labels)
    images, labels = images[clean], labels[clean]
    right = [len(labels)] * len(radii)
    for i, radius in enumerate(radii):
        if radius > 0 and len(labels):
            points = find(model, images, labels, radius, seed)
            right[i] -= int(fooled(model, points, images, labels, norm, radius).sum())
    return right


def finder(attack: str, norm: Norm) -> Finder:
    """What looks for a point: called with model, images, labels, radius and seed.

    Raises:
        InputError: There is no such attack, or its extra is missing.
    """
    if attack == AUTOATTACK:
        from invertkit.training.robustness.autoattack import autoattack, require_autoattack

        require_autoattack()
        return lambda model, images, labels, eps, seed: autoattack(
            model, images, labels, norm=norm, eps=eps, seed=seed
        )
    match = re.fullmatch(r"pgd-([1-9]\d{0,5})", attack)
    if match is None:
        raise InputError(
            f"attack: expected pgd-N with N steps, such as pgd-20, or {AUTOATTACK}, got {attack!r}."
        )
    steps = int(match[1])
    return lambda model, images, labels, eps, seed: pgd(
        measuring_attack(norm, eps, steps=steps), model, images, labels
    )


def still_right(
    model: nn.Module, images: Float[Tensor, "b 3 h w"], labels: Int[Tensor, " b"]
) -> Bool[Tensor, " b"]:
    """Whether the class of highest logit is the label.

    Raises:
        InputError: A label is no class of the model.
        ShapeError: The model does not give one row of logits an image.
    """
    with torch.no_grad():
        logits = model(images)
    if logits.ndim != 2 or len(logits) != len(images):
        raise ShapeError(
            f"model: expected logits of shape ({len(images)}, classes), got {tuple(logits.shape)}."
        )
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]):
        raise InputError(
            f"labels: expected classes 0 to {logits.shape[1] - 1} of the model, got "
            f"{int(labels.min())} to {int(labels.max())}."
        )
    return logits.argmax(1) == labels  # type: ignore[no-any-return]


def fooled(
    model: nn.Module, points: Tensor, images: Tensor, labels: Tensor, norm: Norm, eps: float
) -> Bool[Tensor, " b"]:
    """Which `points` `(b, 3, h, w)` are labelled wrongly and may be chosen by an attack."""
    return ~still_right(model, points, labels) & inside(points, images, norm, eps)


def inside(points: Tensor, images: Tensor, norm: Norm, eps: float) -> Tensor:
    """Which points are in the closed ball, up to rounding, and in [0, 1], `(b,)`; NaN is not."""
    difference = (points - images).flatten(1).double()
    length = difference.norm(dim=1) if norm == "l2" else difference.abs().amax(1)
    flat = points.flatten(1)
    in_box = (flat.amin(1) >= 0) & (flat.amax(1) <= 1)
    return (length <= eps * (1 + 1e-4) + 1e-6) & in_box


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Every part in evaluation mode while the block runs."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def every(photographs: PhotographSet, stride: int) -> PhotographSet:
    """Each `stride`-th photograph, in the order of the classes: fewer of each class.

    Raises:
        InputError: `stride` is below 1.
    """
    if stride < 1:
        raise InputError(f"every: expected a whole number from 1, got {stride}.")
    return replace(
        photographs,
        images=photographs.images[::stride],
        labels=photographs.labels[::stride],
    )


def table(results: Mapping[str, Sequence[RobustAccuracy]]) -> str:
    """A Markdown table: a row a classifier, a column a radius, accuracy ± standard error in %."""
    rows = list(results.items())
    columns = [f"{r.norm} ε = {r.eps:g}" if r.eps else "clean" for r in rows[0][1]]
    cells = [["classifier", *columns], *([name, *map(str, row)] for name, row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = [
        " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) for line in cells
    ]
    rule = " | ".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))
