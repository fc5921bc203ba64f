"""Classifiers of torchvision, with its own weights or a file's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from invertkit.core.pixel_space import IMAGENET_MEAN, IMAGENET_STD
from invertkit.errors import RecipeError
from invertkit.models.classifiers import architectures
from invertkit.models.classifiers.catalogue import Entry
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.loading import hub
from invertkit.models.loading.layouts import Layout
from invertkit.models.loading.weights_file import (
    cited,
    load_into,
    misfits,
    read_layout,
    read_weights,
)


def opened(word: str, *, weights: Path | None, pretrained: bool) -> Classifier:
    """What `open_classifier` asks of a source; the word is `torchvision:NAME`."""
    name = word.removeprefix("torchvision:")
    return from_torchvision(name=name, weights=weights, pretrained=pretrained)


def from_torchvision(
    *,
    name: str = "resnet50",
    weights: Path | None = None,
    pretrained: bool = True,
    layers: Sequence[str] = (),
) -> Classifier:
    """A classifier of torchvision.

    Args:
        name: As in `torchvision.models`; after a dot the name of its weights, as in
            `resnet50.IMAGENET1K_V1`, else its default ones.
        weights: A local file; otherwise torchvision's own, from its cache or the network.
        pretrained: Without `weights`: false for random weights, which is only good for timing.
        layers: What `default` layers mean; for ResNets stem and the first three groups if empty.

    Raises:
        RecipeError: No such model or weights.
        WeightsError: The weights cannot be had or do not fit.

    Example:
        >>> from_torchvision(name="squeezenet1_1", pretrained=False)
        Classifier(torchvision's squeezenet1_1 (random weights))
    """
    architecture, _, tag = name.partition(".")
    if weights is not None:
        return _of_a_file(name, architecture, Path(weights), layers)
    # torchvision trained these two on images in [-1, 1] and turns ours into such ones itself.
    rescaled = pretrained and architecture in ("googlenet", "inception_v3")
    options = {"transform_input": True} if rescaled else {}
    net = architectures.of_torchvision(architecture, **options)
    origin = "random weights"
    if pretrained:
        path = _published_file(architecture, tag)
        load_into(net, _renamed(read_weights(path), architecture), name=str(path))
        origin = f"its own weights, {cited(path)}"
    return Classifier(
        net,
        classes=architectures.class_names(architecture, 1000),
        description=f"torchvision's {name} ({origin})",
        default_layers=tuple(layers) or architectures.default_layers(net, architecture),
    )


def _of_a_file(name: str, architecture: str, path: Path, layers: Sequence[str]) -> Classifier:
    layout = read_layout(path)
    count = architectures.class_count(layout.state) or 1000
    net = architectures.of_torchvision(architecture)
    if count != 1000 and _fits_but_for_classes(architecture, count, layout):
        net = architectures.of_torchvision(architecture, num_classes=count)
    load_into(net, layout.state, name=str(path))
    return Classifier(
        net,
        mean=layout.mean or IMAGENET_MEAN,
        std=layout.std or IMAGENET_STD,
        description=f"torchvision's {name} ({cited(path)})",
        default_layers=tuple(layers) or architectures.default_layers(net, architecture),
    )


def _renamed(state: dict[str, Tensor], architecture: str) -> dict[str, Tensor]:
    """With the names of today: DenseNets were saved before torchvision renamed their layers."""
    if not architecture.startswith("densenet"):
        return state
    old = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)")
    return {old.sub(r"\1\2", key): value for key, value in state.items()}


def _fits_but_for_classes(architecture: str, count: int, layout: Layout) -> bool:
    with torch.device("meta"):
        net = architectures.of_torchvision(architecture, num_classes=count)
    return not any(misfits(net, layout.state).values())


def _published_file(architecture: str, tag: str) -> Path:
    """The file of a torchvision network's own weights, downloaded if it is not there yet."""
    from torchvision import models

    table = models.get_model_weights(architecture)
    if tag and tag not in table.__members__:
        raise RecipeError(
            f"name: torchvision's {architecture} has no weights {tag!r}; it has "
            f"{', '.join(table.__members__)}."
        )
    url = str((table[tag] if tag else table.DEFAULT).url)
    file = url.rpartition("/")[2]
    checksum = file.rpartition("-")[2].split(".")[0]
    entry = Entry(
        name=f"torchvision's {architecture}",
        architecture=architecture,
        dataset="imagenet",
        norm="none",
        eps=0.0,
        source="torchvision",
        paper="",
        licence="",
        accuracy=None,
        file=file,
        url=url,
        sha256=checksum,
    )
    return hub.weights_of(entry)
