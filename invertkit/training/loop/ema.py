"""An exponential moving average of a network: weights and buffers."""

from __future__ import annotations

from copy import deepcopy
from typing import final

import torch
from torch import nn


@final
class Average:
    """A copy of a network that follows it slowly.

    Args:
        model: The network; the copy begins as it is.
        decay: Share of the copy that stays in each step; in [0, 1). 0 for the network itself.

    Attributes:
        model: The copy, in evaluation mode and frozen; the network itself where `decay` is 0.

    Buffers are averaged too, so that batch-norm statistics belong to the averaged weights; counters
    are copied.

    Source: Polyak & Juditsky 1992; the exponential form as in Szegedy et al. 2016, §8.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self._now = decay, model
        self.model = deepcopy(model).eval().requires_grad_(False) if decay else model

    @torch.no_grad()
    def update(self) -> None:
        """Move the copy one step towards the network."""
        if not self.decay:
            return
        means, nows = [], []
        for mean, now in zip(
            self.model.state_dict().values(), self._now.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                means.append(mean)
                nows.append(now)
            else:
                mean.copy_(now)
        torch._foreach_lerp_(means, nows, 1 - self.decay)
