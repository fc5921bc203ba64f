"""The projection discriminators that the generators were trained against."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, final

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.models.generators.sngan.generator import CHANNELS, CLASSES

WIDTHS: Final = {128: (1, 2, 4, 4, 8, 8), 256: (1, 2, 4, 8, 8, 16, 16)}
"""Channels behind each block, in units of `channels`; all but the last block halve the side."""


@final
class _Down(nn.Module):
    """ReLU, convolution, ReLU, convolution, and perhaps halving; beside it a 1×1 convolution.

    The first of a network has no ReLU before it, and halves before its 1×1 convolution.
    """

    def __init__(self, inputs: int, outputs: int, *, first: bool = False, halves: bool) -> None:
        super().__init__()
        hidden = outputs if first else inputs
        self.first, self.halves = first, halves
        self.c1 = nn.Conv2d(inputs, hidden, 3, padding=1)
        self.c2 = nn.Conv2d(hidden, outputs, 3, padding=1)
        self.c_sc = nn.Conv2d(inputs, outputs, 1) if halves or inputs != outputs else None

    def forward(self, features: Tensor) -> Tensor:
        inner = self.c2(F.relu(self.c1(features if self.first else F.relu(features))))
        beside = features
        if self.halves:
            # Mean and 1×1 convolution may change places: the first block's order, for a quarter.
            inner, beside = F.avg_pool2d(inner, 2), F.avg_pool2d(features, 2)
        out: Tensor = inner + (beside if self.c_sc is None else self.c_sc(beside))
        return out


@final
class SNGANDiscriminator(nn.Module):
    """Residual discriminator with projection; spectral norms are divided out of its weights.

    Parameters have the names of the published files. Layers to tap: `block1`, `block2`, …, and
    `features`, the map of side 4 behind the last ReLU, whose direction is Neural Collage's Ψ.

    Args:
        size: Side of the pictures, 128 or 256.
        channels: Unit of channels; by default what was published, 64 or 48.
        classes: Number of classes.

    Raises:
        InputError: Another size.

    Example:
        >>> import torch
        >>> net = SNGANDiscriminator(128, channels=2, classes=3)
        >>> net(torch.zeros(2, 3, 128, 128)).shape
        torch.Size([2, 3])

    Source: Miyato et al. 2018 (arXiv:1802.05957) and Miyato & Koyama 2018 (arXiv:1802.05637);
    sizes of the released code of Suzuki et al. 2018.
    """

    def __init__(self, size: int, *, channels: int = 0, classes: int = CLASSES) -> None:
        super().__init__()
        if size not in WIDTHS:
            raise InputError(f"size: SNGAN was published for 128 and 256 pixels, not for {size}.")
        unit = channels or CHANNELS[size]
        widths = [unit * times for times in WIDTHS[size]]
        self.size, self.classes = size, classes
        self._blocks = [f"block{number}" for number in range(1, len(widths) + 1)]
        self.block1 = _Down(3, widths[0], first=True, halves=True)
        for name, (inputs, outputs) in zip(self._blocks[1:], pairwise(widths), strict=True):
            self.add_module(name, _Down(inputs, outputs, halves=name != self._blocks[-1]))
        self.features = nn.ReLU()
        self._last = f"l{len(widths) + 1}"
        self.add_module(self._last, nn.Linear(widths[-1], 1))
        self.l_y = nn.Embedding(classes, widths[-1])

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """How real pictures in [-1, 1] are for every class."""
        features = image
        for name in self._blocks:
            features = self.get_submodule(name)(features)
        summed = self.features(features).sum((2, 3))
        plain: Tensor = self.get_submodule(self._last)(summed)
        return plain + F.linear(summed, self.l_y.weight)
