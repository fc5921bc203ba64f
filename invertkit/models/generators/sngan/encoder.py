"""The encoders E(x, c) that start a projection."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, final

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.models.generators.sngan.generator import CLASSES
from invertkit.models.generators.sngan.norms import CategoricalBatchNorm

WIDTHS: Final = {128: (1, 2, 4, 4, 8, 8), 256: (1, 2, 4, 8, 8, 16, 16)}
"""Channels before and behind each block, in units of `channels`."""
ENDS: Final = {128: ("l1", "l7"), 256: ("block1", "l8_enc")}
"""What the first and the last layer are called in the published files."""


@final
class _Down(nn.Module):
    """Norm, ReLU, halving, convolution, norm, ReLU, convolution; beside it a 1×1 convolution."""

    def __init__(self, inputs: int, outputs: int, classes: int) -> None:
        super().__init__()
        self.b1 = CategoricalBatchNorm(inputs, classes)
        self.c1 = nn.Conv2d(inputs, inputs, 3, padding=1)
        self.b2 = CategoricalBatchNorm(inputs, classes)
        self.c2 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.c_sc = nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor, weights: Tensor) -> Tensor:
        inner = self.c1(F.avg_pool2d(F.relu(self.b1(features, weights)), 2))
        inner = self.c2(F.relu(self.b2(inner, weights)))
        out: Tensor = inner + self.c_sc(F.avg_pool2d(features, 2))
        return out


@final
class SNGANEncoder(nn.Module):
    """From a picture and the weights of its class to the latent that makes it.

    The text calls it identical to the discriminator; the released code, followed here, has a
    conditional batch norm before every convolution and no spectral norm. The encoder of 128 pixels
    was trained for the generator of 256 as well.

    Args:
        size: Side of the pictures, 128 or 256.
        channels: Unit of channels.
        latent: Length of z.
        classes: Number of classes.

    Raises:
        InputError: Another size.

    Example:
        >>> import torch
        >>> net = SNGANEncoder(128, channels=2, latent=5, classes=3)
        >>> net(torch.zeros(2, 3, 128, 128), torch.eye(3)[:2]).shape
        torch.Size([2, 5])

    Source: Suzuki et al. 2018, supplement B and Fig. 15; the released code.
    """

    def __init__(
        self, size: int = 128, *, channels: int = 64, latent: int = 128, classes: int = CLASSES
    ) -> None:
        super().__init__()
        if size not in WIDTHS:
            raise InputError(f"size: SNGAN was published for 128 and 256 pixels, not for {size}.")
        widths = [channels * times for times in WIDTHS[size]]
        self.size, self.latent, self.classes = size, latent, classes
        self._first, self._last = ENDS[size]
        self.add_module(self._first, nn.Conv2d(3, widths[0], 3, padding=1))
        self._blocks = [f"block{number}" for number in range(2, len(widths) + 1)]
        for name, (inputs, outputs) in zip(self._blocks, pairwise(widths), strict=True):
            self.add_module(name, _Down(inputs, outputs, classes))
        self.add_module(self._last, nn.Linear(widths[-1] * 16, latent))
        self.prelu_out = nn.PReLU(latent, init=0.1)

    def forward(
        self, image: Float[Tensor, "b 3 s s"], embedding: Float[Tensor, "b k"]
    ) -> Float[Tensor, "b z"]:
        """Latents of pictures in [-1, 1]; `embedding` holds the weights of the classes."""
        features = self.get_submodule(self._first)(image)
        for name in self._blocks:
            features = self.get_submodule(name)(features, embedding)
        latent: Tensor = self.prelu_out(self.get_submodule(self._last)(features.flatten(1)))
        return latent
