"""The adversarially trained classifiers of the catalogue."""

from __future__ import annotations

from pathlib import Path

from invertkit.errors import RecipeError
from invertkit.models.classifiers import architectures, catalogue
from invertkit.models.classifiers.catalogue import Entry
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.sources.embedded import embedded
from invertkit.models.loading import hub
from invertkit.models.loading.weights_file import cited, load_into, read_layout


def opened(word: str, *, weights: Path | None, pretrained: bool) -> Classifier:
    """What `open_classifier` asks of a source; the word is a name of the catalogue."""
    return robust(name=word, weights=weights, pretrained=pretrained)


def robust(
    *, name: str = "resnet50-l2-eps0.05", weights: Path | None = None, pretrained: bool = True
) -> Classifier:
    """An adversarially trained classifier of the catalogue.

    Args:
        name: As `invertkit models` lists it: ARCHITECTURE-NORM-epsRADIUS, such as
            `resnet50-l2-eps0.05`, `resnet50-linf-eps4.0` or `cifar10-resnet50-l2-eps0.5`. With
            `weights` also with an architecture of torchvision that the catalogue lacks.
        weights: Its file, or the folder that holds it by its published name; otherwise it is
            taken from the hub client's cache, or fetched into it.
        pretrained: Without `weights`: false for random weights, which is only good for timing.

    Raises:
        RecipeError: Nothing of that name.
        WeightsError: The file cannot be had, would run code, or does not fit.

    Example:
        >>> robust(name="cifar10-resnet50-l2-eps0.5", pretrained=False)
        Classifier(cifar10-resnet50-l2-eps0.5 (random weights))

    Source: Salman et al. 2020 (arXiv:2007.08489); Engstrom et al. 2019; MAGIC uses
    `resnet50-l2-eps0.05`.
    """
    entry = catalogue.find(name) or _like_the_published(name, weights)
    if entry.source == "invertkit":
        return embedded(weights=weights or hub.fetch(entry))
    classes = 10 if entry.dataset == "cifar10" else 1000
    net = architectures.build(entry.architecture, classes)
    mean: tuple[float, ...] = entry.mean
    std: tuple[float, ...] = entry.std
    origin = "random weights"
    if weights is not None or pretrained:
        path = hub.weights_of(entry, weights)
        layout = read_layout(path)
        load_into(net, layout.state, name=str(path))
        layout.warn(path)
        # The library writes its normaliser into the file; the catalogue's is only what is usual.
        mean, std = layout.mean or mean, layout.std or std
        origin = cited(path)
    return Classifier(
        net,
        mean=mean,
        std=std,
        classes=architectures.class_names(entry.architecture, classes),
        description=f"{entry.name} ({origin})",
        default_layers=architectures.default_layers(net, entry.architecture),
        size=entry.side,
    )


def _like_the_published(name: str, weights: Path | None) -> Entry:
    """An entry for a file of the user's with a name of the published form."""
    from torchvision import models

    stem, _, rest = name.partition("-")
    norm, _, eps = rest.partition("-eps")
    known = stem in models.list_models(module=models) and norm in ("l2", "linf")
    if known and eps.replace(".", "", 1).isdigit() and weights is not None:
        return Entry(
            name=name,
            architecture=stem,
            dataset="imagenet",
            norm="l2" if norm == "l2" else "linf",
            eps=float(eps),
            source="yours",
            paper="",
            licence="",
            accuracy=None,
            file=f"{name.replace('-', '_')}.ckpt",
        )
    near = catalogue.near(name)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise RecipeError(
        f"name: unknown robust classifier {name!r}; expected ARCHITECTURE-NORM-epsRADIUS such as "
        f"'resnet50-l2-eps0.05'.{hint} `invertkit models` lists what there is."
    )
