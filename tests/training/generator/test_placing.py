"""Where a generator puts its objects."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from invertkit.models.classifiers.classifier import Classifier
from invertkit.training.generator.placing import object_statistics, places_among
from tests.training.generator.tiny import eyes, tiny_net


def test_objects_are_somewhere_in_the_picture() -> None:
    (row, column), size = object_statistics(
        tiny_net(), classes=("cat", "sheep", "dog"), eyes=eyes(), size=32, count=30
    )
    assert 0 < row < 1
    assert 0 < column < 1
    assert all(0 < side <= 1 for side in size)


def test_the_statistics_find_an_object() -> None:
    """A classifier that looks at a box only: its centre and size come out."""

    class Box(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            inside = image[:, :, 8:24, 32:64].sum((1, 2, 3))  # of 64×64
            return torch.stack([inside, -inside], 1)

    box = Classifier(Box(), classes=("a", "b"))
    centre, size = object_statistics(
        tiny_net(), classes=("b", "a", "x"), eyes=box, size=64, count=9
    )
    assert centre == pytest.approx((0.25, 0.75), abs=0.01)
    assert size == pytest.approx((0.25, 0.5), abs=0.02)


def test_names_are_compared_as_they_are_spoken() -> None:
    known = ("German shepherd", "tabby")
    assert places_among(known, ("german_shepherd", "TABBY", "lion")) == [0, 1, -1]
