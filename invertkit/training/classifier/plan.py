"""The plan of an adversarial training: everything that decides the weights."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, final

from annotated_types import Ge, Le

from invertkit.core.flags import NO_FLAG, Flag
from invertkit.core.ranges import Count, Index, NonNegative, expect_in_range
from invertkit.errors import InputError
from invertkit.training.loop.options import ATTACK, DATA, NETWORK
from invertkit.training.robustness.attack import Attack

Points = tuple[tuple[float, float], ...]
"""(epoch, multiplier) pairs, joined by straight lines and constant outside."""

Schedule = Literal["triangle", "step", "cyclic", "constant", "points"]
SCHEDULES: Final[tuple[Schedule, ...]] = ("triangle", "step", "cyclic", "constant")
SMALLEST: Final = 16


def read_points(text: str, *, option: str) -> Points:
    """`0=0,5=1` as (epoch, multiplier) pairs.

    Example:
        >>> read_points("0=0,5=1", option="--eps-schedule")
        ((0.0, 0.0), (5.0, 1.0))

    Raises:
        InputError: It is not of that form, or epochs do not rise.
    """
    try:
        pairs = [tuple(map(float, pair.split("="))) for pair in text.split(",")]
        points: Points = tuple((epoch, value) for epoch, value in pairs)
    except ValueError:
        points = ()
    rising = all(a < b for (a, _), (b, _) in pairwise(points))
    sane = all(math.isfinite(a) and math.isfinite(b) and b >= 0 for a, b in points)
    if not points or not rising or not sane:
        raise InputError(
            f"{option}: expected EPOCH=MULTIPLIER pairs with rising epochs, such as 0=0,5=1, "
            f"got {text!r}."
        )
    return points


def read_eps_schedule(text: str) -> Points:
    """`constant`, `ramp:EPOCHS`, or points, as points.

    Raises:
        InputError: It is none of these.
    """
    if text == "constant":
        return ()
    kind, _, length = text.partition(":")
    if kind == "ramp":
        return read_points(f"0=0,{length}=1", option="--eps-schedule ramp:EPOCHS")
    return read_points(text, option="--eps-schedule")


def read_lr_schedule(text: str) -> tuple[Schedule, Points]:
    """A schedule by name, or points.

    Raises:
        InputError: It is neither.
    """
    for name in SCHEDULES:
        if text == name:
            return name, ()
    if "=" not in text:
        raise InputError(
            f"--lr-schedule: expected {', '.join(SCHEDULES)} or EPOCH=MULTIPLIER,…, got {text!r}."
        )
    return "points", read_points(text, option="--lr-schedule")


_EPS_SCHEDULE: Final = Flag(
    "--eps-schedule",
    panel=ATTACK,
    help="constant, ramp:EPOCHS, or EPOCH=MULTIPLIER,… joined by lines.",
    typed=str,
    default="constant",
    reads=lambda text: {"eps_points": read_eps_schedule(text)},
)
_LR_SCHEDULE: Final = Flag(
    help="triangle, step, cyclic, constant, or EPOCH=MULTIPLIER,…",
    typed=str,
    default="triangle",
    reads=lambda text: dict(zip(("lr_schedule", "lr_points"), read_lr_schedule(text), strict=True)),
)


@final
@dataclass(frozen=True)
class TrainingPlan:
    """Everything that decides the weights, so that it can stand in the model card.

    Args:
        attack: The inner maximisation; `eps=0` trains the non-robust twin. Radius and step size are
            measured at `size`.
        epochs: Passes over the data.
        clean_epochs: Passes before the attack begins. A clean start saves a forward and a
            backward per attack step.
        eps_points: Multiplier of ε over epochs, such as `((0, 0), (5, 1))` for a ramp; empty for a
            constant ε. A given step size is not multiplied, as in the robustness library; the
            default of 2/3 ε follows.
        low_epochs: Passes at --low-size before those at --size.
        low_size: Side of the input in these. The l2 norm of a difference grows with the side of a
            photograph that is enlarged, so an l2 attack's ε and step size are multiplied by
            `low_size / size`; those of l∞ are left.
        size: Side of the network's input in pixels. ε is measured there.
        batch: Photographs a step, of all processes together.
        optimizer: sgd or adam; adam has betas 0.9 and 0.999 and decoupled weight decay, and reads
            neither `momentum` nor `nesterov`.
        lr: Peak learning rate.
        lr_schedule: `triangle`: linear rise over `rise` of the steps, then linear to 0. `step`:
            multiplied by `drop` every `drop_every` epochs. `cyclic`: the library's, linear rise to
            4/15 of the epochs, then linear to 0. `points`: `lr_points`. `constant`.
        rise: Share of the steps over which the triangle rises.
        drop: Factor of the step schedule.
        drop_every: Epochs between its drops.
        lr_points: Multiplier of `lr` over epochs.
        momentum: Of SGD.
        nesterov: Nesterov's form of it.
        weight_decay: On weights of convolutions and linear layers.
        smoothing: Label smoothing.
        ema: Decay per step of the weights' average that is kept; 0 for none. Buffers are averaged
            too, and the average is what is measured.
        start_share: Share of the starting weights in the result, which is their mean with the
            trained ones: more accuracy on clean photographs for little robustness. In [0, 1).
        freeze_norms: Keep the batch norms' statistics as they start, in the update too. Batches
            that differ from what the network knows, such as enlarged small photographs, would
            otherwise replace them.
        label_free: Train against the starting network's clean predictions; no labels are read.
        widths: Channels of a new kitnet's four parts.
        seed: Of weights, order, augmentation, random starts.
        smallest_crop: Of streamed photographs, the smallest share of the area that a crop shows;
            small photographs have little to show in an eighth.
        bf16: Train in bfloat16. Attack and update run in it, never the evaluation.
        fold: Join batch norms to convolutions for the attack; faster, and equal up to rounding. One
            process in float32 does it; others go on without.

    Raises:
        InputError: A number is out of its range.

    Source: Salman et al. 2020 (arXiv:2007.08489) and MadryLab/robustness 1.2, `train.py`;
    `start_share` after Wortsman et al. 2022, "Robust fine-tuning of zero-shot models". That
    library holds a multiplier for a whole epoch, so that its cyclic rate is 0 throughout the first;
    here both schedules are read at every step.
    """

    attack: Annotated[Attack, Flag(panel=ATTACK)] = field(default_factory=Attack)
    epochs: Count = 16
    clean_epochs: Annotated[Index, Flag(panel=ATTACK)] = 0
    eps_points: Annotated[Points, _EPS_SCHEDULE] = ()
    low_epochs: Index = 0
    low_size: Annotated[int, Ge(SMALLEST)] = 48
    size: Annotated[int, Ge(SMALLEST), NO_FLAG] = 64
    batch: Count = 256
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.4
    lr_schedule: Annotated[Schedule, _LR_SCHEDULE] = "triangle"
    rise: Annotated[float, Ge(0), Le(0.99)] = 0.2
    drop: Annotated[float, Ge(0), Le(1)] = 0.1
    drop_every: Count = 30
    lr_points: Annotated[Points, NO_FLAG] = ()
    momentum: Annotated[float, Ge(0), Le(0.9999)] = 0.9
    nesterov: bool = True
    weight_decay: NonNegative = 5e-4
    smoothing: Annotated[float, Ge(0), Le(0.99)] = 0.1
    ema: Annotated[float, Ge(0), Le(0.999999)] = 0.0
    start_share: Annotated[float, Ge(0), Le(0.99)] = 0.0
    freeze_norms: bool = False
    label_free: Annotated[bool, Flag(panel=NETWORK)] = False
    widths: Annotated[tuple[int, int, int, int], Flag(panel=NETWORK)] = (24, 48, 96, 192)
    seed: Annotated[int, Ge(0), Le(2**32 - 1)] = 0
    smallest_crop: Annotated[float, Ge(0.01), Le(1), Flag(panel=DATA)] = 0.08
    bf16: Annotated[bool, Flag(panel=DATA)] = False
    fold: Annotated[bool, Flag(panel=DATA)] = False

    def __post_init__(self) -> None:
        expect_in_range(self)
        if not 0 < self.lr < math.inf:
            raise InputError(f"lr: expected a number above 0, got {self.lr:g}.")
        if self.low_epochs > self.epochs or self.clean_epochs > self.epochs:
            raise InputError(
                f"expected low_epochs and clean_epochs at most epochs, {self.epochs}, got "
                f"{self.low_epochs} and {self.clean_epochs}."
            )
        if self.attack.targeted:
            raise InputError("attack: training needs an untargeted one; leave targeted out.")
        if self.nesterov and self.momentum == 0:
            raise InputError("nesterov: needs a momentum above 0; switch it off, or give one.")
        if self.lr_schedule == "points" and not self.lr_points:
            raise InputError("lr_points: expected EPOCH=MULTIPLIER pairs for this schedule.")

    def size_at(self, epoch: int) -> int:
        """Side of the network's input in that epoch, counted from 0."""
        return self.low_size if epoch < self.low_epochs else self.size

    def attack_at(self, epoch: int, progress: float = 0.0) -> Attack | None:
        """The attack of that epoch, `progress` of which is done; None where it is clean."""
        idle = self.attack.steps == 0 and not self.attack.random_start
        if epoch < self.clean_epochs or idle:
            return None
        eps = self.attack.eps * (_read(self.eps_points, epoch + progress) if self.eps_points else 1)
        scale = self.size_at(epoch) / self.size if self.attack.norm == "l2" else 1.0
        if eps == 0:
            return None
        step = self.attack.step_size
        return replace(
            self.attack, eps=eps * scale, step_size=None if step is None else step * scale
        )

    def lr_at(self, step: int, per_epoch: int) -> float:
        """Learning rate of a step, counted from 0 over the whole training."""
        epoch, done = step / per_epoch, step / (self.epochs * per_epoch)
        if self.lr_schedule == "triangle":
            return self.lr * (
                done / self.rise if done < self.rise else (1 - done) / (1 - self.rise)
            )
        if self.lr_schedule == "step":
            return self.lr * self.drop ** (int(epoch) // self.drop_every)
        if self.lr_schedule == "cyclic":
            points: Points = ((0, 0), (self.epochs * 4 / 15, 1), (self.epochs, 0))
            return self.lr * _read(points, epoch)
        return self.lr * (_read(self.lr_points, epoch) if self.lr_schedule == "points" else 1)


def _read(points: Points, epoch: float) -> float:
    """Linear interpolation between the points, constant before the first and after the last."""
    where = bisect_right([at for at, _ in points], epoch)
    if where in (0, len(points)):
        return points[min(where, len(points) - 1)][1]
    (left, low), (right, high) = points[where - 1 : where + 1]
    return low + (high - low) * (epoch - left) / (right - left)


def as_json(plan: TrainingPlan) -> dict[str, Any]:
    """The plan as numbers, strings, lists and dicts: what JSON gives back."""
    data: dict[str, Any] = json.loads(json.dumps(asdict(plan)))
    return data


def difference(plan: TrainingPlan, before: dict[str, Any]) -> str:
    """What differs from an earlier plan, in words; empty where nothing does."""
    now = as_json(plan)
    for entry in fields(plan):
        was = before.get(entry.name, now[entry.name])
        if was != now[entry.name]:
            return f"{entry.name} {was}, not {now[entry.name]}"
    return ""
