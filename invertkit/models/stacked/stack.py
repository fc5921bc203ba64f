"""Small convolutional networks of one form, side by side in one module.

Every image of a run has a critic or a segmenter of its own, which learns that photograph alone.
Their weights are stacked, and network j reads and writes the j-th block of channels of its
features `(rows, networks·channels, h, w)`, so that one grouped convolution does for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.models.stacked.normed_leaky import NormKind, leaky, normed_leaky

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

    Example:
        >>> layer = Layer(2, before=3, after=4, kernel=3)  # two networks, side by side
        >>> layer.weight.shape
        torch.Size([2, 4, 3, 3, 3])
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
        # A plain convolution with the turned kernel is as fast, can be grouped the same way, and
        # takes what the fused norm gives without a copy.
        if self.transposed:
            weight = weight.flip(3, 4).transpose(1, 2)
        return weight.flatten(0, 1)

    def convolved(
        self, features: Float[Tensor, "r ni h w"], which: slice = ALL
    ) -> Float[Tensor, "r no i j"]:
        """Convolved, without what follows: the norm and the LeakyReLU."""
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
            return self._scores(images, ALL)
        images = images.contiguous(memory_format=torch.channels_last)
        each = len(images) // self.networks
        step = each if self.couples else 1
        scores = [
            self._scores(images[i : i + step], slice(i // each, i // each + 1))
            for i in range(0, len(images), step)
        ]
        return scores[0] if len(scores) == 1 else torch.cat(scores)

    def _scores(self, images: Tensor, which: slice) -> Tensor:
        scores: Tensor = self(images, which)
        return scores


def beside(images: Float[Tensor, "b c h w"], networks: int) -> Float[Tensor, "r nc h w"]:
    """The images of `networks` networks, the first of each side by side in the first row.

    Example:
        >>> images = torch.arange(4.0).reshape(4, 1, 1, 1)  # two of each of two networks
        >>> beside(images, 2).flatten(1)
        tensor([[0., 2.],
                [1., 3.]])
    """
    if networks == 1:
        return images
    split: Tensor = images.unflatten(0, (networks, -1)).transpose(0, 1)
    return split.flatten(1, 2)
