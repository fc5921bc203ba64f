"""The networks of LPIPS: a trunk cut at its layers, and a weight for every channel of each."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from invertkit.core.network import Network
from invertkit.core.pixel_space import IMAGENET_MEAN, IMAGENET_STD, per_channel
from invertkit.errors import InputError, WeightsError
from invertkit.models.classifiers.architectures import quiet_random
from invertkit.models.classifiers.open import embedded
from invertkit.models.folding.folding import Folding
from invertkit.models.loading import hub
from invertkit.models.loading.weights_file import load_into, read_weights, sha256

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

    Called with two batches of images in [0, 1], it gives their LPIPS distance, `(b,)`.

    Args:
        parts: In forward order.
        mean: Per channel, subtracted from the image.
        std: Per channel, divides the difference.
        description: What it is and where its weights came from; said aloud and in the report.
        size: Side in pixels of the images that its trunk was trained on.

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
        self._heads = nn.ParameterDict({part.layer: part.head.clone() for part in parts})
        self.mean, self.std = tuple(mean), tuple(std)
        self._smallest = tuple(part.smallest for part in parts)
        self._folding = Folding()
        self.eval().requires_grad_(False)

    @property
    def heads(self) -> dict[str, Float[Tensor, " c"]]:
        """Layer -> weights of its channels, shallow to deep."""
        return dict(self._heads.items())

    def forward(
        self, image: Float[Tensor, "#b 3 h w"], other: Float[Tensor, "#b 3 h w"]
    ) -> Float[Tensor, " b"]:
        """Σ over layers of the mean distance there; 0 for equal images, symmetric.

        Raises:
            InputError: The images are too small for a layer.
        """
        here, there = (self.observe(each, self.default_layers) for each in (image, other))
        maps = [
            distance_map(unit_channels(here[name]), unit_channels(there[name]), head)
            for name, head in self.heads.items()
        ]
        return torch.stack([distances.mean((1, 2, 3)) for distances in maps]).sum(0)

    def observe(
        self, image: Float[Tensor, "b 3 h w"], layers: Collection[str]
    ) -> Mapping[str, Float[Tensor, "b c _ _"]]:
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
        seen: dict[str, Tensor] = {}
        features = (image - per_channel(self.mean, image)) / per_channel(self.std, image)
        places = {str(i) for i, name in enumerate(self.default_layers) if name in wanted}
        with self._folding.lent(self.trunk, image, places):
            for name, part in zip(self.default_layers[:depth], self.trunk, strict=False):
                features = part(features)
                if name in wanted:
                    seen[name] = features
        return seen


def unit_channels(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The channels at every pixel, scaled to length 1; 0, with a finite slope, where they are 0."""
    length: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / (length + _EPSILON)


def distance_map(
    here: Float[Tensor, "#b c h w"], there: Float[Tensor, "#b c h w"], head: Float[Tensor, " c"]
) -> Float[Tensor, "b 1 h w"]:
    """Σ_c head_c (here_c - there_c)² of two maps of unit channels."""
    return ((here - there).square() * head[:, None, None]).sum(1, keepdim=True)


# ---------------------------------------------------------------------- where they come from


@final
@dataclass(frozen=True)
class _Trunk:
    """A network of torchvision, cut after these many of its feature modules."""

    name: str
    weights: str
    layers: tuple[str, ...]
    cuts: tuple[int, ...]
    smallest: tuple[int, ...]


_RELUS = tuple(f"relu{i}" for i in range(1, 8))
_TRUNKS: Final[Mapping[str, _Trunk]] = MappingProxyType(
    {
        "alex": _Trunk(
            "alexnet", "AlexNet_Weights", _RELUS[:5], (2, 5, 8, 10, 12), (7, 15, 31, 31, 31)
        ),
        "vgg": _Trunk(
            "vgg16",
            "VGG16_Weights",
            ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"),
            (4, 9, 16, 23, 30),
            (1, 2, 4, 8, 16),
        ),
        "squeeze": _Trunk(
            "squeezenet1_1",
            "SqueezeNet1_1_Weights",
            _RELUS,
            (2, 5, 8, 10, 11, 12, 13),
            (3, 5, 9, 17, 17, 17, 17),
        ),
    }
)


def lpips(
    *,
    net: Literal["alex", "vgg", "squeeze"] = "alex",
    features: Literal["published", "embedded"] = "published",
    weights: Path | None = None,
    pretrained: bool = True,
) -> PerceptualNet:
    """LPIPS, version 0.1, or the same measure on the classifier that the package carries.

    `published` has the values of the `lpips` package: its heads, which come with it, on the trunk
    of torchvision (`IMAGENET1K_V1`). Layers: `relu1` … `relu5` (`alex`), `relu1_2` … `relu5_3`
    (`vgg`), `relu1` … `relu7` (`squeeze`). Images have at least 31×31, 16×16 and 17×17 pixels.

    `embedded` needs no download: layers `stem`, `layer1`, `layer2` and `layer3` of the embedded
    quasi-robust KitNet with uniform heads, so that each layer gives the squared difference of unit
    channels, averaged over channels. Its values cannot be compared with published ones, and no
    human judgements went into it. Images have at least 8×8 pixels.

    Args:
        net: Trunk of `published`; `embedded` does not read it.
        features: Which of the two.
        weights: The trunk's file: torchvision's for `published`, otherwise from torch.hub's cache
            or the network; for `embedded` one of `invertkit train classifier`.
        pretrained: Of `published`, without `weights`: false for a random trunk, which is only good
            for timing.

    Raises:
        WeightsError: The weights cannot be had, are damaged, or do not fit.

    Source: Zhang et al. 2018 (arXiv:1801.03924). The shift and scale of their scaling layer are
    ImageNet's mean and standard deviation in units of [-1, 1].
    """
    if features == "embedded":
        return _embedded(weights)
    from torchvision import models

    trunk = _TRUNKS[net]
    said = "random weights"
    if weights is None and not pretrained:
        with quiet_random():
            whole: Any = models.get_model(trunk.name, weights=None)
    else:
        path = Path(weights) if weights is not None else _fetched(net)
        with quiet_random(), torch.device("meta"):  # no time is lost on drawing what is replaced
            whole = models.get_model(trunk.name, weights=None)
        whole.classifier = nn.Identity()
        whole.to_empty(device="cpu")
        state = read_weights(path)
        inner = {key: value for key, value in state.items() if not key.startswith("classifier.")}
        load_into(whole, inner, name=str(path))
        said = f"trunk {path.name}, sha256 {sha256(path)[:12]}"
    heads = _published_heads(net)
    starts = (0, *trunk.cuts)
    parts = [
        Part(layer, whole.features[start:stop], head, smallest)
        for layer, start, stop, head, smallest in zip(
            trunk.layers, starts, trunk.cuts, heads, trunk.smallest, strict=False
        )
    ]
    return PerceptualNet(parts, description=f"LPIPS {net} v0.1 ({said})")


def _embedded(weights: Path | None) -> PerceptualNet:
    classifier = embedded(weights=weights)
    parts = []
    for layer, smallest in (("stem", 2), ("layer1", 2), ("layer2", 4), ("layer3", 8)):
        module = classifier.layer(layer)
        channels = [m.out_channels for m in module.modules() if isinstance(m, nn.Conv2d)][-1]
        parts.append(Part(layer, module, torch.full((channels,), 1 / channels), smallest))
    return PerceptualNet(
        parts,
        mean=classifier.mean,
        std=classifier.std,
        description=f"a perceptual distance, not LPIPS's own, on {classifier.description}",
        size=classifier.size,
    )


def _published_heads(net: str) -> list[Float[Tensor, " c"]]:
    """Shallow to deep, from the files of the `lpips` package; the package is not imported."""
    spec = importlib.util.find_spec("lpips")
    if spec is None or spec.origin is None:
        raise WeightsError("The heads of LPIPS come with the package `lpips`: `pip install lpips`.")
    state = read_weights(Path(spec.origin).parent / "weights" / "v0.1" / f"{net}.pth")
    return [state[f"lin{i}.model.1.weight"].flatten() for i in range(len(state))]


def _fetched(net: str) -> Path:
    """The trunk's file in the cache of torch.hub, put there if need be; silent."""
    from torchvision import models

    trunk = _TRUNKS[net]
    url: str = models.get_weight(f"{trunk.weights}.IMAGENET1K_V1").url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if path.is_file():
        return path
    match = re.search(r"-([0-9a-f]{8,})\.", path.name)
    try:
        if hub.offline():
            raise OSError("HF_HUB_OFFLINE is set")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), match and match[1], progress=False)
    except (OSError, RuntimeError) as error:
        first = str(error).strip().split("\n")[0]
        raise WeightsError(
            f"The trunk of LPIPS {net} is not in the cache and cannot be fetched ({first:.100}): "
            f"put {path.name} of torchvision at {path}, or give the file with `weights:`, or take "
            "`features: embedded`, which needs no download."
        ) from None
    return path
