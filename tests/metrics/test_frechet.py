from __future__ import annotations

import pytest
import torch
from scipy.linalg import sqrtm

from invertkit.metrics.frechet import frechet
from tests.helpers import normal


def test_the_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    points = normal(200, 3)
    points = points - points.mean(0)
    points = torch.linalg.solve_triangular(
        torch.linalg.cholesky(torch.cov(points.T)), points.T, upper=False
    ).T  # mean 0 and covariance 1, exactly
    scale, shift = torch.tensor([2.0, 0.5, 3.0]).double(), torch.tensor([1.0, -2.0, 0.0]).double()
    wanted = (shift.square() + (scale - 1).square()).sum().item()
    assert frechet(points, points * scale + shift) == pytest.approx(wanted)
    assert frechet(points * scale + shift, points) == pytest.approx(wanted)
    assert frechet(points, points) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_needs_no_full_covariance() -> None:
    first, second = normal(5, 12), normal(7, 12, seed=1)
    assert frechet(first, first) == pytest.approx(0, abs=1e-5)
    assert frechet(first, second) == pytest.approx(frechet(second, first))
    one, other = torch.cov(first.T), torch.cov(second.T)
    root = sqrtm((one @ other).numpy() + 0j).real.trace()
    means = (first.mean(0) - second.mean(0)).square().sum()
    wanted = float(means + one.trace() + other.trace()) - 2 * root
    assert frechet(first, second) == pytest.approx(wanted, rel=1e-4)
