"""A perceptual network: a trunk cut at its layers, and a weight for every channel of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from invertkit.core.network import Network
from invertkit.core.pixel_space import IMAGENET_MEAN, IMAGENET_STD, per_channel
from invertkit.errors import InputError
from invertkit.models.classifiers.taps import Show, Taps
from invertkit.models.folding.folding import Folding

_EPSILON: Final = 1e-10  # beside the length of the channels, as in the `lpips` package


@final
@dataclass(frozen=True)
class Part:
    """A piece of a trunk, and the layer in which it ends.

    Args:
        layer: Name of what it puts out.
        module: From the part before, or from the normalised image.
        head: `(c,)`, the weight of every channel; not negative.
        smallest: Side of the smallest image that leaves something of the layer.
    """

    layer: str
    module: nn.Module
    head: Float[Tensor, " c"]
    smallest: int


@final
class PerceptualNet(Network):
    """A frozen trunk that shows its layers, with the heads that weigh their channels.

    Called with two batches of images in [0, 1], it gives their LPIPS distance, `(b,)`. Folding
    lends it faster weights while it observes, as it does a classifier.

    Args:
        parts: In forward order.
        mean: Per channel, subtracted from the image.
        std: Per channel, divides the difference.
        description: What it is and where its weights came from; said aloud and in the report.
        size: Side in pixels of the images that its trunk was trained on.

    Example:
        >>> stem = nn.Conv2d(3, 4, 3)
        >>> net = PerceptualNet([Part("stem", stem, head=torch.ones(4), smallest=3)])
        >>> image = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> net(image, image)
        tensor([0., 0.])

    Source: Zhang et al. 2018 (arXiv:1801.03924).
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        description: str = "a perceptual network given from Python",
        size: int = 224,
    ) -> None:
        super().__init__(
            description=description, size=size, default_layers=[part.layer for part in parts]
        )
        self.trunk = nn.Sequential(*(part.module for part in parts))
        self._heads = nn.ParameterList(part.head.clone() for part in parts)
        self.mean, self.std = tuple(mean), tuple(std)
        self._smallest = tuple(part.smallest for part in parts)
        self._folding = Folding()
        self._taps = Taps()
        self.eval().requires_grad_(False)

    @property
    def heads(self) -> dict[str, Float[Tensor, " _"]]:
        """Layer -> weights of its channels, shallow to deep."""
        return dict(zip(self.default_layers, self._heads, strict=True))

    def forward(
        self, image: Float[Tensor, "#b 3 h w"], other: Float[Tensor, "#b 3 h w"]
    ) -> Float[Tensor, " b"]:
        """Σ over layers of the mean distance there; 0 for equal images, symmetric.

        Raises:
            InputError: The images are too small for a layer.
        """
        seen, wanted = (self.observe(each, self.default_layers) for each in (image, other))
        maps = [
            distance_map(unit_channels(seen[name]), unit_channels(wanted[name]), head)
            for name, head in self.heads.items()
        ]
        return torch.stack([distances.mean((1, 2, 3)) for distances in maps]).sum(0)

    def observe(
        self, image: Float[Tensor, "b 3 h w"], layers: Collection[str]
    ) -> Mapping[str, Float[Tensor, "b _ _ _"]]:
        """Run the trunk once, no further than the last of the layers.

        Args:
            image: In [0, 1]; values outside pass through.
            layers: Of `default_layers`.

        Raises:
            TapError: A layer does not exist.
            InputError: The image is too small for a layer.
        """
        wanted = set(self.resolve(tuple(layers)))
        depth = max((self.default_layers.index(name) + 1 for name in wanted), default=0)
        if depth and min(image.shape[-2:]) < self._smallest[depth - 1]:
            side = self._smallest[depth - 1]
            raise InputError(
                f"{self.description} reads layer {self.default_layers[depth - 1]!r}, which needs "
                f"images of at least {side}×{side} pixels; these are {image.shape[-2]}×"
                f"{image.shape[-1]}. Give the stage a larger size, or the term a `min_size`."
            )
        places = {str(i) for i, name in enumerate(self.default_layers) if name in wanted}

        def run(show: Show) -> None:
            features = (image - per_channel(self.mean, image)) / per_channel(self.std, image)
            for name, part in zip(self.default_layers[:depth], self.trunk, strict=False):
                features = part(features)
                if name in wanted:
                    show(name, features)

        with self._folding.lent(self.trunk, image, places):
            return self._taps.look(run)


def unit_channels(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The channels at every pixel, scaled to length 1; 0, with a finite slope, where they are 0.

    Args:
        features: What a layer puts out.

    Example:
        >>> unit_channels(torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)).flatten()
        tensor([0.6000, 0.8000])
    """
    length: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / (length + _EPSILON)


def distance_map(
    first: Float[Tensor, "#b c h w"], second: Float[Tensor, "#b c h w"], head: Float[Tensor, " c"]
) -> Float[Tensor, "b 1 h w"]:
    """Squared distance of two maps of unit channels: Σ_c head_c (first_c - second_c)².

    Args:
        first: One, as `unit_channels` gives it.
        second: The other, of the same height and width.
        head: The weight of every channel.

    Example:
        >>> one, other = torch.zeros(1, 2, 1, 1), torch.ones(1, 2, 1, 1)
        >>> distance_map(one, other, torch.tensor([0.5, 0.25])).item()
        0.75
    """
    return ((first - second).square() * head[:, None, None]).sum(1, keepdim=True)
