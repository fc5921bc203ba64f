from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from invertkit.core.images.resampling import moved
from tests.helpers import uniform

SHARES = st.floats(-0.9, 0.9)


@given(right=SHARES, down=SHARES, seed=st.integers(0, 9))
def test_a_move_is_that_of_a_bilinear_grid(right: float, down: float, seed: int) -> None:
    features = uniform(2, 3, 6, 9, seed=seed)
    theta = torch.tensor([[1, 0, -2 * right], [0, 1, -2 * down]], dtype=torch.float64)
    grid = F.affine_grid(theta.expand(2, -1, -1), [2, 3, 6, 9], align_corners=False)
    expected = F.grid_sample(features, grid, align_corners=False)
    torch.testing.assert_close(moved(features, (right, down)), expected, rtol=0, atol=1e-12)


def test_no_move_is_exact() -> None:
    features = uniform(1, 2, 4, 4)
    assert moved(features, (0, 0)) is features
