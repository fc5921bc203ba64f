"""BigGAN-deep: the published class-conditional generators of 128, 256 and 512 pixels.

The weights are those that DeepMind released, in the files of `pytorch-pretrained-biggan`, whose
names of parameters are kept. Two things are done once at loading instead of on every forward: the
spectral norm is divided out, and one row of the batch-norm statistics is selected.

Source: Brock, Donahue & Simonyan 2019, Large scale GAN training for high fidelity natural image
synthesis (arXiv:1809.11096), appendix B; attention after SAGAN (Zhang et al. 2019,
arXiv:1805.08318). Files: https://github.com/huggingface/pytorch-pretrained-BigGAN.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.models.generators.biggan.config import BigGANConfig
from invertkit.models.generators.class_maps import (
    ClassLayer,
    ClassMap,
    Condition,
    conditions_of,
    mixed,
)


def statistics_at(table: Float[Tensor, "n c"], truncation: float) -> Float[Tensor, " c"]:
    """The row of `table` for a truncation, linear between its two neighbours.

    Row i belongs to truncation i / (n - 1): so 0.58 of 51 rows is row 29, and 0.59 halfway to row
    30. Rows are returned exactly.

    Differs from `pytorch-pretrained-biggan`, which gives the *lower* neighbour the weight that
    belongs to the upper. There the statistics run backwards between rows and jump at each of them;
    even 0.58, which divided by 1 / 50 falls just short of 29, takes almost all of row 28.

    Example:
        >>> statistics_at(torch.tensor([[0.0], [1.0], [2.0]]), 0.75)
        tensor([1.5000])
    """
    # Rounded, since 0.58 · 50 is 28.999999999999996 and would mix in the row before.
    position = round(truncation * (len(table) - 1), 9)
    lower = int(position)
    upper = min(lower + 1, len(table) - 1)
    return torch.lerp(table[lower], table[upper], position - lower)


class _Norm(nn.Module, ABC):
    """Batch norm by stored statistics, as one scale and shift per channel, then ReLU."""

    running_means: Tensor
    running_vars: Tensor
    mean: Tensor
    inverse: Tensor

    def __init__(self, channels: int, config: BigGANConfig) -> None:
        super().__init__()
        self.eps, self.truncation = config.eps, 1.0
        self.register_buffer("running_means", torch.zeros(config.n_stats, channels))
        self.register_buffer("running_vars", torch.ones(config.n_stats, channels))
        self.register_buffer("mean", torch.zeros(channels), persistent=False)
        self.register_buffer("inverse", torch.ones(channels), persistent=False)
        self.register_load_state_dict_post_hook(_select_again)  # type: ignore[no-untyped-call]

    def select(self, truncation: float) -> None:
        """Take the statistics of this truncation from now on."""
        self.truncation = truncation
        if self.running_means.is_meta:  # none yet; and arithmetic without data takes long to import
            return
        self.mean = statistics_at(self.running_means, truncation)
        self.inverse = (statistics_at(self.running_vars, truncation) + self.eps).rsqrt()

    @abstractmethod
    def affine(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift of normalised features, `(b, c)` or `(1, c)`."""

    def joined(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift of features as they come, with the statistics in them."""
        scale, shift = self.affine(condition)
        scale = scale * self.inverse
        return scale, torch.addcmul(shift, self.mean, scale, value=-1)

    def forward(self, features: Tensor, condition: Condition) -> Tensor:
        # Statistics are joined to scale and shift, which have one number a channel and class, so
        # that the features are read and written once.
        scale, shift = (part.to(features) for part in mixed(self.joined, condition))
        return F.relu_(torch.addcmul(shift, features, scale))


def _select_again(norm: _Norm, _: object) -> None:
    """After loading: the selected row is of other statistics now."""
    norm.select(norm.truncation)


@final
class _ConditionalNorm(_Norm):
    """Scale and shift are linear in the condition."""

    def __init__(self, channels: int, config: BigGANConfig) -> None:
        super().__init__(channels, config)
        condition = config.latent + config.embedding
        self.scale = nn.Linear(condition, channels, bias=False)
        self.offset = nn.Linear(condition, channels, bias=False)

    def affine(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        return 1 + self.scale(condition), self.offset(condition)


@final
class _PlainNorm(_Norm):
    """Scale and shift are parameters."""

    def __init__(self, channels: int, config: BigGANConfig) -> None:
        super().__init__(channels, config)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def affine(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        return self.weight[None], self.bias[None]


@final
class _Block(nn.Module):
    """Bottleneck of four convolutions; the skip drops the second half of the channels."""

    def __init__(self, config: BigGANConfig, *, inputs: int, outputs: int, upsample: bool) -> None:
        super().__init__()
        self.outputs, self.upsample = outputs, upsample
        middle = inputs // 4
        self.bn_0 = _ConditionalNorm(inputs, config)
        self.conv_0 = nn.Conv2d(inputs, middle, 1)
        self.bn_1 = _ConditionalNorm(middle, config)
        self.conv_1 = nn.Conv2d(middle, middle, 3, padding=1)
        self.bn_2 = _ConditionalNorm(middle, config)
        self.conv_2 = nn.Conv2d(middle, middle, 3, padding=1)
        self.bn_3 = _ConditionalNorm(middle, config)
        self.conv_3 = nn.Conv2d(middle, outputs, 1)

    def forward(self, features: Tensor, told: Sequence[Condition]) -> Tensor:
        """`told` are the conditions of the four norms."""
        inner = self.bn_1(self.conv_0(self.bn_0(features, told[0])), told[1])
        skip = features[:, : self.outputs]
        if self.upsample:
            inner, skip = _twice(inner), _twice(skip)
        inner = self.conv_2(self.bn_2(self.conv_1(inner), told[2]))
        inner = self.conv_3(self.bn_3(inner, told[3]))
        return skip.add_(inner) if self.upsample else skip + inner  # in place only if it is ours


def _twice(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2, mode="nearest")


@final
class _Attention(nn.Module):
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
        weights = torch.softmax(query.mT @ key, -1)  # (b, places, places / 4)
        seen = (value @ weights.mT).unflatten(2, features.shape[2:])
        return torch.addcmul(features, self.gamma, self.snconv1x1_o_conv(seen))


@final
class _FirstThree(nn.Conv2d):
    """A convolution of which the first three channels are made: the published one has more."""

    bias: Tensor

    def forward(self, features: Tensor) -> Tensor:
        return F.conv2d(features, self.weight[:3], self.bias[:3], padding=self.padding)


@final
class _Generator(nn.Module):
    """From the condition, z and class embedding, to the picture."""

    def __init__(self, config: BigGANConfig) -> None:
        super().__init__()
        unit = config.channel_width
        first, last = config.layers[0][1] * unit, config.layers[-1][2] * unit
        self.gen_z = nn.Linear(config.latent + config.embedding, 4 * 4 * first)
        self.start = nn.Identity()  # so that hooks reach the first map
        self.layers = nn.ModuleList()
        for index, (upsample, inputs, outputs) in enumerate(config.layers):
            if index == config.attention:
                self.layers.append(_Attention(inputs * unit))
            self.layers.append(
                _Block(config, inputs=inputs * unit, outputs=outputs * unit, upsample=upsample)
            )
        self.bn = _PlainNorm(last, config)
        self.conv_to_rgb = _FirstThree(last, last, 3, padding=1)

    def class_layers(self) -> Iterator[ClassLayer]:
        """The layers that the class enters: the start, and four norms a block."""
        yield ClassLayer("generator.start", (4, 4))
        side = 4
        for index, layer in enumerate(self.layers):
            if isinstance(layer, _Block):
                after = 2 * side if layer.upsample else side
                for number, at in enumerate((side, side, after, after)):
                    yield ClassLayer(f"generator.layers.{index}.bn_{number}", (at, at))
                side = after

    def forward(self, told: Sequence[Condition]) -> Tensor:
        """`told` are the conditions of the class layers, in order."""
        features = self.start(self._first(told[0]))  # and it stays channels-last in memory
        number = 1
        for layer in self.layers:
            if isinstance(layer, _Block):
                features = layer(features, told[number : number + 4])
                number += 4
            else:
                features = layer(features)
        # The last norm has parameters of its own, and looks at no condition.
        rgb: Tensor = self.conv_to_rgb(self.bn(features, features.new_zeros(1, 0)))
        like = told[0] if isinstance(told[0], Tensor) else told[0].rows
        return torch.tanh(rgb.to(like))

    def _first(self, condition: Condition) -> Float[Tensor, "b c 4 4"]:
        """The 4×4 start of a condition, or of several, each where its weight is."""
        if isinstance(condition, Tensor):
            rows: Tensor = self.gen_z(condition).unflatten(1, (4, 4, -1))  # height, width, channels
        else:
            starts = self.gen_z(condition.rows).unflatten(2, (4, 4, -1))
            rows = torch.einsum("bkhwc,bkhw->bhwc", starts, condition.weights.to(starts))
        return rows.permute(0, 3, 1, 2)


@final
class BigGANDeep(nn.Module):
    """BigGAN-deep, the generator: a latent and a class embedding to a picture.

    Layers to tap: `generator.gen_z` (its rows are the 4×4 start, channels last), and
    `generator.layers.{i}`, i counting the blocks and, before block `config.attention`, the
    attention. Inside a block, `bn_{j}` shows what comes after its ReLU. `embeddings.weight` is
    `(e, classes)`: column k is the embedding of class k.

    Args:
        config: Its shape; `BigGANConfig.of(256)` is the published one of 256 pixels.
        truncation: Of the statistics, in (0, 1]: what the latents were truncated at, z being a
            normal truncated to ±2 times this number. 1 for no truncation, and for optimising z.

    Raises:
        InputError: The truncation is not in (0, 1].

    Example:
        >>> shape = {"layers": ((True, 2, 1),), "attention": 0, "channel_width": 8}
        >>> net = BigGANDeep(BigGANConfig(**shape, latent=3, embedding=2, classes=4))
        >>> net(torch.zeros(1, 3), net.embeddings.weight.T[:1]).shape
        torch.Size([1, 3, 8, 8])

    Built without `load_biggan`, its weights are random as PyTorch draws them, and its statistics 0
    and 1.

    Source: Brock et al. 2019 and the layout of `pytorch-pretrained-biggan`. Differs from the latter
    in the statistics between two rows (see `statistics_at`) and in taking the class as an
    embedding, so that it can be optimised; and only in rounding by folding each norm into one scale
    and shift, by plain weights instead of spectrally normed ones, and by making three channels at
    the end instead of the stored 128.
    """

    def __init__(self, config: BigGANConfig, *, truncation: float = 1.0) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.Linear(config.classes, config.embedding, bias=False)
        self.generator = _Generator(config)
        self.truncation = truncation

    @property
    def truncation(self) -> float:
        """Selects the statistics of every norm when it is set."""
        return self._truncation

    @truncation.setter
    def truncation(self, value: float) -> None:
        if not 0 < value <= 1:
            raise InputError(f"truncation: expected a number in (0, 1], got {value}.")
        self._truncation = value
        for module in self.modules():
            if isinstance(module, _Norm):
                module.select(value)

    @functools.cached_property
    def class_layers(self) -> tuple[ClassLayer, ...]:
        """The layers that the class enters, in order."""
        return tuple(self.generator.class_layers())

    @property
    def levels(self) -> tuple[str, ...]:
        """The layers whose features can be blended: the start, and what every block puts out."""
        blocks = [
            f"generator.layers.{index}"
            for index, layer in enumerate(self.generator.layers)
            if isinstance(layer, _Block)
        ]
        return ("generator.start", *blocks)

    def forward(
        self, latent: Float[Tensor, "b z"], embedding: Float[Tensor, "b e"] | ClassMap
    ) -> Float[Tensor, "b 3 s s"]:
        """Pictures in [-1, 1] of `config.resolution` pixels.

        Args:
            latent: Standard normal, or truncated as `truncation` says.
            embedding: A column of `embeddings.weight`, or anything between or beyond them; or a
                map of several, with weights for each of `class_layers`.
        """
        pictures: Tensor = self.generator(conditions_of(embedding, latent, self.class_layers))
        return pictures
