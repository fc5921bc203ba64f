"""The best candidate of each image on one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from invertkit.core.params import Params


@final
@dataclass
class StepBest:
    """The best that one step has evaluated, per image.

    Args:
        images_count: How many images the run has.

    Attributes:
        losses: Of the best candidates; None before the first `add`.
        images: The best candidates themselves.
        points: The tensors behind them, if they are worth keeping.
        values: The terms' values of the first evaluation; see `note`.
    """

    images_count: int
    losses: Tensor | None = None
    images: Tensor = field(default_factory=lambda: torch.empty(0))
    points: Params = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)

    def add(self, losses: Tensor, images: Tensor, points: Params) -> None:
        """Candidates with their losses; the lowest of each image is kept."""
        losses, images, points = self._lowest(losses, images, points)
        if self.losses is None:
            self.losses, self.images, self.points = losses, images, points
            return
        worst = torch.where(self.losses.isfinite(), self.losses, torch.inf)
        better = (losses < worst) & losses.isfinite()

        def pick(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        self.losses, self.images = pick(losses, self.losses), pick(images, self.images)
        self.points = {name: pick(new, self.points[name]) for name, new in points.items()}

    def note(self, values: Mapping[str, Tensor], losses: Tensor) -> None:
        """The terms of the first evaluation, of the candidate whose sum is lowest."""
        if self.values:
            return
        count = len(losses) // self.images_count
        rows = _lowest_rows(losses, count)
        self.values = {name: value if count == 1 else value[rows] for name, value in values.items()}

    def _lowest(
        self, losses: Tensor, images: Tensor, points: Params
    ) -> tuple[Tensor, Tensor, Params]:
        count = len(losses) // self.images_count
        if count == 1:  # clones, since the step will change what they share memory with
            copies = {name: point.detach().clone() for name, point in points.items()}
            return losses, images.clone(), copies
        rows = _lowest_rows(losses, count)
        lowest = {name: point.detach()[rows] for name, point in points.items()}
        return losses[rows], images[rows], lowest


def _lowest_rows(losses: Tensor, count: int) -> Tensor:
    """Row of each image's lowest finite loss among its `count` candidates."""
    table = losses.nan_to_num(torch.inf, torch.inf, torch.inf).reshape(-1, count)
    first = torch.arange(len(table), device=losses.device) * count
    return first + table.argmin(1)
