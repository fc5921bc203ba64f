"""KitGAN: the small class-conditional generator that the package carries, and what goes with it.

The class enters through conditional batch norm alone, as a vector that scales and shifts every
channel: so it can be optimised, interpolated, or mixed from place to place.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm


@final
class ConditionalBatchNorm(nn.Module):
    """Batch norm whose scale and shift are linear in a condition.

    Args:
        channels: Of the features.
        condition: Length of the condition.

    Example:
        >>> norm = ConditionalBatchNorm(8, 5)
        >>> norm(torch.zeros(2, 8, 4, 4), torch.zeros(2, 5)).shape
        torch.Size([2, 8, 4, 4])

    Source: Dumoulin et al. 2017; with a shared class embedding after BigGAN (Brock et al. 2019).
    """

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False, eps=1e-4)
        self.scale = nn.Linear(condition, channels, bias=False)
        self.shift = nn.Linear(condition, channels, bias=False)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Normalised features times `1 + scale`, plus `shift`.

        `condition` is `(b, k)`, or `(b, k, h, w)` where it differs from place to place.
        """
        normal: Tensor = self.norm(features)
        if condition.ndim == 4:
            rows = condition.permute(0, 2, 3, 1)
            scale, shift = (part(rows).permute(0, 3, 1, 2) for part in (self.scale, self.shift))
        else:
            scale, shift = (part(condition)[:, :, None, None] for part in (self.scale, self.shift))
        return torch.addcmul(shift.to(normal), normal, 1 + scale.to(normal))


@final
class _Up(nn.Module):
    """Residual block that doubles the side; its first convolution runs before the doubling."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.bn1 = ConditionalBatchNorm(inputs, condition)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn2 = ConditionalBatchNorm(outputs, condition)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        inner = self.conv1(F.relu(self.bn1(features, condition)))
        inner = F.relu(self.bn2(_twice(inner), condition_at(condition, 2)))
        out: Tensor = self.conv2(inner) + _twice(self.skip(features))
        return out


def _twice(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="nearest")


def condition_at(condition: Tensor, factor: int) -> Tensor:
    """A condition map for features `factor` times as large; a plain condition stays.

    Example:
        >>> condition_at(torch.zeros(1, 5, 4, 4), 2).shape
        torch.Size([1, 5, 8, 8])
    """
    if condition.ndim == 2:
        return condition
    return F.interpolate(condition, scale_factor=factor, mode="nearest")


@final
class KitGenerator(nn.Module):
    """Residual generator of 32×32 pictures with conditional batch norm.

    Layers to tap: `gen_z` (its rows are the 4×4 start), `blocks.0` (8²), `blocks.1` (16²),
    `blocks.2` (32²).

    Args:
        classes: Number of classes.
        latent: Length of z, standard normal.
        embedding: Length of the class embedding.
        widths: Channels at 4, 8, 16 and 32 pixels.

    Example:
        >>> net = KitGenerator(3, latent=5, embedding=4, widths=(8, 8))
        >>> net(torch.zeros(2, 5), net.embeddings.weight.T[:2]).shape
        torch.Size([2, 3, 8, 8])

    Source: ours, after BigGAN (Brock et al. 2019): shared embedding, z in every normalisation.
    """

    def __init__(
        self,
        classes: int = 10,
        *,
        latent: int = 64,
        embedding: int = 32,
        widths: Sequence[int] = (256, 128, 64, 32),
    ) -> None:
        super().__init__()
        self.widths = tuple(widths)
        condition = latent + embedding
        self.embeddings = nn.Linear(classes, embedding, bias=False)
        self.gen_z = nn.Linear(condition, widths[0] * 16)
        self.blocks = nn.ModuleList(_Up(a, b, condition) for a, b in pairwise(widths))
        self.bn = nn.BatchNorm2d(widths[-1], eps=1e-4)
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.orthogonal_(module.weight)
        for module in self.modules():
            if isinstance(module, ConditionalBatchNorm):
                nn.init.normal_(module.scale.weight, std=0.02)
                nn.init.normal_(module.shift.weight, std=0.02)
        nn.init.normal_(self.embeddings.weight)

    def forward(self, latent: Float[Tensor, "b z"], embedding: Tensor) -> Float[Tensor, "b 3 s s"]:
        """Pictures in [-1, 1]; `embedding` is `(b, e)`, or `(b, e, 4, 4)` to vary it by place."""
        if embedding.ndim == 4:
            spread = latent[:, :, None, None].expand(-1, -1, *embedding.shape[-2:])
            condition = torch.cat([spread, embedding], 1)
            start = self.gen_z(torch.cat([latent, embedding.mean((2, 3))], 1))
        else:
            condition = torch.cat([latent, embedding], 1)
            start = self.gen_z(condition)
        # From here on channels lie last in memory: every layer keeps the layout that it is given.
        features = start.reshape(-1, self.widths[0], 4, 4)
        features = features.contiguous(memory_format=torch.channels_last)
        for index, block in enumerate(self.blocks):
            features = block(features, condition_at(condition, 2**index))
        out: Tensor = torch.tanh(_at_least_single(self.to_rgb(F.relu(self.bn(features)))))
        return out


def _at_least_single(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))


def _normed(module: nn.Module, *, spectral: bool = True) -> nn.Module:
    """An orthogonal start under spectral norm; without it, for weights that have it baked in."""
    nn.init.orthogonal_(module.weight)  # type: ignore[arg-type]
    return spectral_norm(module) if spectral else module


def baked(module: nn.Module) -> nn.Module:
    """A copy with its spectral norms divided out: plain weights, the same function.

    Example:
        >>> [*baked(spectral_norm(nn.Linear(2, 2))).state_dict()]
        ['bias', 'weight']
    """
    copy = deepcopy(module).eval()
    for part in list(copy.modules()):
        if parametrize.is_parametrized(part, "weight"):
            weight = nn.Parameter(part.weight.detach().clone())  # type: ignore[operator]
            # PyTorch's own removal changes the class, which the copy shares with the original.
            part.__class__ = parametrize.type_before_parametrizations(part)
            del part.parametrizations
            part.weight = weight
    return copy


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


@final
class FeatureHead(nn.Module):
    """A small projection discriminator on one layer of a frozen classifier.

    Source: Projected GANs, Sauer et al. 2021, without their random mixing of layers.
    """

    def __init__(self, channels: int, classes: int, *, width: int = 64) -> None:
        super().__init__()
        self.net = nn.Sequential(
            _normed(nn.Conv2d(channels, width, 1)),
            nn.ReLU(),
            _normed(nn.Conv2d(width, width, 3, 2, 1)),
        )
        self.head = ClassHead(width, classes)

    def forward(self, features: Tensor, labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Scores of one layer's features."""
        score: Tensor = self.head(self.net(features), labels)
        return score


@final
class _Down(nn.Module):
    """Convolution, group norm with scale and shift from the class, activation, halving."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.GroupNorm(8, outputs, affine=False)
        self.scale = nn.Linear(condition, outputs)
        self.shift = nn.Linear(condition, outputs)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        normal = self.norm(self.conv(features))
        scale, shift = (part(condition)[:, :, None, None] for part in (self.scale, self.shift))
        return F.avg_pool2d(F.leaky_relu(normal * (1 + scale) + shift, 0.2), 2)


@final
class KitEncoder(nn.Module):
    """From a picture and its class embedding to the latent that makes it.

    Example:
        >>> net = KitEncoder(latent=5, embedding=4, widths=(8, 8, 16))
        >>> net(torch.zeros(2, 3, 32, 32), torch.zeros(2, 4)).shape
        torch.Size([2, 5])

    Source: the class-conditional group-norm encoder of Transform-and-Project's released code, in
    small.
    """

    def __init__(
        self, *, latent: int = 64, embedding: int = 32, widths: Sequence[int] = (48, 96, 192)
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 4, 2, 1)
        steps = zip(widths, [*widths[1:], widths[-1]], strict=True)
        self.blocks = nn.ModuleList(_Down(a, b, embedding) for a, b in steps)
        self.fc = nn.Linear(widths[-1] * 4, latent)

    def forward(
        self, image: Float[Tensor, "b 3 32 32"], embedding: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b z"]:
        """Latents of pictures in [-1, 1]."""
        features = F.leaky_relu(self.stem(image), 0.2)
        for block in self.blocks:
            features = block(features, embedding)
        latent: Tensor = self.fc(features.flatten(1))
        return latent
