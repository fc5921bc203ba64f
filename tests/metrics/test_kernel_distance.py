from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invertkit.metrics.kernel_distance import kernel_distance
from tests.helpers import normal


@given(seed=st.integers(0, 99))
def test_the_distance_is_its_plain_restatement(seed: int) -> None:
    first, second = normal(4, 3, seed=seed), normal(5, 3, seed=seed + 1)

    def kernel(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x @ y / 3 + 1) ** 3)

    own = [
        sum(kernel(a[i], a[j]) for i in range(len(a)) for j in range(len(a)) if i != j)
        / (len(a) * (len(a) - 1))
        for a in (first, second)
    ]
    between = sum(kernel(x, y) for x in first for y in second) / 20
    assert kernel_distance(first, second) == pytest.approx(sum(own) - 2 * between, abs=1e-9)


def test_few_points_of_one_distribution_are_on_average_at_zero() -> None:
    found = [kernel_distance(normal(8, 4, seed=s), normal(8, 4, seed=s + 500)) for s in range(400)]
    spread = torch.tensor(found)
    assert abs(spread.mean()) < 3 * spread.std() / 20
    far = kernel_distance(normal(8, 4), normal(8, 4, seed=1) + 2)
    assert far > 5 * spread.std()
