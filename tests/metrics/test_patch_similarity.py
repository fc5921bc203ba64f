from __future__ import annotations

import pytest
import torch
from torch import Tensor

from invertkit.metrics.patch_similarity import bidirectional_similarity
from tests.faces import red_on_green
from tests.helpers import uniform


def slow(image: Tensor, reference: Tensor, side: int) -> float:
    """One scale, every patch, written plainly."""

    def patches(picture: Tensor) -> list[Tensor]:
        height, width = picture.shape[-2:]
        return [
            picture[0, :, i : i + side, j : j + side]
            for i in range(height - side + 1)
            for j in range(width - side + 1)
        ]

    def one_way(queries: list[Tensor], answers: list[Tensor]) -> float:
        distances = [
            min((query - answer).square().mean().sqrt().item() for answer in answers)
            for query in queries
        ]
        return sum(distances) / len(distances)

    a, b = patches(image), patches(reference)
    return (one_way(a, b) + one_way(b, a)) / 2


def test_an_image_has_no_distance_to_itself() -> None:
    image = uniform(1, 3, 24, 20)
    assert bidirectional_similarity(image, image).item() == pytest.approx(0, abs=1e-6)


def test_the_distance_is_the_same_both_ways() -> None:
    a, b = uniform(1, 3, 24, 20), uniform(1, 3, 24, 20, seed=1)
    there, back = bidirectional_similarity(a, b), bidirectional_similarity(b, a)
    assert torch.allclose(there, back)
    assert there > 0.05


def test_it_agrees_with_a_slow_loop() -> None:
    images, reference = uniform(2, 3, 7, 8), uniform(1, 3, 7, 8, seed=1)
    quick = bidirectional_similarity(images, reference, patch=3, scales=(1.0,), stride=1)
    expected = [slow(image[None], reference, 3) for image in images]
    assert quick.tolist() == pytest.approx(expected, abs=1e-9)


def test_a_shifted_object_is_nearer_than_noise() -> None:
    image, _, _ = red_on_green()
    moved, noise = image.roll(8, 3), uniform(1, 3, 48, 48, dtype=torch.float32)
    near, far = bidirectional_similarity(torch.cat([moved, noise]), image)
    assert near < far / 5
