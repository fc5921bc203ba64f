"""Photographs that a generator has not been trained on, with their object's box and class.

The box is where a classifier's logit of the class is most sensitive: mean and deviation of the
squared slope, the size that of a uniform box with the same variance. So too are measured the places
of the embedded generator's own objects (`invertkit.training.generator.placing`); no detector is at
hand.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from invertkit.core.images.resize import resize_image
from invertkit.errors import InputError
from invertkit.models.classifiers.class_names import class_place
from invertkit.models.classifiers.classifier import Classifier

SEEN: Final = (
    "golden_retriever", "tabby", "Persian_cat", "monarch", "school_bus", "lakeside", "pizza",
)  # fmt: skip
"""Photographs of the ImageNet sample that are in Tiny ImageNet's training part too, by eye and by
their distance at 16×16 pixels."""

NEAREST: Final = {
    "tiger_cat": "tabby", "Siamese_cat": "persian_cat", "lynx": "tabby", "lemon": "orange",
    "Labrador_retriever": "golden_retriever", "collie": "german_shepherd", "admiral": "monarch",
    "cabbage_butterfly": "monarch", "trolleybus": "school_bus", "minibus": "school_bus",
    "airliner": "airplane", "warplane": "airplane", "sports_car": "automobile",
    "convertible": "automobile", "robin": "bird", "house_finch": "bird", "brambling": "bird",
    "Siamese": "cat", "beagle": "dog", "bullfrog": "frog", "sorrel": "horse",
    "container_ship": "ship", "liner": "ship", "trailer_truck": "truck", "moving_van": "truck",
}  # fmt: skip
"""Classes of the sample that a generator may know by another name, or have the nearest to."""


@final
@dataclass(frozen=True)
class Photograph:
    """An image with its object.

    Args:
        name: Where it comes from.
        label: Class, as the generator calls it.
        image: `(3, s, s)` in [0, 1].
        mask: `(1, s, s)`, 1 in the object's box.
        centred: Whether its object lies as the generator draws its own, more or less.
    """

    name: str
    label: str
    image: Tensor
    mask: Tensor
    centred: bool


class Box(NamedTuple):
    """An object's box, as shares of the picture's sides."""

    top: float
    left: float
    bottom: float
    right: float

    def within(self, top: float, left: float, share: float) -> Box:
        """As seen in a square window with that corner and that share of the side."""
        moved = (
            (place - corner) / share
            for place, corner in zip(self, (top, left, top, left), strict=True)
        )
        return Box(*(min(max(place, 0.0), 1.0) for place in moved))

    def mask(self, side: int) -> Tensor:
        """`(1, side, side)`, 1 inside; a pixel at the edge is left to the background."""
        mask = torch.zeros(1, side, side)
        top, left, bottom, right = (min(max(round(p * side), 1), side - 1) for p in self)
        mask[:, top : max(bottom, top + 1), left : max(right, left + 1)] = 1
        return mask


def object_box(image: Tensor, classifier: Classifier, label: str) -> Box:
    """The object's box in a square image; of the classifier's own guess if it has no such class.

    Args:
        image: `(3, s, s)` in [0, 1].
        classifier: Looks at it at its own size.
        label: The class, by any spelling.
    """
    size = classifier.size
    seen = resize_image(image[None], (size, size)).clone().requires_grad_()
    logits = classifier(seen)
    place = class_place(label, classifier.classes)
    (slope,) = torch.autograd.grad(logits[0, logits.argmax() if place is None else place], seen)
    energy = slope[0].square().sum(0)
    energy = energy / energy.sum()
    axis = (torch.arange(size) + 0.5) / size
    ends: list[tuple[float, float]] = []
    for weights in (energy.sum(1), energy.sum(0)):
        mean = float((weights * axis).sum())
        half = float((weights * (axis - mean).square()).sum().mul(12).sqrt()) / 2
        ends.append((max(0.0, mean - half), min(1.0, mean + half)))
    (top, bottom), (left, right) = ends
    return Box(top, left, bottom, right)


def centred(
    archive: Path, classes: Sequence[str], count: int, *, side: int, classifier: Classifier
) -> Iterator[Photograph]:
    """Whole photographs of an archive of `class/name`, classes in turn.

    Raises:
        InputError: The archive has none of the classes.
    """
    with zipfile.ZipFile(archive) as file:
        by_class: dict[str, list[str]] = {}
        for name in sorted(file.namelist()):
            label = _known(Path(name).parent.name, classes)
            if label is not None and name.lower().endswith((".png", ".jpg")):
                by_class.setdefault(label, []).append(name)
        if not by_class:
            raise InputError(f"{archive}: holds no photographs of the generator's classes.")
        labels = [label for label in classes if label in by_class]
        for i in range(count):
            label = labels[i % len(labels)]
            name = by_class[label][i // len(labels)]
            image = resize_image(_square(_read(file, name))[None], (side, side))[0].clamp(0, 1)
            box = object_box(image, classifier, label)
            yield Photograph(name, label, image, box.mask(side), centred=True)


def off_centre(
    archive: Path, classes: Sequence[str], count: int, *, side: int, classifier: Classifier
) -> Iterator[Photograph]:
    """Square windows at the ends of large photographs, the four corners in turn.

    Photographs of one object have it in the middle. A window of nine tenths of the short side
    against one end of the long one has it towards an edge, with what was there behind it. Windows
    whose object fills more than half of them, or lies in the middle all the same, are left out.

    Args:
        archive: `nXXXXXXXX_name.jpg`, one photograph a class.
        classes: Of the generator.
        count: At most so many.
        side: Of the pictures.
        classifier: Finds the objects.
    """
    with zipfile.ZipFile(archive) as file:
        names = {Path(n).stem.split("_", 1)[1]: n for n in file.namelist() if n.endswith(".jpg")}
        wanted = [(name, _known(NEAREST.get(name, name), classes)) for name in names]
        known = [(n, label) for n, label in wanted if label is not None and n not in SEEN]
        found = 0
        for name, label in sorted(known, key=lambda pair: pair[0] in NEAREST):
            image = _read(file, names[name])
            box = object_box(_square(image), classifier, name)
            windows = [
                _window(name, label, image, box, corner=(found + turn) % 4, side=side)
                for turn in range(4)
            ]
            fitting = [window for window in windows if _is_off_centre(window.mask)]
            if fitting and found < count:
                found += 1
                yield fitting[0]


def _is_off_centre(mask: Tensor, *, most: float = 0.5, least: float = 0.12) -> bool:
    """Whether a box fills at most so much of the picture, that far from its middle."""
    rows, columns = mask[0].nonzero(as_tuple=True)
    side = mask.shape[-1]
    away = [float(place.float().mean() + 0.5) / side - 0.5 for place in (rows, columns)]
    return float(mask.mean()) <= most and max(map(abs, away)) >= least


def _window(
    name: str, label: str, image: Tensor, box: Box, *, corner: int, side: int
) -> Photograph:
    """The window of an image; `box` is that of the object in its middle square."""
    height, width = image.shape[-2:]
    short = min(height, width)
    window = round(0.9 * short)
    top = 0 if corner < 2 else height - window
    left = 0 if corner % 2 == 0 else width - window
    cut = image[None, :, top : top + window, left : left + window]
    seen = box.within(
        (top - (height - short) // 2) / short, (left - (width - short) // 2) / short, window / short
    )
    picture = resize_image(cut, (side, side))[0].clamp(0, 1)
    return Photograph(name, label, picture, seen.mask(side), centred=False)


def _known(name: str, classes: Sequence[str]) -> str | None:
    """The generator's class of that name, which may have a WordNet number before it."""
    plain = name.split("_", 1)[1] if name[:1] == "n" and name[1:9].isdecimal() else name
    place = class_place(plain, classes)
    return None if place is None else classes[place]


def _read(file: zipfile.ZipFile, name: str) -> Tensor:
    with Image.open(io.BytesIO(file.read(name))) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255


def _square(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[:, top : top + side, left : left + side]
