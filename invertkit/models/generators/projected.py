"""Discriminators on the features of a frozen network: fixed random mixing, and a head per scale."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Final, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from invertkit.models.classifiers.classifier import Classifier

_WIDTH: Final = 64
_COARSEST: Final = 6
"""Side in features at which a head stops halving: its scores are a map of that side at most."""


@final
class FeatureMixer(nn.Module):
    """Mixes feature maps of several depths by convolutions that stay as they were drawn.

    Across channels, each map goes through a 1×1 convolution. Across scales, from the deepest to
    the shallowest, what came out below is convolved 3×3, enlarged and added. So every map that a
    head looks at has something of all deeper ones, and a generator cannot satisfy a head by the
    few channels that it would otherwise attend to.

    Args:
        channels: Of the maps, shallow to deep.

    Attributes:
        widths: Channels of the mixed maps, shallow to deep: 64, or 128 where a map has more.

    Example:
        >>> mixer = FeatureMixer([8, 100])
        >>> maps = mixer([torch.zeros(2, 8, 12, 12), torch.zeros(2, 100, 6, 6)])
        >>> [tuple(each.shape) for each in maps]
        [(2, 64, 12, 12), (2, 128, 6, 6)]

    Source: Sauer et al. 2021, §3.2, Fig. 2 (cross-channel and cross-scale mixing). There the
    convolutions across scales are residual blocks at the finer side; here one at the coarser side,
    which costs a quarter.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(_WIDTH if count <= _WIDTH else 2 * _WIDTH for count in channels)
        self.across_channels = nn.ModuleList(
            nn.Conv2d(count, width, 1, bias=False)
            for count, width in zip(channels, self.widths, strict=True)
        )
        self.across_scales = nn.ModuleList(
            nn.Conv2d(deeper, width, 3, padding=1, bias=False)
            for width, deeper in zip(self.widths, self.widths[1:], strict=False)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        self.requires_grad_(False)

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> list[Float[Tensor, "b _ _ _"]]:
        """The mixed maps, shallow to deep, at the sides of those that came in."""
        mixed: list[Tensor] = []
        for depth in reversed(range(len(maps))):
            own = self.across_channels[depth](maps[depth])
            if mixed:
                below = self.across_scales[depth](mixed[-1])
                below = F.interpolate(below, own.shape[-2:], mode="bilinear", align_corners=False)
                own = (own + below) * 0.5**0.5  # as large as one of both, on average
            mixed.append(own)
        return mixed[::-1]


@final
class ScaleHead(nn.Module):
    """Realism of one mixed map for a class, `w·h + <V y, h> / √k`, at every place.

    Convolutions of stride 2 bring the map to a side of at most 6, one of 3×3 follows, each under
    spectral norm and with batch norm and leaky ReLU behind it; so do w and V stand under it.

    Args:
        channels: Of the map.
        side: Of the map.
        classes: Number of classes.
        width: Channels k inside.
        spectral: Whether weights are normed; not where the norm is divided out (see `baked`).

    Example:
        >>> head = ScaleHead(8, 24, classes=3, width=16)
        >>> head(torch.zeros(2, 8, 24, 24), torch.tensor([0, 2])).shape
        torch.Size([2, 6, 6])

    Source: Sauer et al. 2021, §3.2; projection, Miyato & Koyama 2018; spectral norm, Miyato et al.
    2018.
    """

    def __init__(
        self,
        channels: int,
        side: int,
        classes: int,
        *,
        width: int = _WIDTH,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        normed = spectral_norm if spectral else nn.Identity()
        self.trunk = nn.Sequential()
        while True:
            kernel, stride = (4, 2) if side > _COARSEST else (3, 1)
            convolution = nn.Conv2d(channels, width, kernel, stride, 1, bias=False)
            block = normed(convolution), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)
            self.trunk.append(nn.Sequential(*block))
            if stride == 1:
                break
            channels, side = width, side // 2
        self.linear = normed(nn.Conv2d(width, 1, 1))
        self.embedding = normed(nn.Embedding(classes, width))

    def forward(
        self, features: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]
    ) -> Float[Tensor, "b p q"]:
        """Scores of every place; higher is more real."""
        seen = self.trunk(features)
        plain = self.linear(seen)[:, 0]
        directions = self.embedding(labels).to(seen) * seen.shape[1] ** -0.5
        of_class = torch.einsum("bk, bkpq -> bpq", directions, seen)
        total: Tensor = (plain + of_class).float()
        return total

    def of_all(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Of every class the score, averaged over places."""
        seen = self.trunk(features)
        plain = self.linear(seen).mean((2, 3))
        directions = self.embedding.weight * seen.shape[1] ** -0.5
        total: Tensor = plain + seen.mean((2, 3)) @ directions.T
        return total


@final
class ProjectedDiscriminator(nn.Module):
    """What has judged a generator, as one network: eyes, mixing and heads.

    Layers to tap: `heads.0.trunk`, `heads.1.trunk`, …, fine to coarse; `layers` names them all.

    Args:
        eyes: Frozen classifier.
        eyes_layers: Of the eyes, shallow to deep.
        eyes_size: Side in pixels to which pictures are enlarged for them.
        mixer: What mixes these layers.
        heads: One for each.

    Source: Sauer et al. 2021.
    """

    def __init__(
        self,
        eyes: Classifier,
        *,
        eyes_layers: Sequence[str],
        eyes_size: int,
        mixer: FeatureMixer,
        heads: Sequence[ScaleHead],
    ) -> None:
        super().__init__()
        self.eyes, self.mixer, self.heads = eyes, mixer, nn.ModuleList(heads)
        self.eyes_layers, self.eyes_size = tuple(eyes_layers), eyes_size

    @property
    def layers(self) -> tuple[str, ...]:
        """What each head sees before it decides."""
        return tuple(f"heads.{depth}.trunk" for depth in range(len(self.heads)))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b classes"]:
        """How real pictures in [-1, 1] are for every class, summed over the heads."""
        size = (self.eyes_size, self.eyes_size)
        view = F.interpolate(image / 2 + 0.5, size, mode="bilinear", align_corners=False)
        maps = self.eyes.observe(view, self.eyes_layers)
        mixed = self.mixer([maps[name] for name in self.eyes_layers])
        scores: list[Tensor] = []
        for head, each in zip(self.heads, mixed, strict=True):
            assert isinstance(head, ScaleHead)  # noqa: S101 # a ModuleList does not say so
            scores.append(head.of_all(each))
        return torch.stack(scores).sum(0)


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


def run_leaves(eyes: Classifier, layers: Sequence[str], size: int) -> set[str]:
    """Names of the layers with weights that run before `layers` are all seen.

    Args:
        eyes: The classifier.
        layers: What is looked at.
        size: Side of the pictures.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))
        >>> sorted(run_leaves(Classifier(net), ["1"], 8))
        ['0']
    """
    ran: set[str] = set()
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: ran.add(name))
        for name, module in eyes.net.named_modules()
        if module._parameters or module._buffers
    ]
    try:
        with torch.no_grad():
            eyes.observe(torch.zeros(1, 3, size, size), tuple(layers))
    finally:
        for hook in hooks:
            hook.remove()
    return ran


def keep_leaves(net: nn.Module, kept: set[str]) -> None:
    """Put nothing in place of every other layer with weights: they are neither stored nor run.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))
        >>> keep_leaves(net, {"0"})
        >>> [type(part).__name__ for part in net]
        ['Conv2d', 'ReLU', 'Identity']
    """
    gone: list[str] = []
    for name, module in list(net.named_modules()):
        inside = any(name.startswith(f"{other}.") for other in gone)
        if name in kept or inside or not (module._parameters or module._buffers):
            continue
        parent, _, own = name.rpartition(".")
        setattr(net.get_submodule(parent), own, nn.Identity())
        gone.append(name)
