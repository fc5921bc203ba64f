"""AdaGrad through which slopes pass."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from invertkit.training.projection.inner import calibrated
from tests.helpers import normal, uniform


@given(seed=st.integers(0, 10**6), steps=st.integers(0, 4), rows=st.integers(1, 3))
def test_the_steps_are_those_of_adagrad(seed: int, steps: int, rows: int) -> None:
    """Of a loss whose slope is written by hand: Σ aᵢ (zᵢ - bᵢ)⁴."""
    scale, middle = uniform(3, seed=seed) + 0.1, normal(3, seed=seed + 1)
    start = normal(rows, 3, seed=seed + 2).requires_grad_()
    rates = uniform(3, seed=seed + 3) * 0.1
    losses = calibrated(start, lambda z: (scale * (z - middle) ** 4).sum(1), rates, steps=steps)
    a, b, rate = scale.numpy(), middle.numpy(), rates.numpy()
    zeta, squares = start.detach().numpy().copy(), np.full((rows, 3), 1e-8)
    plain = [(a * (zeta - b) ** 4).sum(1)]
    for _ in range(steps):
        slope = 4 * a * (zeta - b) ** 3
        squares = squares + slope**2
        zeta = zeta - rate * slope / np.sqrt(squares)
        plain.append((a * (zeta - b) ** 4).sum(1))
    assert len(losses) == steps + 1
    for loss, wanted in zip(losses, plain, strict=True):
        torch.testing.assert_close(loss.detach(), torch.from_numpy(wanted))


@given(seed=st.integers(0, 10**6))
def test_slopes_pass_through_the_steps(seed: int) -> None:
    """Also through the slope that a step goes along: with its own it is not finite differences."""
    middle = normal(3, seed=seed).requires_grad_()
    start = (normal(2, 3, seed=seed + 1)).requires_grad_()
    rates = (uniform(3, seed=seed + 2) * 0.1 + 0.01).requires_grad_()

    def total(middle: Tensor, start: Tensor, rates: Tensor) -> Tensor:
        losses = calibrated(start, lambda z: ((z - middle) ** 4).sum(1), rates, steps=2)
        return torch.stack([20 * losses[0], 2 * losses[1], losses[2]]).sum()

    assert torch.autograd.gradcheck(total, (middle, start, rates), eps=1e-6, atol=1e-4, rtol=1e-4)


def test_rows_do_not_know_each_other() -> None:
    start, rates = normal(3, 4).requires_grad_(), uniform(4) * 0.1
    together = calibrated(start, lambda z: z.square().sum(1), rates, steps=3)
    alone = calibrated(start[1:2], lambda z: z.square().sum(1), rates, steps=3)
    for whole, one in zip(together, alone, strict=True):
        torch.testing.assert_close(whole[1:2], one)
