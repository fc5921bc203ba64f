from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invertkit.metrics.precision_recall import precision_recall
from tests.helpers import normal


def share(points: torch.Tensor, others: torch.Tensor, k: int) -> float:
    """How many points lie in the ball of another set's point up to its k-th neighbour."""
    inside = 0
    for point in points:
        for i, other in enumerate(others):
            apart = sorted(float((other - x).norm()) for j, x in enumerate(others) if j != i)
            if float((point - other).norm()) <= apart[k - 1]:
                inside += 1
                break
    return inside / len(points)


@given(seed=st.integers(0, 99), k=st.integers(1, 3))
def test_both_are_their_plain_restatement(seed: int, k: int) -> None:
    real, made = normal(7, 2, seed=seed), normal(6, 2, seed=seed + 1) * 1.5
    found = precision_recall(real, made, neighbours=k)
    assert found.precision == pytest.approx(share(made, real, k))
    assert found.recall == pytest.approx(share(real, made, k))


def test_one_picture_again_and_again_is_precise_and_reaches_little() -> None:
    real = normal(200, 2)
    collapsed = real[:1] + 0.01 * normal(100, 2, seed=1)
    precision, recall = precision_recall(real, collapsed)
    assert precision > 0.9
    assert recall < 0.1
    spread = precision_recall(real, 30 * normal(100, 2, seed=1))
    assert spread.precision < 0.2
    assert precision_recall(real, real) == (1, 1)
