"""`invertkit models accuracy`: robust accuracy of classifiers over labelled pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as pictures

from invertkit.core.suggestions import listed
from invertkit.errors import InputError
from invertkit.models.classifiers.class_names import class_place, plain_name
from invertkit.models.classifiers.open import open_classifier
from invertkit.training.data.files import PictureFiles
from invertkit.training.data.photographs import resized
from invertkit.training.loop.options import Tell
from invertkit.training.robustness.accuracy_plan import AccuracyPlan
from invertkit.training.robustness.robustness import RobustAccuracy, finder, robust_accuracy, table

_LARGE: Final = 128
_IMAGENET_CROP: Final = 0.875


@final
@dataclass(frozen=True)
class ClassifierAccuracy:
    """What was measured of one classifier.

    Args:
        name: As it was asked for.
        description: What it says of itself.
        size: Side of the images it saw; the radii are measured there.
        crop: Share of the picture's shorter side that it saw.
        results: One per radius.
    """

    name: str
    description: str
    size: int
    crop: float
    results: tuple[RobustAccuracy, ...]


def measure_classifiers(
    names: Sequence[str],
    data: Path,
    plan: AccuracyPlan,
    *,
    device: torch.device | str = "cpu",
    report: Tell | None = None,
) -> tuple[ClassifierAccuracy, ...]:
    """Clean and robust accuracy of each classifier, on the same pictures.

    Each picture is cut to its central square and resized (bilinear, with a low-pass where it
    shrinks) to the classifier's input.

    Args:
        names: As `open_classifier` takes them; each is opened before the first is measured.
        data: Folder or zip of CLASS/NAME.jpg.
        plan: How to measure.
        device: Where to run.
        report: Receives a line a batch.

    Raises:
        InputError: A classifier is named twice, the pictures cannot be used, their classes are not
            those of a classifier, or a classifier cannot take that size.
        WeightsError: A classifier's weights cannot be had.
        RecipeError: There is no such classifier.
    """
    if len(set(names)) < len(names):
        raise InputError("expected each classifier once; one is named twice.")
    finder(plan.attack, plan.norm)  # all that can be wrong is told before the first hour passes
    files = PictureFiles(data)
    opened = [(name, open_classifier(name)) for name in names]
    labels = [
        class_numbers(files.classes, model.classes, data=str(data), classifier=name)
        for name, model in opened
    ]
    for name, model in opened:
        model.require_size(plan.size or model.size, name)
    measured = []
    for (name, model), numbers in zip(opened, labels, strict=True):
        size = plan.size or model.size
        crop = plan.crop or (_IMAGENET_CROP if size >= _LARGE else 1.0)
        results = robust_accuracy(
            model.to(device),
            _batches(files, numbers, stride=plan.stride, batch=plan.batch, size=size, crop=crop),
            radii=plan.radii,
            norm=plan.norm,
            attack=plan.attack,
            seed=plan.seed,
            report=None if report is None else _naming(name, report),
        )
        measured.append(ClassifierAccuracy(name, model.description, size, crop, results))
    return tuple(measured)


def class_numbers(
    wanted: Sequence[str], known: Sequence[str], *, data: str, classifier: str
) -> tuple[int, ...]:
    """Which logit each class of the data is, by name.

    Case, spaces and underscores make no difference. For the thousand classes of ImageNet the
    folders may also be named by WordNet numbers, such as n01440764 or n01440764_tench.

    Args:
        wanted: Names of the data's classes.
        known: Names of the classifier's.
        data: What to call the data in a complaint.
        classifier: What to call the classifier.

    Raises:
        InputError: The classifier's classes are not known by name, or one of the data's is not
            among them, or two of them have its name.
    """
    if not known:
        raise InputError(
            f"{classifier}: does not say which classes it knows, so {data} cannot be matched to "
            "them; give a classifier whose file or catalogue entry names its classes."
        )
    places = [class_place(name, known) for name in wanted]
    names = Counter(map(plain_name, known))
    lacking = [name for name, place in zip(wanted, places, strict=True) if place is None]
    foreign = [name for name in lacking if plain_name(name) not in names]
    if foreign:
        raise InputError(
            f"{data}: {listed(foreign, most=6)} is not among the {len(known)} classes of "
            f"{classifier} ({listed(known, most=6)}). Name the folders as the classifier names its "
            "classes."
        )
    if lacking:
        raise InputError(
            f"{data}: {listed(lacking, most=6)} is the name of more than one class of "
            f"{classifier}; name the folders by WordNet numbers, such as n01440764."
        )
    return tuple(place for place in places if place is not None)


def _batches(
    files: PictureFiles, numbers: Sequence[int], *, stride: int, batch: int, size: int, crop: float
) -> Iterator[tuple[Tensor, Tensor]]:
    rows = range(0, len(files), stride)
    for start in range(0, len(rows), batch):
        now = rows[start : start + batch]
        images = torch.stack([shown(files.picture(row), size=size, crop=crop) for row in now])
        yield images, torch.tensor([numbers[files.labels[row]] for row in now])


def shown(picture: Image.Image, *, size: int, crop: float) -> Float[Tensor, "3 s s"]:
    """What a classifier sees of a picture: its central part, in [0, 1]."""
    image = pictures.to_dtype(pictures.pil_to_tensor(picture), torch.float32, scale=True)
    square = pictures.center_crop(image, [min(image.shape[-2:])])
    part = pictures.center_crop(resized(square[None], round(size / crop)), [size])
    whole: Tensor = part[0].clamp(0, 1)
    return whole


def _naming(name: str, report: Tell) -> Tell:
    return lambda line: report(f"{name}: {line}")


def accuracy_table(measured: Sequence[ClassifierAccuracy]) -> str:
    """A Markdown table, and under it at which size the radii were measured."""
    sizes = {one.size for one in measured}
    where = ", ".join(f"{one.name} {one.size}×{one.size}" for one in measured)
    if len(sizes) == 1:
        where = f"{measured[0].size}×{measured[0].size}"
    last = measured[0].results[-1]
    used = {r.attack for r in measured[0].results} - {"none"}
    lines = [
        table({one.name: one.results for one in measured}),
        "",
        f"{last.count} pictures; accuracy ± standard error; "
        + (f"{', '.join(used)}; " if used else "")
        + f"ε for images in [0, 1] at the input size, {where}.",
    ]
    if len(sizes) > 1 and used and last.norm == "l2":
        lines.append("The inputs differ in size, so the same l2 ε is not the same change to each.")
    return "\n".join(lines)


def as_json(measured: Sequence[ClassifierAccuracy], **more: Any) -> str:
    """The same numbers for programs; `more` stands beside them."""
    rows = [
        {
            "classifier": one.name,
            "description": one.description,
            "size": one.size,
            "crop": one.crop,
            "results": [
                {
                    "norm": r.norm,
                    "eps": r.eps,
                    "attack": r.attack,
                    "right": r.right,
                    "count": r.count,
                    "accuracy": r.share,
                    "standard_error": r.standard_error,
                }
                for r in one.results
            ],
        }
        for one in measured
    ]
    return json.dumps({**more, "classifiers": rows}, indent=2, ensure_ascii=False) + "\n"
