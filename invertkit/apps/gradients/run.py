"""What classifiers' input gradients look like, side by side and in numbers: MAGIC's Fig. 4."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from invertkit.apps.gradients.photographs import PhotographSource, photographs_of
from invertkit.apps.gradients.table import PREDICTED, Gradients, InputGradient
from invertkit.apps.labels import named_classifiers, opened_classifier
from invertkit.core.devices import pick_device
from invertkit.core.files import new_folder
from invertkit.core.images.inputs import Inputs
from invertkit.core.images.load import Fit, ImageLike
from invertkit.core.live_bar import somebody_looks
from invertkit.core.log import log
from invertkit.core.suggestions import did_you_mean
from invertkit.core.version import __version__
from invertkit.errors import InputError
from invertkit.metrics.gradients import edge_alignment, low_frequency_share, orientation_agreement
from invertkit.models.classifiers.classifier import Classifier


def gradients(
    images: ImageLike | Sequence[ImageLike] | Mapping[str, ImageLike] | None = None,
    classifiers: Mapping[str, Any] | Sequence[Any] = ("embedded",),
    *,
    label: str | int | None = None,
    size: int | None = None,
    fit: Fit = "crop",
    data: str | Path | None = None,
    every: int = 1,
    limit: int | None = None,
    show: int = 8,
    cutoff: float = 0.25,
    blur: float = 1.0,
    batch: int = 16,
    device: str = "auto",
    progress: bool | None = None,
    out: str | Path | None = None,
) -> Gradients:
    """Gradient of the cross-entropy with respect to the photograph, for several classifiers.

    Args:
        images: Photographs, by name if a mapping; without `images` and `data` the demonstration.
        classifiers: What to compare: words of the catalogue, paths, or modules, with labels of
            your own if it is a mapping. A module that is no `Classifier` takes ImageNet-normalised
            images.
        label: Class whose cross-entropy is taken: a name, a number, or `predicted` for each
            classifier's own most likely class. By default the class of the photograph's folder in
            `data`, where every classifier knows that name, and otherwise `predicted`.
        size: Side in pixels at which photographs are shown to the classifiers; by default each
            classifier's own.
        fit: `crop` the central square, `stretch` to the square, or `keep` the shape.
        data: Folder or zip of photographs, `CLASS/NAME.jpg` or without classes.
        every: Take every so-many-th photograph of `data`.
        limit: Take no more photographs than that, evenly spread over what is left.
        show: How many photographs keep their pictures, for the sheet, evenly spread; all count in
            the means.
        cutoff: Of `low_frequency_share`, in units of the Nyquist frequency.
        blur: Of `edge_alignment` and `orientation_agreement`, in pixels.
        batch: Photographs side by side.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        progress: Show a progress bar; by default on a terminal, for more than a few photographs.
        out: Folder to write; without it nothing is written.

    Raises:
        InputError: A photograph cannot be used, a class is unknown, two classifiers share a label,
            one cannot take that size, or a gradient is not finite.
        WeightsError: A classifier's weights cannot be had.

    Source: MAGIC, section 4 and Fig. 4, after Tsipras et al. 2019. The paper does not say whose
    label its loss takes; the numbers are ours. Its photographs are 224×224 of ImageNet.
    """
    named = named_classifiers(classifiers)
    _check(size=size, every=every, limit=limit, cutoff=cutoff, blur=blur, batch=batch, fit=fit)
    source = photographs_of(images, data, every=every, limit=limit)
    where = pick_device(device)
    place = new_folder(Path(out)) if out is not None else None
    try:
        opened = {name: opened_classifier(word).to(where) for name, word in named.items()}
        if fit != "keep":
            for name, classifier in opened.items():
                classifier.require_size(size or classifier.size, name)
        labels = _labels(label, source, opened)
        cells: list[InputGradient] = []
        kept = {i * len(source.names) // show for i in range(show)}
        step = 1 if fit == "keep" else batch
        for start in _counted(range(0, len(source.names), step), wanted=progress):
            rows = range(start, min(start + step, len(source.names)))
            photographs = [source.load(row) for row in rows]
            parts = [
                _measured(
                    name,
                    classifier,
                    [Inputs(image) for image in photographs],
                    [source.names[row] for row in rows],
                    [_label_of(classifier, labels, source.folders[row], name) for row in rows],
                    size=size or classifier.size,
                    fit=fit,
                    cutoff=cutoff,
                    blur=blur,
                    keep=[row in kept for row in rows],
                )
                for name, classifier in opened.items()
            ]
            cells += [cell for row in zip(*parts, strict=True) for cell in row]
    except BaseException:
        if place is not None and not any(place.iterdir()):
            place.rmdir()
        raise
    facts = {
        "title": "Gradient of the cross-entropy at the class named beneath, "
        "clipped at 3 sigma around its mean",
        "labels": labels if isinstance(labels, str) else str(labels),
        "loss": "cross-entropy",
        "size": size,
        "sizes": {name: size or classifier.size for name, classifier in opened.items()},
        "fit": fit,
        "cutoff": cutoff,
        "blur": blur,
        "device": str(where),
        "invertkit": __version__,
    }
    described = {name: classifier.description for name, classifier in opened.items()}
    result = Gradients(tuple(cells), source.names, described, facts)
    if place is not None:
        result.write(place)
    return result


def input_gradient(
    classifier: nn.Module, images: Float[Tensor, "b 3 h w"], labels: Int[Tensor, " b"]
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b k"]]:
    """Gradient of each image's cross-entropy with respect to that image, and the logits.

    The slope of the loss at the logits is worked out in double precision and of unit size while it
    goes back through the network, so that a classifier that is nearly certain does not lose its
    small gradient to rounding.

    Args:
        classifier: From images in [0, 1] to logits.
        images: In [0, 1].
        labels: Index of the class of each.

    Returns:
        The gradient in double precision, and the logits.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        logits: Tensor = classifier(images)
    slope = logits.detach().double().softmax(1)
    slope.scatter_(1, labels[:, None], 0)
    slope.scatter_(1, labels[:, None], -slope.sum(1, keepdim=True))
    scale = slope.abs().amax(1, keepdim=True)
    unit = slope / scale.clamp(min=torch.finfo(torch.float64).tiny)
    (gradient,) = torch.autograd.grad(logits, images, unit.to(logits))
    return gradient.double() * scale.reshape(-1, 1, 1, 1), logits.detach()


# ---------------------------------------------------------------------- labels

_FOLDERS: Final = "folders"


def _labels(
    label: str | int | None, source: PhotographSource, opened: Mapping[str, Classifier]
) -> str | int:
    """What was asked for, or which of `predicted` and `folders` is taken."""
    if label is not None:
        return int(label) if isinstance(label, str) and label.isdigit() else label
    folders = set(source.folders) - {""}
    if not folders:
        return PREDICTED
    for name, classifier in opened.items():
        unknown = sorted(folders - set(classifier.classes))
        if unknown:
            log.info(
                f"{name} has no class called {unknown[0]!r}, as a folder is: each classifier's own "
                "most likely class is taken."
            )
            return PREDICTED
    return _FOLDERS


def _label_of(classifier: Classifier, labels: str | int, folder: str, name: str) -> int | None:
    """Index of the class; None for the most likely one.

    Raises:
        InputError: The classifier has no such class.
    """
    if labels == PREDICTED:
        return None
    if isinstance(labels, int):
        return labels
    wanted = folder if labels == _FOLDERS else labels
    if wanted in classifier.classes:
        return classifier.classes.index(wanted)
    if not classifier.classes:
        raise InputError(
            f"class {wanted!r}: {name} does not name its classes; give a number, or `predicted`."
        )
    hint = did_you_mean(wanted, classifier.classes, cutoff=0.5)
    some = ", ".join(classifier.classes[:10]) + (", …" if len(classifier.classes) > 10 else "")
    raise InputError(f"class {wanted!r}: {name} has no such class.{hint} It has: {some}.")


# ---------------------------------------------------------------------- measuring


def _measured(
    name: str,
    classifier: Classifier,
    photographs: Sequence[Inputs],
    names: Sequence[str],
    labels: Sequence[int | None],
    *,
    size: int,
    fit: Fit,
    cutoff: float,
    blur: float,
    keep: Sequence[bool],
) -> list[InputGradient]:
    """One classifier on a few photographs."""
    like = next(classifier.parameters(), torch.zeros(()))
    fitted = [inputs.at(inputs.size(size, fit), fit).image for inputs in photographs]
    images = torch.cat([image for image in fitted if image is not None]).to(like)
    with torch.no_grad():
        likely = classifier(images).argmax(1)
    count = _classes(classifier, images)
    for label in labels:
        if label is not None and not 0 <= label < count:
            raise InputError(
                f"class {label}: {name} has {count} classes; expected a number from 0 to "
                f"{count - 1}."
            )
    chosen = [
        int(own) if label is None else label for own, label in zip(likely, labels, strict=True)
    ]
    target = torch.tensor(chosen, device=images.device)
    gradient, logits = input_gradient(classifier, images, target)
    bad = ~gradient.isfinite().flatten(1).all(1)
    if bad.any():
        raise InputError(
            f"{name}: its gradient on {names[int(bad.nonzero()[0])]} is not finite. Its weights "
            "may be damaged, or made for images of another range."
        )
    scores = logits.double().log_softmax(1)
    numbers = {
        "alignment": edge_alignment(gradient, images, blur=blur),
        "orientation": orientation_agreement(gradient, images, blur=blur),
        "low_frequency": low_frequency_share(gradient, cutoff=cutoff),
    }
    return [
        InputGradient(
            photograph=names[i],
            classifier=name,
            label=label,
            class_name=classifier.classes[label] if label < len(classifier.classes) else str(label),
            predicted=int(likely[i]),
            probability=scores[i, label].exp().item(),
            loss=-scores[i, label].item(),
            norm=gradient[i].double().norm().item(),
            **{key: value[i].item() for key, value in numbers.items()},
            image=images[i].cpu().float() if keep[i] else None,
            gradient=gradient[i].cpu() if keep[i] else None,
        )
        for i, label in enumerate(chosen)
    ]


def _classes(classifier: Classifier, images: Tensor) -> int:
    if classifier.classes:
        return len(classifier.classes)
    with torch.no_grad():
        return int(classifier(images[:1]).shape[1])


def _check(
    *,
    size: int | None,
    every: int,
    limit: int | None,
    cutoff: float,
    blur: float,
    batch: int,
    fit: str,
) -> None:
    for name, value in (("size", size), ("every", every), ("limit", limit), ("batch", batch)):
        least = 8 if name == "size" else 1
        if value is not None and value < least:
            raise InputError(f"{name}: expected at least {least}, got {value}.")
    if not 0 < cutoff <= math.sqrt(2):
        raise InputError(
            f"cutoff: expected above 0 and at most √2 of the Nyquist frequency, got {cutoff:g}."
        )
    if not 0 <= blur < math.inf:
        raise InputError(f"blur: expected 0 pixels or more, got {blur:g}.")
    if fit not in get_args(Fit):
        raise InputError(f"fit: expected {', '.join(get_args(Fit))}, got {fit!r}.")


def _counted(steps: Iterable[int], *, wanted: bool | None) -> Iterator[int]:
    """The same, under a progress bar if one is wanted."""
    rows = list(steps)
    if not (wanted if wanted is not None else somebody_looks() and len(rows) > 2):
        yield from rows
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(rows, description="gradients", console=Console(stderr=True))
