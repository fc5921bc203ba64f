"""What a step looks at."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invertkit.training.data.photographs import PhotographSet
from invertkit.training.generator.augmentation import CHANGES
from invertkit.training.generator.draws import ByClass, draws_of_step
from tests.helpers import same
from tests.training.generator.tiny import PLAN, some_photographs


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=30),
    asked=st.lists(st.integers(0, 29), min_size=1, max_size=5),
    draw=st.floats(0, 1, exclude_max=True, width=32),
)
def test_rows_are_of_the_classes_asked_for(
    labels: list[int], asked: list[int], draw: float
) -> None:
    images = torch.zeros(len(labels), 3, 1, 1, dtype=torch.uint8)
    data = ByClass(PhotographSet(images, torch.tensor(labels), tuple("abcd")))
    classes = torch.tensor([labels[place % len(labels)] for place in asked])
    for number, place in ((draw, None), (0.0, 0), (1 - 2**-24, -1)):
        rows = data.rows_of(classes, torch.full((len(classes),), number))
        assert torch.equal(torch.tensor(labels)[rows], classes)
        for label, row in zip(classes.tolist(), rows.tolist(), strict=True):
            of_class = [i for i, other in enumerate(labels) if other == label]
            assert row in of_class
            if place is not None:
                assert row == of_class[place]


@pytest.mark.parametrize("count", [4095, 4096, 4097, 5000, 65_537])
def test_the_largest_draw_stays_in_its_class(count: int) -> None:
    labels = torch.zeros(count + 1, dtype=torch.long)
    labels[-1] = 1
    images = torch.zeros(count + 1, 3, 1, 1, dtype=torch.uint8)
    data = ByClass(PhotographSet(images, labels, ("a", "b")))
    assert data.rows_of(torch.tensor([0]), torch.tensor([1 - 2**-24])).item() == count - 1


def test_draws_follow_from_the_step_alone() -> None:
    data = ByClass(some_photographs())
    plan = replace(PLAN, batch=8)
    first = draws_of_step(plan, data, 3, "cpu")
    draws_of_step(plan, data, 4, "cpu")
    again = draws_of_step(plan, data, 3, "cpu")
    other = draws_of_step(plan, data, 4, "cpu")
    assert same(list(first), list(again))
    assert not torch.equal(first[2], other[2])
    assert first.images.shape == (8, 3, 32, 32)
    assert -1 <= first.images.min() < first.images.max() <= 1
    assert first.latent.shape == (8, PLAN.latent)
    for changes in (first.real_changes, first.made_changes):
        assert changes.shape == (8, CHANGES)
        assert 0 <= changes.min() < changes.max() < 1
    assert not torch.equal(first.real_changes, first.made_changes)


def test_images_are_photographs_of_their_classes_some_mirrored() -> None:
    data = some_photographs()
    drawn = draws_of_step(replace(PLAN, batch=64), ByClass(data), 0, "cpu")
    mirrored = 0
    for image, label in zip((drawn.images + 1) * 127.5, drawn.labels.tolist(), strict=True):
        known = data.images[data.labels == label].float()
        plain, flipped = (
            (known - each).abs().amax((1, 2, 3)).min() < 1e-3 for each in (image, image.flip(-1))
        )
        assert bool(plain) != bool(flipped)
        mirrored += bool(flipped)
    assert 16 <= mirrored <= 48
