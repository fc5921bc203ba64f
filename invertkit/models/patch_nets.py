"""Small convolutional networks that are trained on one photograph: patch critic and segmenter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

NormKind = Literal["instance", "batch", "none"]
"""Statistics over each image alone, over the whole batch, or no normalisation."""


def receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Side in pixels of the patch that one output of a stack of convolutions sees.

    Example:
        >>> receptive_field([4, 4, 4, 3, 1], [1, 2, 2, 1, 1])
        21
    """
    field, jump = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * jump
        jump *= stride
    return field


@final
class ImageNorm(nn.Module):
    """Affine normalisation by the statistics of what is passed, never by stored ones.

    `instance` takes them over the pixels of each image: this is what train-mode batch
    normalisation computes for a batch of one. `batch` takes them over pixels and batch, as the
    released code does, and so makes the images of a batch depend on each other.
    """

    def __init__(self, channels: int, kind: Literal["instance", "batch"]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.kind = kind

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalised, scaled and shifted."""
        # For one image all of PyTorch's norms are equal. `group_norm` is the fastest where a
        # gradient penalty is differentiated again, `batch_norm` on frozen, channels-last passes.
        frozen = not self.weight.requires_grad
        if self.kind == "batch" or (frozen and len(features) == 1):
            return nn.functional.batch_norm(
                features, None, None, self.weight, self.bias, training=True
            )
        return nn.functional.group_norm(features, features.shape[1], self.weight, self.bias)


@final
class PatchCriticNet(nn.Module):
    """Convolutions without padding that score every patch of an image.

    Args:
        kernels: Side of each convolution's kernel.
        strides: Stride of each convolution.
        widths: Output channels of each convolution but the last, which has one.
        norm: Between convolution and LeakyReLU 0.2; the last convolution stands alone.
        generator: Draws the initial weights.

    Its `receptive_field` is computed from kernels and strides. MAGIC's is kernels 4, 4, 4, 3, 1,
    strides 1, 2, 2, 1, 1, widths 64, 128, 128, 128: 21 pixels, 545,217 weights. The paper's text
    has a last kernel of 3, which would make 29 and contradict its own count of weights. IMAGINE's
    is five of 3, 3, 3, 3, 1, stride 1, width 128: 9 pixels.

    Source: MAGIC §Implementation and released code; initial weights as in `initialise`.
    """

    def __init__(
        self,
        *,
        kernels: Sequence[int] = (4, 4, 4, 3, 1),
        strides: Sequence[int] = (1, 2, 2, 1, 1),
        widths: Sequence[int] = (64, 128, 128, 128),
        norm: NormKind = "instance",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not len(kernels) == len(strides) == len(widths) + 1:
            raise ValueError(
                "A critic needs as many kernels as strides and one width less, got "
                f"{len(kernels)} kernels, {len(strides)} strides and {len(widths)} widths."
            )
        self.receptive_field = receptive_field(kernels, strides)
        channels = [3, *widths, 1]
        layers: list[nn.Module] = []
        with torch.random.fork_rng(devices=[]):  # PyTorch draws weights that we draw again
            for i, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
                layers.append(nn.Conv2d(channels[i], channels[i + 1], kernel, stride))
                if i < len(widths):
                    layers += _activated(channels[i + 1], norm)
        self.layers = nn.Sequential(*layers)
        initialise(self, generator)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 i j"]:
        """One score per patch."""
        scores: Tensor = self.layers(image)
        return scores


@final
class EncoderDecoder(nn.Module):
    """Three convolutions and three transposed ones, all 3×3, from an image to a mask's logits.

    Args:
        width: Channels inside.
        norm: After every layer, the last included.
        generator: Draws the initial weights.

    The last layer passes through normalisation and LeakyReLU 0.2 too, and its output is the
    logit: as released. 150,723 weights, receptive field 13. The paper gives every layer 64
    channels, which cannot hold for the last. Sides below 8 pixels are too small.

    Source: MAGIC θ_ED, released code.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        norm: NormKind = "instance",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        down = [(3, width), (width, width), (width, width)]
        up = [(width, width), (width, width), (width, 1)]
        layers: list[nn.Module] = []
        with torch.random.fork_rng(devices=[]):  # PyTorch draws weights that we draw again
            for i, o in down:
                layers += [nn.Conv2d(i, o, 3), *_activated(o, norm)]
            for i, o in up:
                layers += [nn.ConvTranspose2d(i, o, 3), *_activated(o, norm)]
        self.layers = nn.Sequential(*layers)
        initialise(self, generator)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Logits, positive where the object is."""
        logits: Tensor = self.layers(image)
        return logits


def _activated(channels: int, norm: NormKind) -> list[nn.Module]:
    activation = nn.LeakyReLU(0.2)
    return [activation] if norm == "none" else [ImageNorm(channels, norm), activation]


def initialise(net: nn.Module, generator: torch.Generator | None) -> None:
    """Draw all weights from `generator`, with the rules of the released MAGIC code.

    Convolutions N(0, 0.02), norm weights N(1, 0.02), norm biases 0. Transposed convolutions and
    biases keep PyTorch's rule, uniform within ±1/√fan-in: the released rule matches class names
    and misses them.
    """
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.normal_(0, 0.02, generator=generator)
                _uniform_bias(module, module.weight[0].numel(), generator)
            elif isinstance(module, nn.ConvTranspose2d):
                bound = 1 / math.sqrt(module.weight[0].numel())
                module.weight.uniform_(-bound, bound, generator=generator)
                _uniform_bias(module, module.weight[0].numel(), generator)
            elif isinstance(module, ImageNorm):
                module.weight.normal_(1, 0.02, generator=generator)
                module.bias.zero_()


def _uniform_bias(
    module: nn.Conv2d | nn.ConvTranspose2d, fan_in: int, generator: torch.Generator | None
) -> None:
    if module.bias is not None:
        bound = 1 / math.sqrt(fan_in)
        module.bias.uniform_(-bound, bound, generator=generator)
