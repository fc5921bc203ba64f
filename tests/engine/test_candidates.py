from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from invertkit.engine.candidates import StepBest
from tests.helpers import same, uniform

numbers = st.sampled_from([0.0, 1.0, 2.0, 3.0, float("nan"), float("inf"), float("-inf")])


@given(
    looks=st.lists(st.lists(numbers, min_size=6, max_size=6), min_size=1, max_size=4),
    alone=st.sampled_from([True, False]),
)
def test_the_best_finite_candidate_of_each_image_is_kept(
    looks: list[list[float]], alone: Any
) -> None:
    images = 6 if alone else 2
    seen, count = StepBest(images), 6 // images
    for step, row in enumerate(looks):
        at = torch.tensor([10.0 * step + i for i in range(6)])
        seen.add(torch.tensor(row), at.reshape(6, 1, 1, 1), {"latent": at.reshape(6, 1)})
    for image in range(images):
        finite = [
            (value, 10.0 * step + i)
            for step, row in enumerate(looks)
            for i, value in enumerate(row)
            if i // count == image and abs(value) < float("inf")
        ]
        assert seen.losses is not None
        if not finite:
            assert not seen.losses[image].isfinite()
            continue
        value, place = min(finite)
        assert seen.losses[image] == value
        assert seen.images[image].item() == place
        assert seen.points["latent"][image].item() == place


def test_what_is_kept_stays_when_the_points_move_on() -> None:
    seen, points = StepBest(2), {"latent": uniform(2, 3)}
    images = uniform(2, 3, 4, 4)
    before = [points["latent"].clone(), images.clone()]
    seen.add(torch.tensor([1.0, 2.0]), images, points)
    points["latent"].zero_()
    images.zero_()
    assert same([seen.points["latent"], seen.images], before)
