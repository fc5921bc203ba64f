"""A network behind its normalisation."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor, nn


@final
class Normalized(nn.Module):
    """A network behind its own normalisation: images in [0, 1] go in."""

    def __init__(self, net: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.net = net
        self.register_buffer("mean", mean.reshape(1, 3, 1, 1))
        self.register_buffer("std", std.reshape(1, 3, 1, 1))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Logits of images in [0, 1]."""
        logits: Tensor = self.net((image - self.mean) / self.std)
        return logits
