"""How good a class-conditional generator is: measures that need no downloaded network.

Every measure compares pictures with held-out photographs. A number alone says little, so
`measure_generator` also gives the number that as many real training photographs reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.suggestions import listed
from invertkit.core.wasserstein import wasserstein_1d
from invertkit.errors import InputError
from invertkit.metrics.frechet import frechet
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.generators.kitgan import KitGenerator
from invertkit.training.classifier.train import TrainingPlan, accuracy, train_classifier
from invertkit.training.data.photographs import PhotographSet, plain_batches
from invertkit.training.generator.plan import GeneratorPlan
from invertkit.training.robustness.attack import Attack


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


def measure_generator(
    generator: KitGenerator,
    plan: GeneratorPlan,
    *,
    train: PhotographSet,
    test: PhotographSet,
    per_class: int = 1000,
    epochs: int = 6,
    device: str = "cpu",
) -> Iterator[GeneratorMeasure]:
    """Every measure of this module, one after another.

    Args:
        generator: In evaluation mode, on the CPU.
        plan: Of its training.
        train: What it was trained on.
        test: What it has not seen, of the same classes.
        per_class: Pictures made of each class, and training photographs taken of each; fewer where
            a class has fewer.
        epochs: Of the classifiers in `accuracy_score`.
        device: Where these are trained.

    Raises:
        InputError: The classes differ.
    """
    expect_same_classes(train, test)
    # As many real ones as made: all three numbers depend on how many pictures there are.
    per_class = min(per_class, int(torch.bincount(train.labels).min()))
    generated_set = generated(generator, plan, per_class=per_class, classes=train.classes)
    real = some_of(train, per_class=per_class)
    goal, of_made, of_real = (last_features(data) for data in (test, generated_set, real))
    yield GeneratorMeasure(
        "Fréchet distance to the test photographs, last features of the embedded classifier",
        frechet(goal, of_made),
        frechet(goal, of_real),
    )
    yield GeneratorMeasure(
        "sliced Wasserstein distance of 7×7 patches to the test photographs'",
        patch_distance(test, generated_set),
        patch_distance(test, real),
    )
    yield GeneratorMeasure(
        "classification accuracy score ↑",
        accuracy_score(generated_set, test, epochs=epochs, device=device),
        accuracy_score(real, test, epochs=epochs, device=device),
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


def pictures(
    generator: KitGenerator, plan: GeneratorPlan, labels: Int[Tensor, " n"], *, seed: int = 0
) -> Float[Tensor, "n 3 32 32"]:
    """Unselected pictures in [0, 1] of those classes; latents are clamped to ±2.

    Args:
        generator: In evaluation mode, on the CPU.
        plan: `latent`.
        labels: The class of each.
        seed: Of the latents.
    """
    draw = torch.Generator().manual_seed(seed)
    latent = torch.randn(len(labels), plan.latent, generator=draw).clamp(-2, 2)
    table = generator.embeddings.weight.T
    with torch.no_grad():
        chunks = [
            generator(z, table[y])
            for z, y in zip(latent.split(256), labels.split(256), strict=True)
        ]
    return torch.cat(chunks) / 2 + 0.5


def generated(
    generator: KitGenerator,
    plan: GeneratorPlan,
    *,
    per_class: int,
    classes: tuple[str, ...],
    seed: int = 2,
) -> PhotographSet:
    """`per_class` pictures of every class as bytes, like a data set."""
    labels = torch.arange(len(classes)).repeat_interleave(per_class)
    images = pictures(generator, plan, labels, seed=seed)
    return PhotographSet((images * 255).round().to(torch.uint8), labels, classes)


def some_of(photographs: PhotographSet, *, per_class: int, seed: int = 0) -> PhotographSet:
    """`per_class` photographs of every class, drawn without replacement; fewer if it has fewer."""
    order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(seed))
    labels = photographs.labels[order]
    rows = torch.cat(
        [order[labels == label][:per_class] for label in range(len(photographs.classes))]
    )
    return PhotographSet(photographs.images[rows], photographs.labels[rows], photographs.classes)


# ---------------------------------------------------------------------- Fréchet distance


@torch.no_grad()
def last_features(
    data: PhotographSet, *, classifier: Classifier | None = None
) -> Float[Tensor, "n c"]:
    """What the classifier's last layer says of every picture at 64×64, averaged over places.

    Args:
        data: Pictures of any size.
        classifier: A network with `layer3`; the embedded one, with 192 features, if none.
    """
    classifier = classifier or open_classifier("embedded-cifar10")
    seen = [
        classifier.observe(images, ("layer3",))["layer3"].mean((2, 3)).double()
        for images, _ in plain_batches(data, batch=250, size=64)
    ]
    return torch.cat(seen)


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


# ---------------------------------------------------------------------- accuracy


def accuracy_score(
    generated_set: PhotographSet,
    test: PhotographSet,
    *,
    epochs: int = 6,
    size: int = 32,
    batch: int = 100,
    widths: tuple[int, int, int, int] = (24, 48, 96, 192),
    seed: int = 0,
    device: str = "cpu",
) -> float:
    """Accuracy on photographs of a fresh classifier that was trained on generated pictures alone.

    It falls where pictures are not of their class and where their variety is too small, and no
    network of the training takes part.

    Args:
        generated_set: Generated pictures, with the classes they were made for.
        test: Photographs of the same classes.
        epochs: Passes over the pictures.
        size: Side of the classifier's input in pixels.
        batch: Pictures a step; all of them if they are fewer.
        widths: Channels of the classifier, a `KitNet`.
        seed: Of its weights, order and augmentation.
        device: Where to train it.

    Source: classification accuracy score, Ravuri & Vinyals 2019, there with a ResNet-50.
    """
    plan = TrainingPlan(
        attack=Attack(eps=0.0),
        epochs=epochs,
        size=size,
        batch=min(batch, len(generated_set)),
        lr=0.2,
        widths=widths,
        seed=seed,
    )
    with TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        model = train_classifier(
            plan, generated_set, out=Path(folder), device=device, report=lambda line: None
        )
    return accuracy(model, test, size=size)
