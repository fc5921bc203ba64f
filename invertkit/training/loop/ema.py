"""An exponential moving average of a network: weights and buffers."""

from __future__ import annotations

from copy import deepcopy
from typing import Generic, TypeVar, final

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

N = TypeVar("N", bound=nn.Module)


@final
class Average(Generic[N]):
    """A copy of a network that follows it slowly.

    Args:
        model: The network; the copy begins as it is.
        decay: Share of the copy that stays in each step; in [0, 1). 0 for the network itself.
        buffers: Average these too, so that batch-norm statistics belong to the averaged weights;
            False leaves them as they were. Counters are copied.

    Attributes:
        model: The copy, in evaluation mode and frozen; the network itself where `decay` is 0.

    `torch.optim.swa_utils.AveragedModel` has the same update, which is taken from there. It is
    another average otherwise: its first update copies the network instead of moving towards it,
    and it either averages counters as if they were weights or copies all buffers.

    Source: Polyak & Juditsky 1992; the exponential form as in Szegedy et al. 2016, §8.

    Example:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> _ = net.weight.data.fill_(0.0)
        >>> average = Average(net, 0.75)
        >>> _ = net.weight.data.fill_(1.0)
        >>> average.update()
        >>> average.model.weight.item()
        0.25
    """

    def __init__(self, model: N, decay: float, *, buffers: bool = True) -> None:
        self.decay, self.buffers, self._network = decay, buffers, model
        self.model = deepcopy(model).eval().requires_grad_(False) if decay else model

    @torch.no_grad()
    def update(self, decay: float | None = None) -> None:
        """Move the copy one step towards the network, by another `decay` if one is given."""
        if not self.decay:
            return
        averages, values = list(self.model.parameters()), list(self._network.parameters())
        if self.buffers:
            for mean, value in zip(self.model.buffers(), self._network.buffers(), strict=True):
                if mean.is_floating_point():
                    averages.append(mean)  # type: ignore[arg-type]
                    values.append(value)  # type: ignore[arg-type]
                else:
                    mean.copy_(value)
        get_ema_multi_avg_fn(self.decay if decay is None else decay)(averages, values, 1)
