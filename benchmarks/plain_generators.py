"""Class-conditional generators without anything folded or fused, for the released BasinCMA loop.

They take the weights of invertkit's generators by name and give the same pictures. `BigGAN` does
what the PyTorch port of BigGAN-deep does: it selects batch-norm statistics on every forward, keeps
normalisation, scale and shift apart, and at the end makes as many channels as one unit has, of
which it returns three.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-4


class ConditionalNorm(nn.Module):
    """Batch norm by a row of stored statistics; scale and shift are linear in the condition."""

    running_means: Tensor
    running_vars: Tensor

    def __init__(self, channels: int, condition: int, rows: int) -> None:
        super().__init__()
        self.register_buffer("running_means", torch.zeros(rows, channels))
        self.register_buffer("running_vars", torch.ones(rows, channels))
        self.scale = nn.Linear(condition, channels, bias=False)
        self.offset = nn.Linear(condition, channels, bias=False)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        mean, variance = self.running_means[-1], self.running_vars[-1]  # no truncation
        normal = F.batch_norm(features, mean, variance, eps=EPSILON)
        scale: Tensor = 1 + self.scale(condition)
        offset: Tensor = self.offset(condition)
        return normal * scale[:, :, None, None] + offset[:, :, None, None]


class PlainNorm(nn.Module):
    """The same with parameters for scale and shift."""

    running_means: Tensor
    running_vars: Tensor

    def __init__(self, channels: int, rows: int) -> None:
        super().__init__()
        self.register_buffer("running_means", torch.zeros(rows, channels))
        self.register_buffer("running_vars", torch.ones(rows, channels))
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        mean, variance = self.running_means[-1], self.running_vars[-1]
        return F.batch_norm(features, mean, variance, self.weight, self.bias, eps=EPSILON)


class Block(nn.Module):
    """Bottleneck of four convolutions; the skip drops the second half of the channels."""

    def __init__(
        self, inputs: int, outputs: int, condition: int, rows: int, *, upsample: bool
    ) -> None:
        super().__init__()
        self.outputs, self.upsample = outputs, upsample
        middle = inputs // 4
        self.bn_0 = ConditionalNorm(inputs, condition, rows)
        self.conv_0 = nn.Conv2d(inputs, middle, 1)
        self.bn_1 = ConditionalNorm(middle, condition, rows)
        self.conv_1 = nn.Conv2d(middle, middle, 3, padding=1)
        self.bn_2 = ConditionalNorm(middle, condition, rows)
        self.conv_2 = nn.Conv2d(middle, middle, 3, padding=1)
        self.bn_3 = ConditionalNorm(middle, condition, rows)
        self.conv_3 = nn.Conv2d(middle, outputs, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        skip = features[:, : self.outputs]
        inner = self.conv_0(self.relu(self.bn_0(features, condition)))
        inner = self.relu(self.bn_1(inner, condition))
        if self.upsample:
            inner, skip = _twice(inner), _twice(skip)
        inner = self.conv_1(inner)
        inner = self.conv_2(self.relu(self.bn_2(inner, condition)))
        inner = self.conv_3(self.relu(self.bn_3(inner, condition)))
        out: Tensor = inner + skip
        return out


def _twice(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2)


class Attention(nn.Module):
    """Self-attention from every place to the maxima of 2×2 places."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.snconv1x1_theta = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.snconv1x1_phi = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.snconv1x1_g = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.snconv1x1_o_conv = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        query = self.snconv1x1_theta(features).flatten(2)
        key = F.max_pool2d(self.snconv1x1_phi(features), 2).flatten(2)
        value = F.max_pool2d(self.snconv1x1_g(features), 2).flatten(2)
        weights = F.softmax(torch.bmm(query.permute(0, 2, 1), key), dim=-1)
        seen = torch.bmm(value, weights.permute(0, 2, 1)).view(
            len(features), -1, *features.shape[2:]
        )
        out: Tensor = features + self.gamma * self.snconv1x1_o_conv(seen)
        return out


class BigGANTrunk(nn.Module):
    """From the condition to the picture."""

    def __init__(
        self,
        layers: Sequence[tuple[bool, int, int]],
        *,
        attention: int,
        unit: int,
        condition: int,
        rows: int,
    ) -> None:
        super().__init__()
        self.first, last = layers[0][1] * unit, layers[-1][2] * unit
        self.gen_z = nn.Linear(condition, 16 * self.first)
        self.layers = nn.ModuleList()
        for index, (upsample, i, o) in enumerate(layers):
            if index == attention:
                self.layers.append(Attention(i * unit))
            self.layers.append(Block(i * unit, o * unit, condition, rows, upsample=upsample))
        self.bn = PlainNorm(last, rows)
        self.conv_to_rgb = nn.Conv2d(last, last, 3, padding=1)

    def forward(self, condition: Tensor) -> Tensor:
        features = self.gen_z(condition).view(-1, 4, 4, self.first)
        features = features.permute(0, 3, 1, 2).contiguous()
        for layer in self.layers:
            inputs = (features, condition) if isinstance(layer, Block) else (features,)
            features = layer(*inputs)
        features = F.relu_(self.bn(features))
        return torch.tanh(self.conv_to_rgb(features)[:, :3])


class BigGAN(nn.Module):
    """BigGAN-deep; called with latents and class embeddings.

    Args:
        layers: Per block whether it doubles the side, and its channels in units of `unit`.
        attention: Index of the block that attention comes before.
        unit: Unit of channels.
        latent: Length of z.
        embedding: Length of the class embedding.
        classes: Number of classes.
        rows: Of batch-norm statistics.
    """

    def __init__(
        self,
        layers: Sequence[tuple[bool, int, int]],
        *,
        attention: int = 8,
        unit: int = 128,
        latent: int = 128,
        embedding: int = 128,
        classes: int = 1000,
        rows: int = 51,
    ) -> None:
        super().__init__()
        self.embeddings = nn.Linear(classes, embedding, bias=False)
        self.generator = BigGANTrunk(
            layers, attention=attention, unit=unit, condition=latent + embedding, rows=rows
        )

    def forward(self, latent: Tensor, embedding: Tensor) -> Tensor:
        """Pictures in [-1, 1]."""
        pictures: Tensor = self.generator(torch.cat([latent, embedding], 1))
        return pictures


class MixedNorm(nn.Module):
    """Batch norm by stored statistics; scale and shift are linear in the condition."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False, eps=EPSILON)
        self.scale = nn.Linear(condition, channels)
        self.shift = nn.Linear(condition, channels)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        normal: Tensor = self.norm(features)
        scale: Tensor = 1 + self.scale(condition)
        shift: Tensor = self.shift(condition)
        return normal * scale[:, :, None, None] + shift[:, :, None, None]


class DoublingBlock(nn.Module):
    """Residual block that doubles the side."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.bn1 = MixedNorm(inputs, condition)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn2 = MixedNorm(outputs, condition)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        inner = _twice(self.conv1(self.relu(self.bn1(features, condition))))
        inner = self.conv2(self.relu(self.bn2(inner, condition)))
        out: Tensor = inner + _twice(self.skip(features))
        return out


class Conditional(nn.Module):
    """The generator that invertkit carries."""

    def __init__(self, *, classes: int, latent: int, embedding: int, widths: Sequence[int]) -> None:
        super().__init__()
        condition = latent + embedding
        self.first = widths[0]
        self.embeddings = nn.Linear(classes, embedding, bias=False)
        self.gen_z = nn.Linear(latent, 16 * self.first)
        self.blocks = nn.ModuleList(DoublingBlock(i, o, condition) for i, o in pairwise(widths))
        self.bn = nn.BatchNorm2d(widths[-1], eps=EPSILON)
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, latent: Tensor, embedding: Tensor) -> Tensor:
        """Pictures in [-1, 1]."""
        condition = torch.cat([latent, embedding], 1)
        features = self.gen_z(latent).view(-1, self.first, 4, 4)
        for block in self.blocks:
            features = block(features, condition)
        return torch.tanh(self.to_rgb(F.relu_(self.bn(features))))
