from __future__ import annotations

import torch

from invertkit.metrics.judge import train_judge
from invertkit.metrics.mask_iou import mask_iou
from tests.faces import red_on_green
from tests.helpers import global_generators_unmoved


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
