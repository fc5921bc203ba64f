from __future__ import annotations

import torch

from invertkit.apps.gradients.table import shown
from tests.helpers import normal


def test_a_picture_of_a_gradient_is_clipped_at_three_sigma() -> None:
    gradient = normal(3, 20, 20)
    gradient[0, 0, 0], gradient[1, 1, 1] = 50, -50
    mean, sigma = gradient.mean(), gradient.std(correction=0)
    picture = shown(gradient)
    assert picture[0, 0, 0] == 1
    assert picture[1, 1, 1] == 0
    inside = (gradient - mean).abs() < 3 * sigma
    straight = ((gradient - mean) / (6 * sigma) + 0.5).float()
    assert torch.allclose(picture[inside], straight[inside], atol=1e-6)
    assert torch.allclose(shown(gradient * 1e-20), picture, atol=1e-6)
    assert (shown(torch.zeros(3, 4, 4)) == 0.5).all()
