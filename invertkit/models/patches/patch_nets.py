"""Small convolutional networks that are trained on one photograph: patch critic and segmenter.

Several networks of one form are one module, side by side: their weights are stacked, and network
j reads and writes the j-th block of channels of its features `(rows, networks·channels, h, w)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.models.patches.patch_norm import NormKind, leaky, normed_leaky

ALL = slice(None)
"""All networks of a stack."""


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
class Layer(nn.Module):
    """A convolution of stacked networks, with normalisation and LeakyReLU 0.2 where wanted.

    Args:
        networks: How many are side by side.
        before: Channels of a network that it reads.
        after: Channels that it writes.
        kernel: Side.
        stride: Of a plain convolution; transposed ones move by 1.
        transposed: A transposed convolution; it is computed as the plain one, of the turned
            kernel over a padded image, that it equals.
        norm: After the convolution. It subtracts the mean and so cancels the convolution's bias,
            which is kept, to count as published, and never used.
        activated: Normalisation and LeakyReLU follow.
    """

    def __init__(
        self,
        networks: int,
        before: int,
        after: int,
        kernel: int,
        *,
        stride: int = 1,
        transposed: bool = False,
        norm: NormKind = "none",
        activated: bool = True,
    ) -> None:
        super().__init__()
        channels = (before, after) if transposed else (after, before)
        self.stride, self.transposed, self.activated = stride, transposed, activated
        self.norm: NormKind = norm if activated else "none"
        self.padding = kernel - 1 if transposed else 0
        self.weight = nn.Parameter(torch.empty(networks, *channels, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(networks, after))
        if self.norm != "none":
            self.scale = nn.Parameter(torch.empty(networks, after))
            self.shift = nn.Parameter(torch.empty(networks, after))

    def kernels(self, which: slice = ALL) -> Float[Tensor, "no i k k"]:
        """Those of some of the networks, one after the other, as a grouped convolution has them."""
        weight = self.weight[which]
        if self.transposed:
            weight = weight.flip(3, 4).transpose(1, 2)
        return weight.flatten(0, 1)

    def convolved(
        self, features: Float[Tensor, "r ni h w"], which: slice = ALL
    ) -> Float[Tensor, "r no i j"]:
        """The convolution alone."""
        kernels = self.kernels(which)
        bias = self.bias[which].flatten() if self.norm == "none" else None
        return F.conv2d(
            features,
            kernels,
            bias,
            stride=self.stride,
            padding=self.padding,
            groups=features.shape[1] // kernels.shape[1],
        )

    def forward(
        self, features: Float[Tensor, "r ni h w"], which: slice = ALL
    ) -> Float[Tensor, "r no i j"]:
        """Convolved, normalised and activated."""
        features = self.convolved(features, which)
        if not self.activated:
            return features
        if self.norm == "none":
            return leaky(features)
        scale, shift = self.scale[which].flatten(), self.shift[which].flatten()
        return normed_leaky(features, scale, shift, self.norm)

    def learnt(self) -> list[nn.Parameter]:
        """The parameters that matter: all but a bias that the normalisation cancels."""
        if self.norm == "none":
            return [self.weight, self.bias]
        return [self.weight, self.scale, self.shift]

    def draw(self, network: int, generator: torch.Generator | None) -> None:
        """Initial weights of one network, with the rules of the released MAGIC code.

        Convolutions N(0, 0.02), norm weights N(1, 0.02), norm biases 0. Transposed convolutions
        and biases keep PyTorch's rule, uniform within ±1/√fan-in: the released rule matches class
        names and misses them.
        """
        weight = self.weight[network]
        bound = 1 / math.sqrt(weight[0].numel())
        if self.transposed:
            weight.uniform_(-bound, bound, generator=generator)
        else:
            weight.normal_(0, 0.02, generator=generator)
        self.bias[network].uniform_(-bound, bound, generator=generator)
        if self.norm != "none":
            self.scale[network].normal_(1, 0.02, generator=generator)
            self.shift[network].zero_()


class Stack(nn.Module):
    """Networks of one form. A single one sees every image; each of several an equal share of them.

    Args:
        layers: In order.
        generators: Draw the initial weights, one for each network.
    """

    def __init__(
        self, layers: Sequence[Layer], generators: Sequence[torch.Generator | None]
    ) -> None:
        super().__init__()
        self.networks = len(generators)
        self.layers = nn.ModuleList(layers)
        self.requires_grad_(False)
        for network, generator in enumerate(generators):
            for layer in layers:
                layer.draw(network, generator)

    @property
    def couples(self) -> bool:
        """Whether images that meet in one network depend on each other."""
        return any(layer.norm == "batch" for layer in self.stack)

    @property
    def stack(self) -> list[Layer]:
        """The layers in order."""
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def learnt(self) -> list[nn.Parameter]:
        """The parameters that an update changes, in order."""
        return [parameter for layer in self.stack for parameter in layer.learnt()]

    def forward(
        self, images: Float[Tensor, "b 3 h w"], which: slice = ALL
    ) -> Float[Tensor, "b 1 i j"]:
        """What the networks (or `which` of them) say of their images, in one pass."""
        count = len(range(self.networks)[which])
        features = beside(images, count)
        for layer in self.layers:
            features = layer(features, which)
        rows: Tensor = features.unflatten(1, (count, -1)).transpose(0, 1)
        return rows.flatten(0, 1)

    def one_by_one(self, device: torch.device) -> bool:
        """Whether images are fastest one after the other: on a CPU, whose caches hold one."""
        return device.type == "cpu"

    def turns(self, device: torch.device) -> list[slice]:
        """Which networks learn together."""
        if self.networks == 1 or not self.one_by_one(device):
            return [ALL]
        return [slice(i, i + 1) for i in range(self.networks)]

    def look(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 i j"]:
        """What the networks say of their images, the quickest way for weights that stand still.

        One by one that is with channels last. Weight gradients take several times as long with
        channels last on a CPU, so nothing learns this way.
        """
        if not self.one_by_one(images.device):
            return self._said(images, ALL)
        images = images.contiguous(memory_format=torch.channels_last)
        each = len(images) // self.networks
        step = each if self.couples else 1
        said = [
            self._said(images[i : i + step], slice(i // each, i // each + 1))
            for i in range(0, len(images), step)
        ]
        return said[0] if len(said) == 1 else torch.cat(said)

    def _said(self, images: Tensor, which: slice) -> Tensor:
        said: Tensor = self(images, which)
        return said


def beside(images: Float[Tensor, "b c h w"], networks: int) -> Float[Tensor, "r nc h w"]:
    """The images of `networks` networks, the first of each side by side in the first row."""
    if networks == 1:
        return images
    split: Tensor = images.unflatten(0, (networks, -1)).transpose(0, 1)
    return split.flatten(1, 2)


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
