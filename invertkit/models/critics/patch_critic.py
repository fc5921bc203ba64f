"""The critic of MAGIC and IMAGINE: a score for every patch of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from invertkit.models.stacked.normed_leaky import NormKind
from invertkit.models.stacked.stack import Layer, Stack, receptive_field


@final
class PatchCriticNet(Stack):
    """Convolutions without padding that score every patch of an image.

    Args:
        kernels: Side of each convolution's kernel.
        strides: Stride of each convolution.
        widths: Output channels of each convolution but the last, which has one.
        norm: Between convolution and LeakyReLU 0.2; the last convolution stands alone.
        generators: Draw the initial weights, one for each network.

    Its `receptive_field` is computed from kernels and strides. MAGIC's is kernels 4, 4, 4, 3, 1,
    strides 1, 2, 2, 1, 1, widths 64, 128, 128, 128: 21 pixels, 545,217 weights. The paper's text
    has a last kernel of 3, which would make 29 and contradict its own count of weights. IMAGINE's
    is five of 3, 3, 3, 3, 1, stride 1, width 128: 9 pixels.

    Example:
        >>> critic = PatchCriticNet(kernels=(3, 3), strides=(1, 1), widths=(4,))
        >>> critic.receptive_field, critic(torch.rand(2, 3, 8, 8)).shape
        (5, torch.Size([2, 1, 4, 4]))

    Source: MAGIC §Implementation and released code; initial weights as in `Layer.draw`.
    """

    def __init__(
        self,
        *,
        kernels: Sequence[int] = (4, 4, 4, 3, 1),
        strides: Sequence[int] = (1, 2, 2, 1, 1),
        widths: Sequence[int] = (64, 128, 128, 128),
        norm: NormKind = "instance",
        generators: Sequence[torch.Generator | None] = (None,),
    ) -> None:
        if not len(kernels) == len(strides) == len(widths) + 1:
            raise ValueError(
                "A critic needs as many kernels as strides and one width less, got "
                f"{len(kernels)} kernels, {len(strides)} strides and {len(widths)} widths."
            )
        self.receptive_field = receptive_field(kernels, strides)
        channels, count = [3, *widths, 1], len(generators)
        super().__init__(
            [
                Layer(count, i, o, kernel, stride=stride, norm=norm, activated=number < len(widths))
                for number, (i, o, kernel, stride) in enumerate(
                    zip(channels, channels[1:], kernels, strides, strict=False)
                )
            ],
            generators,
        )
