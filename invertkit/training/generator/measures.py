"""How good a class-conditional generator is, in the features of frozen classifiers.

Every measure compares pictures with held-out photographs. A number alone says little, so
`measure_pictures` also gives the number that as many real training photographs reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.scene import LOGITS
from invertkit.core.suggestions import listed
from invertkit.core.wasserstein import wasserstein_1d
from invertkit.errors import InputError
from invertkit.metrics.frechet import frechet
from invertkit.metrics.kernel_distance import kernel_distance
from invertkit.metrics.precision_recall import precision_recall
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.generators.conditional import ConditionalGenerator
from invertkit.training.data.photographs import PhotographSet, plain_batches
from invertkit.training.generator.placing import places_among
from invertkit.training.generator.sheets import pictures


@final
@dataclass(frozen=True)
class GeneratorMeasure:
    """One measure of generated pictures, and of real ones for scale.

    Args:
        name: What was measured; `↑` where more is better.
        generated: Of generated pictures.
        real: Of as many training photographs.
    """

    name: str
    generated: float
    real: float

    def __str__(self) -> str:
        return f"{self.name}: {self.generated:.4g} (as many training photographs: {self.real:.4g})"


def measure_pictures(
    made: PhotographSet,
    *,
    train: PhotographSet,
    test: PhotographSet,
    judges: dict[str, Classifier],
    size: int = 128,
) -> Iterator[GeneratorMeasure]:
    """Every measure of this module, one after another.

    Args:
        made: Generated pictures, of the same classes.
        train: As many photographs as were made, of those that were trained on.
        test: Photographs that the generator has not seen.
        judges: Classifiers by what to call them. Where one knows all the classes by name, so that
            its accuracy can be told, it is.
        size: Side at which they look.

    Raises:
        InputError: The classes differ.
    """
    expect_same_classes(train, test)
    for name, judge in judges.items():
        goal, of_made, of_real = (last_features(x, judge, size=size) for x in (test, made, train))
        yield GeneratorMeasure(
            f"Fréchet distance to the test photographs, last features of {name}",
            frechet(goal, of_made),
            frechet(goal, of_real),
        )
        yield GeneratorMeasure(
            f"kernel distance to the test photographs, last features of {name}",
            kernel_distance(goal, of_made),
            kernel_distance(goal, of_real),
        )
        both = [precision_recall(goal, x) for x in (of_made, of_real)]
        yield GeneratorMeasure(f"precision in them ↑, {name}", *(x.precision for x in both))
        yield GeneratorMeasure(f"recall in them ↑, {name}", *(x.recall for x in both))
        if -1 in places_among(judge.classes, made.classes):
            continue
        for most in (1, 5):
            yield GeneratorMeasure(
                f"share whose class is among the {most} likeliest of {name}'s, of these ↑",
                class_accuracy(made, judge, most=most, size=size),
                class_accuracy(train, judge, most=most, size=size),
            )
    yield GeneratorMeasure(
        "sliced Wasserstein distance of 7×7 patches to the test photographs'",
        patch_distance(test, made),
        patch_distance(test, train),
    )


def expect_same_classes(train: PhotographSet, test: PhotographSet) -> None:
    """Refuse test photographs of other classes.

    Raises:
        InputError: They are.
    """
    if train.classes != test.classes:
        trained, tested = (listed(names) for names in (train.classes, test.classes))
        raise InputError(
            f"expected test photographs of the classes trained on ({trained}), got {tested}."
        )


def generated(
    generator: ConditionalGenerator, *, per_class: int, classes: tuple[str, ...], seed: int = 2
) -> PhotographSet:
    """`per_class` pictures of every class as bytes, like a data set."""
    labels = torch.arange(len(classes)).repeat_interleave(per_class)
    images = pictures(generator, labels, seed=seed)
    return PhotographSet((images * 255).round().to(torch.uint8), labels, classes)


def some_of(photographs: PhotographSet, *, per_class: int, seed: int = 0) -> PhotographSet:
    """`per_class` photographs of every class, drawn without replacement; fewer if it has fewer."""
    order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(seed))
    labels = photographs.labels[order]
    rows = torch.cat(
        [order[labels == label][:per_class] for label in range(len(photographs.classes))]
    )
    return PhotographSet(photographs.images[rows], photographs.labels[rows], photographs.classes)


# ---------------------------------------------------------------------- of a classifier


@torch.no_grad()
def last_features(
    data: PhotographSet, classifier: Classifier, *, size: int = 128
) -> Float[Tensor, "n c"]:
    """What the last of a classifier's default layers says of every picture, averaged over places.

    Args:
        data: Pictures of any size.
        classifier: The network.
        size: Side at which it looks.
    """
    (layer,) = classifier.resolve(["default"])[-1:]
    seen = [
        classifier.observe(images, (layer,))[layer].mean((2, 3)).double()
        for images, _ in plain_batches(data, batch=50, size=size)
    ]
    return torch.cat(seen)


@torch.no_grad()
def class_accuracy(
    data: PhotographSet, classifier: Classifier, *, most: int = 1, size: int = 128
) -> float:
    """Share of pictures whose class is among the likeliest, of the data's classes alone.

    Args:
        data: Pictures with the classes that they were made for.
        classifier: It knows them all by name.
        most: How many of the likeliest count.
        size: Side at which it looks.

    Raises:
        InputError: It does not.
    """
    places = places_among(classifier.classes, data.classes)
    if -1 in places:
        lacking = [name for name, place in zip(data.classes, places, strict=True) if place < 0]
        raise InputError(f"{classifier.description} does not know {listed(lacking)}.")
    right = 0
    for images, labels in plain_batches(data, batch=50, size=size):
        logits = classifier.observe(images, (LOGITS,))[LOGITS][:, places]
        best = logits.topk(min(most, len(places)), dim=1).indices
        right += int((best == labels[:, None]).any(1).sum())
    return right / len(data)


# ---------------------------------------------------------------------- patches


def patch_distance(
    real: PhotographSet,
    other: PhotographSet,
    *,
    side: int = 7,
    directions: int = 128,
    patches: int = 16,
    seed: int = 0,
) -> float:
    """Sliced Wasserstein distance between the patches of two sets, in units of a pixel's range.

    Patches are projected on random unit directions; along each, the distance is the mean absolute
    difference of the sorted values. It sees textures, edges and colours but no objects, and no
    network is in it.

    Args:
        real: One set.
        other: The other.
        side: Of the patches in pixels.
        directions: How many; the number's noise falls with their root.
        patches: Taken of each picture, at random places.
        seed: Of places and directions; a set has distance 0 to itself.

    Source: Rabin et al. 2011; on patches of data sets, Karras et al. 2018, there on a pyramid.
    """
    draw = torch.Generator().manual_seed(seed)
    axes = torch.randn(directions, 3 * side**2, generator=draw)
    axes = axes / torch.linalg.vector_norm(axes, dim=1, keepdim=True)
    first, second = (axes @ _patches(data, side, patches, seed) for data in (real, other))
    return float(wasserstein_1d(second, first).mean())


def _patches(data: PhotographSet, side: int, count: int, seed: int) -> Float[Tensor, "p n"]:
    draw, taken = torch.Generator().manual_seed(seed + 1), []
    for images, _ in plain_batches(data, batch=100, size=data.images.shape[-1]):
        columns = F.unfold(images, side)
        places = torch.randint(columns.shape[2], (len(images), 1, count), generator=draw)
        rows = columns.gather(2, places.expand(-1, columns.shape[1], -1))
        taken.append(rows.transpose(0, 1).flatten(1))
    return torch.cat(taken, 1)
