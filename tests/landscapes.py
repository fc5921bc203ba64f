"""A landscape without a problem behind it: a function of tensors."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import torch
from torch import Tensor

from invertkit.core.params import Params, count_rows
from invertkit.core.pixel_space import Space, clip_pixels
from invertkit.core.randomness import Randomness
from invertkit.optimizers.base import Landscape


class FunctionLandscape(Landscape):
    """The losses that a function gives; new starting points are those where it stands.

    Args:
        function: From tensors of `n` rows to `n` losses, with their graph.
        points: Where it stands.
        randomness: Of the run; seed `i` for image `i` by default.
        step: Of the run.
    """

    def __init__(
        self,
        function: Callable[[Params], Tensor],
        points: Params,
        *,
        randomness: Randomness | None = None,
        step: int = 0,
    ) -> None:
        draws = randomness or Randomness(tuple(range(count_rows(points))))
        super().__init__(points, randomness=draws, step=step)
        self.function = function
        self.space: Space | None = None

    def __call__(self) -> Tensor:
        return self.function(self.points)

    def losses(self) -> Tensor:
        with torch.no_grad():
            return self()

    def at(self, points: Params) -> FunctionLandscape:
        elsewhere = copy(self)
        elsewhere.points = points
        return elsewhere

    def within(self, space: Space) -> FunctionLandscape:
        narrowed = copy(self)
        narrowed.space = space
        return narrowed

    def fresh(self, count: int, purpose: str) -> Params:
        return {name: p.detach().repeat_interleave(count, 0) for name, p in self.points.items()}

    def centre(self) -> Params:
        return {name: point.detach() for name, point in self.points.items()}

    def confine(self) -> None:
        if self.space is not None:
            for pixels in self.points.values():
                clip_pixels(pixels, self.space)
