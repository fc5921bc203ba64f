"""The segmenter of MAGIC, its encoder–decoder θ_ED: from an image to the mask of its object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from invertkit.models.stacked.normed_leaky import NormKind
from invertkit.models.stacked.stack import Layer, Stack


@final
class EncoderDecoder(Stack):
    """Three convolutions and three transposed ones, all 3×3, from an image to a mask's logits.

    Args:
        width: Channels inside.
        norm: After every layer, the last included.
        generators: Draw the initial weights, one for each network.

    The last layer passes through normalisation and LeakyReLU 0.2 too, and its output is the
    logit, positive where the object is: as released. 150,723 weights, receptive field 13. The
    paper gives every layer 64 channels, which cannot hold for the last. Sides below 8 pixels are
    too small.

    Example:
        >>> EncoderDecoder(width=4)(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 1, 8, 8])

    Source: MAGIC θ_ED, released code.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        norm: NormKind = "instance",
        generators: Sequence[torch.Generator | None] = (None,),
    ) -> None:
        count = len(generators)
        down = [(3, width), (width, width), (width, width)]
        up = [(width, width), (width, width), (width, 1)]
        super().__init__(
            [Layer(count, i, o, 3, norm=norm) for i, o in down]
            + [Layer(count, i, o, 3, transposed=True, norm=norm) for i, o in up],
            generators,
        )
