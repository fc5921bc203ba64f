"""The inner loop of an auxiliary space: a few steps of AdaGrad through which slopes pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

_FLOOR: Final = 1e-8
"""Where the sums of squares begin."""


def calibrated(
    zeta: Float[Tensor, "b n"],
    loss_of: Callable[[Tensor], Float[Tensor, " b"]],
    rates: Float[Tensor, " n"],
    *,
    steps: int,
) -> list[Float[Tensor, " b"]]:
    """The losses before, between and after steps of AdaGrad on ζ.

    `r ← r + g²`, `ζ ← ζ - rate · g / √r`, r from 1e-8. Slopes of all that is returned pass through
    the steps, g included, so what made ζ learns to make it easy to descend from (double
    back-propagation).

    Args:
        zeta: Where the steps begin; it depends on what shall learn.
        loss_of: Of every row by itself.
        rates: One for every number.
        steps: How many, from 0.

    Returns:
        `steps` + 1 losses.

    Example:
        >>> start = torch.tensor([[3.0]], requires_grad=True)
        >>> losses = calibrated(
        ...     start, lambda z: z.square().sum(1), torch.tensor([1.0]), steps=1
        ... )
        >>> [round(float(loss.detach()), 4) for loss in losses]
        [9.0, 4.0]

    Source: Suzuki et al. 2018, supplement B, Eq. 5; AdaGrad, Duchi et al. 2011, instead of Adam,
    which is unstable under double back-propagation, as they report.
    """
    squares, losses = torch.full_like(zeta, _FLOOR), [loss_of(zeta)]
    for _ in range(steps):
        (slope,) = torch.autograd.grad(losses[-1].sum(), zeta, create_graph=True)
        squares = squares + slope.square()
        zeta = zeta - rates * slope / squares.sqrt()
        losses.append(loss_of(zeta))
    return losses
