"""The class-conditional generator that the package carries and trains, and its encoder.

The class enters through conditional batch norm alone, as a vector that scales and shifts every
channel: so it can be optimised, interpolated, or mixed from place to place.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.models.generators.class_maps import (
    ClassLayer,
    ClassMap,
    Condition,
    Mixture,
    conditions_of,
    mixed,
)


@final
class ConditionalBatchNorm(nn.Module):
    """Batch norm whose scale and shift are affine in a condition.

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
        self.scale = nn.Linear(condition, channels)
        self.shift = nn.Linear(condition, channels)

    def forward(self, features: Tensor, condition: Condition) -> Tensor:
        """Normalised features times `1 + scale`, plus `shift`.

        `condition` is `(b, k)`, or a mixture of several where it differs from place to place.
        """
        if isinstance(condition, Mixture) and not self.training:
            # Maps are as large as the features, so that every pass over them counts: statistics
            # are joined to the classes' scales and shifts, which have one number a channel.
            scale, shift = mixed(self._joined, condition)
            return torch.addcmul(shift.to(features), features, scale.to(features))
        normal: Tensor = self.norm(features)
        scale, shift = mixed(self._affine, condition)
        return torch.addcmul(shift.to(normal), normal, 1 + scale.to(normal))

    def _joined(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift of features as they come."""
        scale, shift = self._affine(condition)
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None  # noqa: S101 # a norm of this class keeps statistics
        assert variance is not None  # noqa: S101
        scale = (1 + scale) * (variance + self.norm.eps).rsqrt()
        return scale, torch.addcmul(shift, mean, scale, value=-1)

    def _affine(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        return self.scale(condition), self.shift(condition)


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

    def forward(self, features: Tensor, before: Condition, after: Condition) -> Tensor:
        """`before` is the condition at the side of `features`, `after` at twice that."""
        inner = self.conv1(F.relu(self.bn1(features, before)))
        inner = F.relu(self.bn2(_twice(inner), after))
        out: Tensor = self.conv2(inner) + _twice(self.skip(features))
        return out


def _twice(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="nearest")


@final
class ConditionalGenerator(nn.Module):
    """Residual generator with conditional batch norm.

    The 4×4 start is made of z alone, so that shapes are shared between classes and a change of
    class keeps them; z and class enter every normalisation.

    Layers to tap: `gen_z` (its rows are the 4×4 start), `start` (the start itself), `blocks.0`
    (8²), `blocks.1` (16²), …

    In place of a class embedding it takes a `ClassMap`, with weights for each of `class_layers`:
    the start if the class enters it, and two norms a block.

    Args:
        classes: Number of classes.
        latent: Length of z, standard normal.
        embedding: Length of the class embedding.
        widths: Channels at 4, 8, 16, … pixels: five for pictures of 64.
        class_at_start: Make the start of z and class, as BigGAN does.

    Example:
        >>> net = ConditionalGenerator(3, latent=5, embedding=4, widths=(8, 8))
        >>> net(torch.zeros(2, 5), net.embeddings.weight.T[:2]).shape
        torch.Size([2, 3, 8, 8])

    Source: ours, after BigGAN (Brock et al. 2019): shared embedding, z in every normalisation.
    """

    def __init__(
        self,
        classes: int,
        *,
        latent: int = 128,
        embedding: int = 64,
        widths: Sequence[int] = (512, 256, 128, 64, 32),
        class_at_start: bool = False,
    ) -> None:
        super().__init__()
        self.widths, self.latent = tuple(widths), latent
        condition = latent + embedding
        self.embeddings = nn.Linear(classes, embedding, bias=False)
        self.class_at_start = class_at_start
        self.gen_z = nn.Linear(condition if class_at_start else latent, widths[0] * 16)
        self.start = nn.Identity()  # so that hooks reach the first map
        self.blocks = nn.ModuleList(_Up(a, b, condition) for a, b in pairwise(widths))
        self.bn = nn.BatchNorm2d(widths[-1], eps=1e-4)
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.orthogonal_(module.weight)
        for module in self.modules():
            if isinstance(module, ConditionalBatchNorm):
                for part in (module.scale, module.shift):
                    nn.init.normal_(part.weight, std=0.02)
                    nn.init.zeros_(part.bias)
        if not class_at_start:
            # As large as a standard normal. A smaller start is soon outgrown by a layout that does
            # not depend on z.
            nn.init.normal_(self.gen_z.weight, std=latent**-0.5)
            nn.init.zeros_(self.gen_z.bias)
        nn.init.normal_(self.embeddings.weight)

    @functools.cached_property
    def class_layers(self) -> tuple[ClassLayer, ...]:
        """The layers that the class enters, in order."""
        layers = [ClassLayer("start", (4, 4))] if self.class_at_start else []
        for index in range(len(self.blocks)):
            side = 4 << index
            layers.append(ClassLayer(f"blocks.{index}.bn1", (side, side)))
            layers.append(ClassLayer(f"blocks.{index}.bn2", (2 * side, 2 * side)))
        return tuple(layers)

    @property
    def levels(self) -> tuple[str, ...]:
        """The layers whose features can be blended: the start, and what every block puts out."""
        return ("start", *(f"blocks.{index}" for index in range(len(self.blocks))))

    def forward(
        self, latent: Float[Tensor, "b z"], embedding: Float[Tensor, "b e"] | ClassMap
    ) -> Float[Tensor, "b 3 s s"]:
        """Pictures in [-1, 1]."""
        told = conditions_of(embedding, latent, self.class_layers)
        start = self._first(told.pop(0) if self.class_at_start else latent)
        # From here on channels lie last in memory: every layer keeps the layout that it is given.
        features = self.start(start.contiguous(memory_format=torch.channels_last))
        for index, block in enumerate(self.blocks):
            features = block(features, told[2 * index], told[2 * index + 1])
        out: Tensor = torch.tanh(_at_least_single(self.to_rgb(F.relu(self.bn(features)))))
        return out

    def _first(self, condition: Condition) -> Float[Tensor, "b c 4 4"]:
        """The 4×4 start of a condition, or of several, each where its weight is."""
        if isinstance(condition, Tensor):
            start: Tensor = self.gen_z(condition)
            return start.reshape(-1, self.widths[0], 4, 4)
        starts = self.gen_z(condition.rows).unflatten(2, (self.widths[0], 4, 4))
        return torch.einsum("bkchw,bkhw->bchw", starts, condition.weights.to(starts))


def _at_least_single(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))


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
class ConditionalEncoder(nn.Module):
    """From a picture and its class embedding to the latent that makes it.

    Args:
        latent: Length of z.
        embedding: Length of the class embedding.
        widths: Channels at each halving of the picture, which ends at a side of 2: four for 64
            pixels; see `encoder_widths`.

    Example:
        >>> net = ConditionalEncoder(latent=5, embedding=4, widths=(8, 8, 16))
        >>> net(torch.zeros(2, 3, 32, 32), torch.zeros(2, 4)).shape
        torch.Size([2, 5])

    Source: the class-conditional group-norm encoder of Transform-and-Project's released code, in
    small.
    """

    def __init__(
        self, *, latent: int = 128, embedding: int = 64, widths: Sequence[int] = (32, 64, 128, 192)
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 4, 2, 1)
        steps = zip(widths, [*widths[1:], widths[-1]], strict=True)
        self.blocks = nn.ModuleList(_Down(a, b, embedding) for a, b in steps)
        self.fc = nn.Linear(widths[-1] * 4, latent)

    def forward(
        self, image: Float[Tensor, "b 3 s s"], embedding: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b z"]:
        """Latents of pictures in [-1, 1]."""
        features = F.leaky_relu(self.stem(image), 0.2)
        for block in self.blocks:
            features = block(features, embedding)
        latent: Tensor = self.fc(features.flatten(1))
        return latent


def encoder_widths(size: int) -> tuple[int, ...]:
    """Channels of an encoder of pictures of that side, a power of two.

    Example:
        >>> encoder_widths(64)
        (32, 64, 128, 192)
    """
    return tuple(min(32 * 2**depth, 192) for depth in range(size.bit_length() - 3))
