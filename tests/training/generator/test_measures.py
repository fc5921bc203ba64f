"""What tells good generators from bad ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from invertkit.errors import InputError
from invertkit.metrics.frechet import frechet
from invertkit.training.data.photographs import PhotographSet
from invertkit.training.generator.measures import (
    GeneratorMeasure,
    accuracy_score,
    expect_same_classes,
    generated,
    last_features,
    measure_generator,
    patch_distance,
    pictures,
    some_of,
)
from tests.helpers import global_generators_unmoved, tiny_classifier, uniform
from tests.training.generator.tiny import PLAN, some_photographs, tiny_net


def test_distances_between_sets_are_zero_to_themselves_and_symmetric() -> None:
    first, second = some_photographs(20), some_photographs(20, seed=1)
    far = replace(first, images=255 - first.images // 4)
    net = tiny_classifier(torch.float32)
    measures: list[Callable[[PhotographSet, PhotographSet], float]] = [
        lambda a, b: frechet(*(last_features(x, classifier=net) for x in (a, b))),
        patch_distance,
    ]
    for distance in measures:
        assert distance(first, first) == pytest.approx(0, abs=1e-4)
        assert distance(first, second) == pytest.approx(distance(second, first), rel=1e-3)
        assert distance(first, far) > 3 * distance(first, second)


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


def test_accuracy_falls_where_pictures_are_not_of_their_class() -> None:
    train, test = some_photographs(60), some_photographs(30, seed=1)
    options = {"epochs": 6, "size": 16, "batch": 10, "widths": (4, 4, 8, 8)}
    with global_generators_unmoved():
        right = accuracy_score(train, test, **options)  # type: ignore[arg-type]
    swapped = replace(train, labels=(train.labels + 1) % 3)
    assert right > 0.8
    assert accuracy_score(swapped, test, **options) < 0.3  # type: ignore[arg-type]


def test_every_class_gets_as_many_pictures() -> None:
    data = some_photographs(30)
    taken = some_of(data, per_class=4)
    assert torch.bincount(taken.labels).tolist() == [4, 4, 4]
    for image, label in zip(taken.images, taken.labels, strict=True):
        found = [torch.equal(image, other) for other in data.images]
        assert sum(found) == 1
        assert data.labels[found.index(True)] == label
    net = tiny_net()
    made = generated(net, PLAN, per_class=2, classes=data.classes)
    assert made.labels.tolist() == [0, 0, 1, 1, 2, 2]
    wanted = pictures(net, PLAN, made.labels, seed=2)
    assert (made.images.float() / 255 - wanted).abs().max() <= 0.5 / 255 + 1e-6


def test_all_measures_are_given_with_their_scale() -> None:
    data, test = some_photographs(30), some_photographs(12, seed=1)
    found = list(measure_generator(tiny_net(), PLAN, train=data, test=test, per_class=10, epochs=2))
    assert len(found) == 3
    assert all(math.isfinite(one.generated) and math.isfinite(one.real) for one in found)
    assert found[0].generated > found[0].real  # an untrained generator
    assert found[1].generated > found[1].real
    assert (
        str(GeneratorMeasure("x", 1.23456, 0.5)) == "x: 1.235 (as many training photographs: 0.5)"
    )
    with pytest.raises(InputError, match=r"classes trained on \(a, b, c\), got a, b\.$"):
        expect_same_classes(data, some_photographs(classes=2))
