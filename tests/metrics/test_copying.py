from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from invertkit.errors import InputError
from invertkit.metrics.copying import displaced_correlation, pixel_correlation
from tests.helpers import normal, uniform

seeds = st.integers(0, 999)
shifts = st.integers(-2, 2)


def slow(image: Tensor, reference: Tensor) -> float:
    """Of all pixels, each colour about its own mean."""
    a, b = (
        np.concatenate([(c - c.mean()).flatten() for c in x[0].numpy()]) for x in (image, reference)
    )
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


@given(seeds)
def test_pixel_correlation_equals_numpys(seed: int) -> None:
    images, reference = uniform(2, 3, 7, 9, seed=seed), uniform(1, 3, 7, 9, seed=seed + 1)
    for i, value in enumerate(pixel_correlation(images, reference)):
        assert value.item() == pytest.approx(slow(images[i : i + 1], reference))
    grey = uniform(1, 1, 7, 9, seed=seed).expand(1, 3, 7, 9), reference.mean(1, keepdim=True)
    wanted = np.corrcoef(*(x[0, 0].flatten().numpy() for x in grey))[0, 1]
    assert pixel_correlation(grey[0], grey[1].expand(1, 3, 7, 9)).item() == pytest.approx(wanted)


@given(seeds, st.floats(0.1, 3), st.floats(-1, 1))
def test_contrast_brightness_and_order_do_not_matter(seed: int, by: float, more: float) -> None:
    a, b = uniform(1, 3, 6, 6, seed=seed), uniform(1, 3, 6, 6, seed=seed + 1)
    value = pixel_correlation(a, b)
    torch.testing.assert_close(pixel_correlation(by * a + more, b), value)
    torch.testing.assert_close(pixel_correlation(b, a), value)
    torch.testing.assert_close(pixel_correlation(1 - a, b), -value)
    assert pixel_correlation(a, a).item() == pytest.approx(1)


def test_a_flat_picture_correlates_with_nothing() -> None:
    flat = torch.full((1, 3, 6, 6), 0.3)
    assert pixel_correlation(flat, torch.rand(1, 3, 6, 6)).item() == pytest.approx(0, abs=1e-4)


@given(seeds, shifts, shifts, st.sampled_from([(), (3,)]))
def test_a_copy_is_known_wherever_it_was_moved(
    seed: int, down: int, right: int, mirror: tuple[int, ...]
) -> None:
    wide = normal(1, 3, 20, 24, seed=seed)
    reference = wide[..., 4:16, 4:20]
    moved = wide[..., 4 + down : 16 + down, 4 + right : 20 + right]
    value = displaced_correlation(moved.flip(mirror), reference, reach=0.2, step=1).item()
    assert value == pytest.approx(1)
    coarse = displaced_correlation(moved, reference, reach=0.2, step=2)
    assert coarse.item() <= value + 1e-9


@given(seeds)
def test_it_is_no_less_than_without_a_shift(seed: int) -> None:
    a, b = uniform(2, 3, 10, 8, seed=seed), uniform(1, 3, 10, 8, seed=seed + 1)
    still = pixel_correlation(a, b)
    assert (displaced_correlation(a, b) >= still).all()
    either = torch.maximum(still, pixel_correlation(a, b.flip(3)))
    torch.testing.assert_close(displaced_correlation(a, b, reach=0), either)


def test_a_reach_that_leaves_nothing_is_told() -> None:
    with pytest.raises(InputError, match="reach: expected a share"):
        displaced_correlation(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8), reach=1.0)
