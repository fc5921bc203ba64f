"""The discriminator of KitGAN, the small generator of 32×32 pictures that the package carries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

ENCODER_WIDTHS: Final = (48, 96, 192)
"""Channels of its encoder."""


@final
class ClassHead(nn.Module):
    """Realism of features for a class, `w·h + <V y, h> + u·s`, on summed features h.

    `s` is the deviation of h among the pictures of a group, which are of one class: a generator
    that draws every picture of a class alike is found out by it.

    Args:
        channels: Of the features.
        classes: Number of classes.
        group: Neighbouring pictures that are of one class.

    Source: projection discriminator, Miyato & Koyama 2018; deviation within the batch, Karras et
    al. 2018, here within a class.
    """

    def __init__(
        self, channels: int, classes: int, *, group: int = 4, spectral: bool = True
    ) -> None:
        super().__init__()
        self.group = group
        self.linear = _normed(nn.Linear(channels, 1), spectral=spectral)
        embedding = nn.Embedding(classes, channels)
        self.embedding = spectral_norm(embedding) if spectral else embedding
        self.spread = _normed(nn.Linear(channels, 1), spectral=spectral)

    def forward(self, features: Tensor, labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Score of `(b, c, h, w)` features, `b` a multiple of the group."""
        summed = _at_least_single(F.relu(features)).sum((2, 3))
        groups = summed.unflatten(0, (-1, self.group))
        # Without the 1e-6 the root's slope is infinite where pictures of a group are equal.
        spread = (groups.var(1, unbiased=False) + 1e-6).sqrt()
        spread = spread.repeat_interleave(self.group, 0)
        plain: Tensor = self.linear(summed)[:, 0] + self.spread(spread)[:, 0]
        of_class: Tensor = (self.embedding(labels) * summed).sum(1)
        return plain + of_class


@final
class KitDiscriminator(nn.Module):
    """Spectrally normed projection discriminator of 32×32 pictures.

    Layers to tap: `block1` (16²), `block2` (8²), `block3` (4²).

    Args:
        classes: Number of classes.
        widths: Channels of the convolutions.
        spectral: Whether weights are normed; not where the norm is baked in (see `baked`).

    Example:
        >>> net = KitDiscriminator(3, widths=(8, 8, 8, 8))
        >>> net(torch.zeros(4, 3, 32, 32), torch.tensor([0, 0, 0, 0])).shape
        torch.Size([4])

    Source: hinge loss, Lim & Ye 2017; spectral norm, Miyato et al. 2018; projection, Miyato &
    Koyama 2018.
    """

    def __init__(
        self,
        classes: int = 10,
        *,
        widths: Sequence[int] = (32, 64, 128, 192),
        spectral: bool = True,
    ) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Module:
            return _normed(nn.Conv2d(inputs, outputs, kernel, stride, 1), spectral=spectral)

        a, b, c, d = widths
        self.block1 = nn.Sequential(conv(3, a, 4, 2), nn.ReLU(), conv(a, b))
        self.block2 = nn.Sequential(nn.ReLU(), nn.AvgPool2d(2), conv(b, c))
        self.block3 = nn.Sequential(nn.ReLU(), nn.AvgPool2d(2), conv(c, d))
        self.head = ClassHead(d, classes, spectral=spectral)

    def forward(
        self, image: Float[Tensor, "b 3 h w"], labels: Int[Tensor, " b"]
    ) -> Float[Tensor, " b"]:
        """Scores of pictures in [-1, 1]; higher is more real."""
        score: Tensor = self.head(self.block3(self.block2(self.block1(image))), labels)
        return score


def _at_least_single(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))


def _normed(module: nn.Module, *, spectral: bool = True) -> nn.Module:
    """An orthogonal start under spectral norm; without it, for weights that have it baked in."""
    nn.init.orthogonal_(module.weight)  # type: ignore[arg-type]
    return spectral_norm(module) if spectral else module
