from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from invertkit.metrics.mask_iou import mask_iou
from tests.faces import red_on_green


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


def test_without_a_judge_one_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    import invertkit.metrics.mask_iou as module

    monkeypatch.setattr(module, "train_judge", lambda image, mask: _Red())
    image, mask, _ = red_on_green()
    assert mask_iou(image, mask, image, mask).item() == pytest.approx(1)
