"""What tells good generators from bad ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from invertkit.errors import InputError
from invertkit.metrics.frechet import frechet
from invertkit.metrics.kernel_distance import kernel_distance
from invertkit.models.classifiers.classifier import Classifier
from invertkit.training.data.photographs import PhotographSet
from invertkit.training.generator.measures import (
    GeneratorMeasure,
    class_accuracy,
    expect_same_classes,
    generated,
    last_features,
    measure_pictures,
    patch_distance,
    some_of,
)
from invertkit.training.generator.sheets import pictures
from tests.helpers import uniform
from tests.training.generator.tiny import eyes, some_photographs, tiny_net

SIZE = 32


class Brightness(nn.Module):
    """It knows four things by their brightness: d, and the classes of the tiny photographs."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.AdaptiveAvgPool2d(1)

    def forward(self, image: Tensor) -> Tensor:
        grey = self.seen(image).mean((1, 2, 3))
        middles = torch.tensor([5.0, 40 / 255, 125 / 255, 210 / 255])
        return -(grey[:, None] - middles).abs()


def knows() -> Classifier:
    return Classifier(
        Brightness(), mean=(0, 0, 0), std=(1, 1, 1), classes=("d", "A", "B", "C"),
        description="a photometer", default_layers=("seen",),
    )  # fmt: skip


def test_distances_between_sets_are_zero_to_themselves_and_symmetric() -> None:
    first, second = some_photographs(20), some_photographs(20, seed=1)
    far = replace(first, images=255 - first.images // 4)

    def seen(data: PhotographSet) -> Tensor:
        return last_features(data, eyes(), size=SIZE)

    measures: list[Callable[[PhotographSet, PhotographSet], float]] = [
        lambda a, b: frechet(seen(a), seen(b)),
        patch_distance,
    ]
    for distance in measures:
        assert distance(first, first) == pytest.approx(0, abs=1e-4)
        assert distance(first, second) == pytest.approx(distance(second, first), rel=1e-3)
        assert distance(first, far) > 3 * distance(first, second)
    near = kernel_distance(seen(first), seen(second))
    assert kernel_distance(seen(first), seen(far)) > 3 * abs(near)


def test_the_patch_distance_of_flat_pictures_is_known() -> None:
    """A difference of d in every pixel is d · |sum of the direction| along each direction."""
    dark, light = (
        PhotographSet(
            torch.full((2, 3, 8, 8), v, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b")
        )
        for v in (51, 102)
    )
    found = patch_distance(dark, light, side=2, directions=4000)
    # the sum of 12 numbers on the unit sphere is nearly N(0, 1)
    assert found == pytest.approx(0.2 * math.sqrt(2 / math.pi), rel=0.06)


def test_the_patch_distance_sees_texture_that_the_mean_does_not() -> None:
    flat = PhotographSet(
        torch.full((9, 3, 32, 32), 128, dtype=torch.uint8), torch.zeros(9).long(), ("a",)
    )
    noise = replace(flat, images=(uniform(9, 3, 32, 32) * 255).to(torch.uint8))
    assert patch_distance(flat, noise) > 0.1


def test_accuracy_counts_among_the_classes_of_the_pictures_alone() -> None:
    data, judge = some_photographs(30), knows()
    assert class_accuracy(data, judge, size=SIZE) == 1
    swapped = replace(data, labels=(data.labels + 1) % 3)
    assert class_accuracy(swapped, judge, size=SIZE) == 0
    two = class_accuracy(swapped, judge, most=2, size=SIZE)
    neighbours = {0: {0, 1}, 1: {1, 0}, 2: {2, 1}}  # b is nearer to a than to c by a hair, or not
    right = [int(y) in neighbours[int(x)] for x, y in zip(data.labels, swapped.labels, strict=True)]
    assert two == pytest.approx(sum(right) / 30, abs=float((data.labels == 1).float().mean()))
    assert class_accuracy(swapped, judge, most=9, size=SIZE) == 1
    with pytest.raises(InputError, match="a photometer does not know z"):
        class_accuracy(replace(data, classes=("a", "b", "z")), judge, size=SIZE)


def test_every_class_gets_as_many_pictures() -> None:
    data = some_photographs(30)
    taken = some_of(data, per_class=4)
    assert torch.bincount(taken.labels).tolist() == [4, 4, 4]
    for image, label in zip(taken.images, taken.labels, strict=True):
        found = [torch.equal(image, other) for other in data.images]
        assert sum(found) == 1
        assert data.labels[found.index(True)] == label
    net = tiny_net()
    made = generated(net, per_class=2, classes=data.classes)
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2]
    wanted = pictures(net, made.labels, seed=2)
    assert (made.images.float() / 255 - wanted).abs().max() <= 0.5 / 255 + 1e-6


def test_all_measures_are_given_with_their_scale() -> None:
    train, test = some_photographs(30), some_photographs(30, seed=1)
    made = generated(tiny_net(), per_class=10, classes=train.classes)
    judges = {"the eyes": eyes(), "the judge": knows()}
    found = list(measure_pictures(made, train=train, test=test, judges=judges, size=SIZE))
    assert len(found) == 4 + 6 + 1  # the eyes do not know the classes
    assert all(math.isfinite(one.generated) and math.isfinite(one.real) for one in found)
    for one in found:
        if "distance" in one.name:  # of an untrained generator
            assert one.generated > one.real
    assert [one.real for one in found if "share whose class" in one.name] == [1, 1]
    assert (
        str(GeneratorMeasure("x", 1.23456, 0.5)) == "x: 1.235 (as many training photographs: 0.5)"
    )
    with pytest.raises(InputError, match=r"classes trained on \(a, b, c\), got a, b\.$"):
        expect_same_classes(train, some_photographs(classes=2))
