"""The generators of 128 and 256 pixels that Neural Collage edits with."""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.models.generators.class_maps import (
    ClassLayer,
    ClassMap,
    Condition,
    conditions_of,
)
from invertkit.models.generators.sngan.norms import EPS, CategoricalBatchNorm

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

    def forward(self, features: Tensor, before: Condition, after: Condition) -> Tensor:
        """`before` is the condition at the side of `features`, `after` at twice that."""
        inner = self.c1(_twice(F.relu(self.b1(features, before))))
        inner = self.c2(F.relu(self.b2(inner, after)))
        # A 1×1 convolution gives the same before the doubling as after it, for a quarter.
        out: Tensor = inner + _twice(self.c_sc(features))
        return out


def _twice(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="nearest")


@final
class SNGANGenerator(nn.Module):
    """Residual generator with a scale and a shift for each class in every block.

    Parameters have the names of the published files. Layers to tap: `l1` (its rows are the 4×4
    start), `start` (the start itself), `block2` (8²), `block3` (16²), … up to `block6` or `block7`.

    In place of a class it takes a `ClassMap`, with weights for each of `class_layers`, the two
    norms of every block.

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
        self.start = nn.Identity()  # so that hooks reach the first map
        self._blocks = [f"block{number}" for number in range(2, len(widths) + 1)]
        for name, (inputs, outputs) in zip(self._blocks, pairwise(widths), strict=True):
            self.add_module(name, _Up(inputs, outputs, classes))
        # Numbered as what follows the blocks, so b7 and l7 of 128 pixels and b8 and l8 of 256.
        self._last = len(widths) + 1
        self.add_module(f"b{self._last}", nn.BatchNorm2d(widths[-1], eps=EPS))
        self.add_module(f"l{self._last}", nn.Conv2d(widths[-1], 3, 3, padding=1))

    @functools.cached_property
    def class_layers(self) -> tuple[ClassLayer, ...]:
        """The layers that the class enters, in order."""
        layers = []
        for depth, name in enumerate(self._blocks):
            before, after = 4 << depth, 8 << depth
            layers.append(ClassLayer(f"{name}.b1", (before, before)))
            layers.append(ClassLayer(f"{name}.b2", (after, after)))
        return tuple(layers)

    @property
    def levels(self) -> tuple[str, ...]:
        """The layers whose features can be blended: the start, and what every block puts out."""
        return ("start", *self._blocks)

    def forward(
        self, latent: Float[Tensor, "b z"], embedding: Float[Tensor, "b k"] | ClassMap
    ) -> Float[Tensor, "b 3 s s"]:
        """Pictures in [-1, 1].

        Args:
            latent: z.
            embedding: A weight for each class, 1 in sum; or a map of several such rows.
        """
        # z enters the start alone, so nothing stands beside the class in a condition.
        told = conditions_of(embedding, latent[:, :0], self.class_layers)
        features = self.start(self.l1(latent).unflatten(1, (-1, 4, 4)))
        for depth, name in enumerate(self._blocks):
            features = self.get_submodule(name)(features, told[2 * depth], told[2 * depth + 1])
        features = F.relu(self.get_submodule(f"b{self._last}")(features))
        return torch.tanh(self.get_submodule(f"l{self._last}")(features))
