"""What tests of CMA-ES share: normal numbers, a quadratic, and a climb down it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from invertkit.optimizers.population.cma import CMA, CMAState
from invertkit.optimizers.population.pycma import PyCMA, PyCMAState
from tests.helpers import normal

Losses = Callable[[Tensor], Tensor]


def draws(shape: tuple[int, ...], generation: int, seed: int = 0) -> Tensor:
    return normal(*shape, seed=1000 * seed + generation)


def valley(points: Tensor) -> Tensor:
    """A quadratic with axes of different lengths, none along a coordinate."""
    dimension = points.shape[-1]
    turn = torch.linalg.qr(normal(dimension, dimension, seed=7)).Q
    return ((points @ turn).square() * torch.logspace(0, 2, dimension).double()).sum(-1)


def climb(
    rule: CMA | PyCMA, state: Any, losses: Losses, generations: range, seed: int = 0
) -> list[Tensor]:
    """The points of each generation."""
    seen = []
    for generation in generations:
        count, dimension = state.mean.shape
        shape = (count, rule.size(dimension), dimension)
        points = rule.ask(state, draws(shape, generation, seed))
        rule.tell(state, points, losses(points))
        seen.append(points)
    return seen


def numbers(state: CMAState | PyCMAState) -> dict[str, Tensor]:
    return {"mean": state.mean, "sigma": state.sigma, "C": state.C}


def assert_near(a: Any, b: Any, tolerance: float) -> None:
    """Up to rounding; a mean is measured in steps, for it may be near zero."""
    torch.testing.assert_close(a.C, b.C, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(a.sigma, b.sigma, rtol=tolerance, atol=0)
    away = (a.mean - b.mean).abs().amax(1) / b.sigma
    assert away.max() < 10 * tolerance
