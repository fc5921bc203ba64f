"""Where a generator puts its objects."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from invertkit.core.images.resize import resize_image
from invertkit.models.classifiers.class_names import class_place
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.generators.conditional import ConditionalGenerator
from invertkit.training.generator.sheets import pictures

Pair = tuple[float, float]


def object_statistics(
    generator: ConditionalGenerator,
    *,
    classes: tuple[str, ...],
    eyes: Classifier,
    size: int,
    count: int = 1000,
) -> tuple[Pair, Pair]:
    """Where the generator puts its objects: mean centre and size, as shares of the picture.

    A stand-in for the detector of Huh et al. 2020, §3.3: the place where the eyes' logit of the
    class is most sensitive; the size is that of a uniform box with the same variance. For a class
    that the eyes do not know it is the logit of their own guess.

    Args:
        generator: In evaluation mode, on the CPU.
        classes: Its classes.
        eyes: A classifier.
        size: Side at which it looks.
        count: Pictures, as evenly over classes as can be.
    """
    labels = torch.arange(count) * len(classes) // count
    samples = pictures(generator, labels, seed=1)
    logit = torch.tensor(places_among(eyes.classes, classes))[labels]
    sums = torch.zeros(4)
    for images, wanted in zip(samples.split(50), logit.split(50), strict=True):
        energy = _sensitivity(eyes, resize_image(images, (size, size)), wanted)
        axis = (torch.arange(size) + 0.5) / size
        for place, weights in enumerate((energy.sum(2), energy.sum(1))):
            mean = (weights * axis).sum(1)
            variance = (weights * (axis - mean[:, None]).square()).sum(1)
            sums[place] += mean.sum()
            sums[2 + place] += (12 * variance).sqrt().clamp(max=1).sum()
    row, column, height, width = (round(float(value) / count, 4) for value in sums)
    return (row, column), (height, width)


def _sensitivity(
    eyes: Classifier, seen: Float[Tensor, "b 3 h w"], wanted: Int[Tensor, " b"]
) -> Float[Tensor, "b h w"]:
    """Squared slope of a logit at every place, as shares."""
    seen = seen.clone().requires_grad_()
    logits = eyes(seen)
    wanted = torch.where(wanted < 0, logits.argmax(1), wanted)
    (slope,) = torch.autograd.grad(logits.gather(1, wanted[:, None]).sum(), seen)
    energy = slope.square().sum(1)
    return energy / energy.sum((1, 2), keepdim=True)


def places_among(known: tuple[str, ...], names: tuple[str, ...]) -> list[int]:
    """Where each of `names` is among the logits of a classifier, written as it may be; or -1.

    Example:
        >>> places_among(("tabby", "Persian cat"), ("persian_cat", "lynx"))
        [1, -1]
    """
    places = (class_place(name, known) for name in names)
    return [-1 if place is None else place for place in places]
