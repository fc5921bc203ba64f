"""The generators of 128 and 256 pixels that Neural Collage edits with."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.models.generators.sngan.norms import EPS, CategoricalBatchNorm, weights_at

WIDTHS: Final = {128: (8, 8, 4, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1)}
"""Channels at 4, 8, 16, … pixels, in units of `channels`, by size."""
CHANNELS: Final = {128: 64, 256: 48}
"""The unit of channels that was published, by size."""
CLASSES: Final = 143
"""Dogs and cats of ImageNet: its classes 151 to 293."""


@final
class _Up(nn.Module):
    """Norm, ReLU, doubling, convolution, norm, ReLU, convolution; beside it a 1×1 convolution."""

    def __init__(self, inputs: int, outputs: int, classes: int) -> None:
        super().__init__()
        self.b1 = CategoricalBatchNorm(inputs, classes)
        self.c1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.b2 = CategoricalBatchNorm(outputs, classes)
        self.c2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.c_sc = nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor, weights: Tensor) -> Tensor:
        side = features.shape[-1]
        inner = F.relu(self.b1(features, weights_at(weights, side)))
        inner = self.c1(_twice(inner))
        inner = self.c2(F.relu(self.b2(inner, weights_at(weights, 2 * side))))
        # A 1×1 convolution gives the same before the doubling as after it, for a quarter.
        out: Tensor = inner + _twice(self.c_sc(features))
        return out


def _twice(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="nearest")


@final
class SNGANGenerator(nn.Module):
    """Residual generator with a scale and a shift for each class in every block.

    Parameters have the names of the published files. Layers to tap: `l1` (its rows are the 4×4
    start), `block2` (8²), `block3` (16²), … up to `block6` or `block7`.

    Args:
        size: Side of the pictures, 128 or 256.
        channels: Unit of channels; by default what was published, 64 or 48.
        latent: Length of z, standard normal.
        classes: Number of classes.

    Raises:
        InputError: Another size.

    Example:
        >>> net = SNGANGenerator(128, channels=2, latent=5, classes=3)
        >>> net(torch.zeros(2, 5), torch.eye(3)[:2]).shape
        torch.Size([2, 3, 128, 128])

    Source: Miyato & Koyama 2018 (arXiv:1802.05637); sizes of the released code of Suzuki et al.
    2018 (arXiv:1811.10153).
    """

    def __init__(
        self, size: int, *, channels: int = 0, latent: int = 128, classes: int = CLASSES
    ) -> None:
        super().__init__()
        if size not in WIDTHS:
            raise InputError(f"size: SNGAN was published for 128 and 256 pixels, not for {size}.")
        unit = channels or CHANNELS[size]
        widths = [unit * times for times in WIDTHS[size]]
        self.size, self.latent, self.classes = size, latent, classes
        self.l1 = nn.Linear(latent, widths[0] * 16)
        self._blocks = [f"block{number}" for number in range(2, len(widths) + 1)]
        for name, (inputs, outputs) in zip(self._blocks, pairwise(widths), strict=True):
            self.add_module(name, _Up(inputs, outputs, classes))
        # Numbered as what follows the blocks, so b7 and l7 of 128 pixels and b8 and l8 of 256.
        self._last = len(widths) + 1
        self.add_module(f"b{self._last}", nn.BatchNorm2d(widths[-1], eps=EPS))
        self.add_module(f"l{self._last}", nn.Conv2d(widths[-1], 3, 3, padding=1))

    def forward(
        self, latent: Float[Tensor, "b z"], embedding: Float[Tensor, "b k ..."]
    ) -> Float[Tensor, "b 3 s s"]:
        """Pictures in [-1, 1].

        Args:
            latent: z.
            embedding: Weights of the classes, which sum to 1: `(b, k)`, or a map `(b, k, h, w)` of
                any size, brought to the size of every level.
        """
        features = self.l1(latent).unflatten(1, (-1, 4, 4))
        for name in self._blocks:
            features = self.get_submodule(name)(features, embedding)
        features = F.relu(self.get_submodule(f"b{self._last}")(features))
        return torch.tanh(self.get_submodule(f"l{self._last}")(features))
