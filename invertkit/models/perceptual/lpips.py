"""LPIPS of the published package, and the same measure on the embedded classifier."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from invertkit.errors import WeightsError
from invertkit.models.classifiers.architectures import quiet_random
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.sources.embedded import embedded
from invertkit.models.loading import hub
from invertkit.models.loading.weights_file import cited, load_into, read_weights
from invertkit.models.perceptual.network import Part, PerceptualNet


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

_LOOK: Final = torch.linspace(0, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
"""A picture that tells pieces of a network apart."""


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

    `embedded` needs no download: layers `conv_stem`, `blocks.1`, `blocks.2` and `blocks.4` of the
    embedded quasi-robust EfficientNet-Lite0 with uniform heads, so that each layer gives the
    squared difference of unit channels, averaged over channels. Its values cannot be compared with
    published ones, and no human judgements went into it. Images have at least 16×16 pixels.

    Args:
        net: Trunk of `published`; `embedded` does not read it.
        features: Which of the two.
        weights: The trunk's file: torchvision's for `published`, otherwise from torch.hub's cache
            or the network; for `embedded` one of `invertkit train classifier`.
        pretrained: Of `published`, without `weights`: false for a random trunk, which is only good
            for timing.

    Raises:
        WeightsError: The weights cannot be had, are damaged, or do not fit.

    Example:
        >>> net = lpips(features="embedded")
        >>> net.resolve(["default"])
        ('conv_stem', 'blocks.1', 'blocks.2', 'blocks.4')
        >>> net(torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)).shape
        torch.Size([1])

    Source: Zhang et al. 2018 (arXiv:1801.03924). The shift and scale of their scaling layer are
    ImageNet's mean and standard deviation in units of [-1, 1].
    """
    if features == "embedded":
        return _embedded(weights)
    trunk = _TRUNKS[net]
    if weights is None and not pretrained:
        layers, origin = _random_trunk(trunk), "random weights"
    else:
        path = Path(weights) if weights is not None else _fetched(net)
        layers, origin = _trunk_of_file(trunk, path), f"trunk {cited(path)}"
    starts = (0, *trunk.cuts)
    parts = [
        Part(layer, layers[start:stop], head, smallest)
        for layer, start, stop, head, smallest in zip(
            trunk.layers, starts, trunk.cuts, _published_heads(net), trunk.smallest, strict=False
        )
    ]
    return PerceptualNet(parts, description=f"LPIPS {net} v0.1 ({origin})")


def _random_trunk(trunk: _Trunk) -> nn.Sequential:
    from torchvision import models

    with quiet_random():
        layers: nn.Sequential = models.get_model(trunk.name, weights=None).features
    return layers


def _trunk_of_file(trunk: _Trunk, path: Path) -> nn.Sequential:
    """The feature modules of torchvision's network, with the weights of a file."""
    from torchvision import models

    # On the meta device no time is lost on drawing weights that are replaced at once.
    with quiet_random(), torch.device("meta"):
        whole: Any = models.get_model(trunk.name, weights=None)
    whole.classifier = nn.Identity()
    whole.to_empty(device="cpu")
    state = read_weights(path)
    inner = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    load_into(whole, inner, name=str(path))
    layers: nn.Sequential = whole.features
    return layers


def _embedded(weights: Path | None) -> PerceptualNet:
    classifier = embedded(weights=weights)
    layers = classifier.default_layers
    side = _LOOK.shape[-1]
    parts = []
    # A network whose modules do not run one after the other would be cut wrongly, in silence; so
    # what the pieces give is held against what the layers are.
    with contextlib.suppress(RuntimeError, ValueError, AssertionError), torch.no_grad():
        seen = classifier.observe(_LOOK, layers)
        features = classifier.normalized(_LOOK)
        for layer, module in zip(layers, _cut(classifier), strict=True):
            features = module(features)
            torch.testing.assert_close(features, seen[layer], atol=1e-3, rtol=1e-3)
            channels, left = features.shape[1], features.shape[-1]
            head = torch.full((channels,), 1 / channels)
            parts.append(Part(layer, module, head, smallest=max(2, side // left)))
    if not parts or len(parts) < len(layers):
        raise WeightsError(
            f"{classifier.description} cannot be a perceptual network: its layers do not follow "
            "one another. Give a file of `invertkit train classifier`."
        )
    return PerceptualNet(
        parts,
        mean=classifier.mean,
        std=classifier.std,
        description=f"a perceptual distance, not LPIPS's own, on {classifier.description}",
        size=classifier.size,
    )


def _cut(classifier: Classifier) -> list[nn.Sequential]:
    """The network in pieces, each of which ends in one of its default layers."""
    ends = classifier.default_layers
    pieces: list[list[nn.Module]] = [[]]
    for name, module in _in_order(classifier.net, ends):
        pieces[-1].append(module)
        if name in ends:
            pieces.append([])
    return [nn.Sequential(*piece) for piece in pieces[: len(ends)]]


def _in_order(net: nn.Module, ends: Sequence[str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Its modules as they run, those within which a layer ends one by one."""
    for name, module in net.named_children():
        whole = f"{path}{name}"
        if any(end.startswith(f"{whole}.") for end in ends):
            yield from _in_order(module, ends, f"{whole}.")
        else:
            yield whole, module


def _published_heads(net: str) -> list[Float[Tensor, " _"]]:
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
