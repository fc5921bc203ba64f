"""What classifiers' input gradients look like, side by side and in numbers: MAGIC's Fig. 4."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from invertkit.apps.gradients.classes import class_of, label_for_all
from invertkit.apps.gradients.measure import measure
from invertkit.apps.gradients.photographs import Photograph, PhotographSource, photographs_of
from invertkit.apps.gradients.settings import GradientSettings
from invertkit.apps.gradients.table import Gradients, InputGradient
from invertkit.apps.labels import named_classifiers, opened_classifier
from invertkit.core.devices import pick_device
from invertkit.core.files import folder_if_it_succeeds
from invertkit.core.images.load import Fit, ImageLike
from invertkit.core.live_bar import somebody_looks
from invertkit.core.modes import ordinary_modes
from invertkit.core.version import __version__
from invertkit.models.classifiers.classifier import Classifier

T = TypeVar("T")


@ordinary_modes()
def gradients(
    images: ImageLike | Sequence[ImageLike] | Mapping[str, ImageLike] | None = None,
    classifiers: Mapping[str, Any] | Sequence[Any] = ("embedded",),
    *,
    data: str | Path | None = None,
    every: int = 1,
    limit: int | None = None,
    show: int = 8,
    label: str | int | None = None,
    size: int | None = None,
    fit: Fit = "crop",
    cutoff: float = 0.25,
    blur: float = 1.0,
    batch: int = 16,
    device: str = "auto",
    progress: bool | None = None,
    out: str | Path | None = None,
) -> Gradients:
    """Gradient of the cross-entropy with respect to the photograph, for several classifiers.

    `label` to `batch` are explained at `invertkit.apps.gradients.settings.GradientSettings`.

    Args:
        images: Photographs, by name if a mapping; without `images` and `data` the demonstration.
        classifiers: What to compare, by label if a mapping: words of the catalogue, paths, or
            modules. A module that is no `Classifier` takes ImageNet-normalised images.
        data: Folder or zip of photographs, `CLASS/NAME.jpg` or without classes.
        every: Take every so-many-th photograph of `data`.
        limit: Take no more photographs than that, evenly spread over what is left.
        show: How many photographs keep their pictures for the sheet; all count in the means.
        label: Class whose cross-entropy is taken.
        size: Side in pixels; by default each classifier's own.
        fit: How photographs meet that side.
        cutoff: Where low frequencies end.
        blur: Of edges and gradients.
        batch: Photographs side by side.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: Show a progress bar; by default on a terminal, for more than a few photographs.
        out: Folder to write; without it nothing is written.

    Raises:
        InputError: A photograph cannot be used, a class is unknown, two classifiers share a label,
            one cannot take that size, or a gradient is not finite.
        WeightsError: A classifier's weights cannot be had.

    Example:
        >>> gradients(label="daisy", size=32).cells[0].gradient.shape
        torch.Size([3, 32, 32])

    Source: MAGIC, section 4 and Fig. 4, after Tsipras et al. 2019. The paper does not say whose
    label its loss takes; the numbers are ours. Its photographs are 224×224 of ImageNet.
    """
    how = GradientSettings(label=label, size=size, fit=fit, cutoff=cutoff, blur=blur, batch=batch)
    named = named_classifiers(classifiers)
    source = photographs_of(images, data, every=every, limit=limit)
    with folder_if_it_succeeds(out) as place:
        result = _measured(source, named, pick_device(device), how, show=show, progress=progress)
    if place is not None:
        result.write(place)
    return result


def _measured(
    source: PhotographSource,
    named: Mapping[str, Any],
    device: torch.device,
    settings: GradientSettings,
    *,
    show: int,
    progress: bool | None,
) -> Gradients:
    """All classifiers on all photographs."""
    classifiers = {name: opened_classifier(word).to(device) for name, word in named.items()}
    # With `keep` the size is each photograph's own, and cannot be checked beforehand.
    if settings.fit != "keep":
        for name, classifier in classifiers.items():
            classifier.require_size(settings.size_for(classifier.size), name)
    label = label_for_all(settings.label, source, classifiers)
    cells: list[InputGradient] = []
    # Photographs that keep their shapes need not be of one size, so none stands beside another.
    step = 1 if settings.fit == "keep" else settings.batch
    batches = source.batches(step, show=show)
    for photographs in _counted(batches, -(-len(source.names) // step), wanted=progress):
        columns = [
            measure(
                name,
                classifier,
                photographs,
                _classes(classifier, label, photographs, name),
                settings,
            )
            for name, classifier in classifiers.items()
        ]
        cells += [cell for row in zip(*columns, strict=True) for cell in row]
    described = {name: classifier.description for name, classifier in classifiers.items()}
    facts = _facts(settings, label, classifiers, device)
    return Gradients(tuple(cells), source.names, described, facts)


def _classes(
    classifier: Classifier, label: str | int, photographs: Sequence[Photograph], name: str
) -> list[int | None]:
    return [class_of(classifier, label, each.folder, name) for each in photographs]


def _facts(
    settings: GradientSettings,
    label: str | int,
    classifiers: Mapping[str, Classifier],
    device: torch.device,
) -> dict[str, Any]:
    """How it was measured, for the sheet and the files."""
    return {
        "title": "Gradient of the cross-entropy at the class named beneath, "
        "clipped at 3 sigma around its mean",
        "labels": str(label),
        "loss": "cross-entropy",
        "size": settings.size,
        "sizes": {name: settings.size_for(each.size) for name, each in classifiers.items()},
        "fit": settings.fit,
        "cutoff": settings.cutoff,
        "blur": settings.blur,
        "device": str(device),
        "invertkit": __version__,
    }


def _counted(steps: Iterable[T], count: int, *, wanted: bool | None) -> Iterator[T]:
    """The same, under a progress bar if one is wanted."""
    if not (wanted if wanted is not None else somebody_looks() and count > 2):
        yield from steps
        return
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(steps, description="gradients", total=count, console=console)
