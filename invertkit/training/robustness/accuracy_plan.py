"""How accuracy is measured: norm, radii, attack, and which part of which pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, final

from invertkit.core.flags import Flag
from invertkit.errors import InputError
from invertkit.training.robustness.attack import Norm


@final
@dataclass(frozen=True)
class AccuracyPlan:
    """How the accuracy of classifiers is measured.

    Args:
        norm: l2 or linf.
        radii: Radius at the classifier's input size, 0 for clean; repeatable. In the units of
            images in [0, 1].
        attack: pgd-N, such as pgd-20, or autoattack.
        stride: Take every so-many-th picture only. They are counted in the order of the classes.
        size: Side of the input; by default each classifier's own.
        crop: Share of the shorter side to show; by default 0.875 from 128 pixels on, else 1. So
            are ImageNet classifiers tested.
        batch: Pictures at once.
        seed: Of AutoAttack.

    Raises:
        InputError: A number is out of range.
    """

    norm: Norm = "l2"
    radii: Annotated[tuple[float, ...], Flag("--eps")] = (0.0, 0.05)
    attack: str = "pgd-20"
    stride: Annotated[int, Flag("--every")] = 1
    size: int | None = None
    crop: float | None = None
    batch: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.stride < 1 or self.batch < 1 or (self.size is not None and self.size < 1):
            raise InputError(
                f"expected whole numbers from 1, got every {self.stride}, size {self.size} and "
                f"batch {self.batch}."
            )
        if self.crop is not None and not 0 < self.crop <= 1:
            raise InputError(f"crop: expected a share above 0 and at most 1, got {self.crop:g}.")
