from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from invertkit.metrics.judge import train_judge
from invertkit.metrics.mask_iou import mask_iou
from invertkit.metrics.patch_similarity import bidirectional_similarity
from tests.faces import red_on_green
from tests.helpers import global_generators_unmoved, uniform


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


class _Red(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image[:, :1] - image[:, 1:2]


def test_intersection_over_union_is_counted_per_image() -> None:
    target = torch.zeros(1, 1, 4, 4)
    target[..., :2] = 1  # 8 pixels
    seen = torch.zeros(3, 3, 4, 4)
    seen[:, 1] = 0.5
    seen[0, 0, :, :2] = 1  # all of it
    seen[1, 0, :, 1:3] = 1  # 4 of it, 4 beside it
    iou = mask_iou(seen, target, seen[:1], target, judge=_Red())  # type: ignore[arg-type]
    assert iou.tolist() == pytest.approx([1, 4 / 12, 0])


def test_the_judge_finds_a_red_square_on_green() -> None:
    image, mask, target = red_on_green()
    moved = image.roll((12, 12), (2, 3))
    with global_generators_unmoved():
        judge = train_judge(image, mask, steps=80)
    assert mask_iou(image, mask, image, mask, judge=judge).item() > 0.9
    assert mask_iou(moved, target, image, mask, judge=judge).item() > 0.9
    assert mask_iou(image, target, image, mask, judge=judge).item() < 0.5
    assert not any(parameter.requires_grad for parameter in judge.parameters())


def test_a_judge_is_the_same_each_time() -> None:
    image, mask, _ = red_on_green((24, 24))
    first, second = (train_judge(image, mask, steps=2) for _ in range(2))
    assert torch.equal(first(image), second(image))


def test_without_a_judge_one_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    import invertkit.metrics.mask_iou as module

    monkeypatch.setattr(module, "train_judge", lambda image, mask: _Red())
    image, mask, _ = red_on_green()
    assert mask_iou(image, mask, image, mask).item() == pytest.approx(1)
