from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from invertkit.apps.editing.poisson import poisson_blend
from invertkit.errors import InputError
from tests.helpers import uniform

SIZES = st.tuples(st.integers(1, 7), st.integers(2, 7))


def random_mask(size: tuple[int, int], seed: int, share: float = 0.5) -> Tensor:
    """Of any shape, in any number of parts; neither empty nor full."""
    mask = (uniform(1, *size, seed=seed) < share).double()
    assume(0 < mask.mean() < 1)
    return mask


def square(size: tuple[int, int] = (9, 10)) -> Tensor:
    mask = torch.zeros(1, *size, dtype=torch.float64)
    mask[:, 2:6, 3:8] = 1
    return mask


def slow(background: Tensor, foreground: Tensor, mask: Tensor, *, mixed: bool) -> Tensor:
    """One equation a pixel of the picture, written plainly."""
    _, height, width = background.shape
    result = background.clone()
    for channel in range(3):
        f, g = background[channel].numpy(), foreground[channel].numpy()
        matrix, known = np.eye(height * width), f.flatten().copy()
        for i in range(height):
            for j in range(width):
                if not mask[0, i, j]:
                    continue
                row = i * width + j
                matrix[row], known[row] = 0, 0
                for k, m in [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]:
                    if 0 <= k < height and 0 <= m < width:
                        matrix[row, row] += 1
                        matrix[row, k * width + m] -= 1
                        a, b = g[i, j] - g[k, m], f[i, j] - f[k, m]
                        known[row] += b if mixed and abs(b) > abs(a) else a
        solved = np.linalg.solve(matrix, known).reshape(height, width)
        result[channel] = torch.from_numpy(solved).clamp(0, 1)
    return result


@given(size=SIZES, seed=st.integers(0, 999), mixed=st.booleans())
def test_outside_the_mask_nothing_changes(size: tuple[int, int], seed: int, *, mixed: bool) -> None:
    mask = random_mask(size, seed)
    background = uniform(3, *size, seed=seed + 1, dtype=torch.float32)
    foreground = uniform(3, *size, seed=seed + 2, dtype=torch.float32)
    before = background.clone()
    result = poisson_blend(background, foreground, mask, mixed=mixed)
    outside = (mask == 0).expand_as(result)
    assert torch.equal(result[outside].view(torch.int32), before[outside].view(torch.int32))
    assert torch.equal(background, before)
    assert result.dtype == torch.float32
    assert 0 <= result.min() <= result.max() <= 1


@given(size=SIZES, seed=st.integers(0, 999), mixed=st.booleans())
def test_it_agrees_with_a_slow_dense_solve(
    size: tuple[int, int], seed: int, *, mixed: bool
) -> None:
    mask = random_mask(size, seed, share=0.7)
    background, foreground = uniform(3, *size, seed=seed + 1), uniform(3, *size, seed=seed + 2)
    expected = slow(background, foreground, mask, mixed=mixed)
    result = poisson_blend(background, foreground, mask, mixed=mixed)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-9)


@given(size=SIZES, seed=st.integers(0, 999), mixed=st.booleans())
def test_a_picture_cloned_into_itself_stays(
    size: tuple[int, int], seed: int, *, mixed: bool
) -> None:
    mask, picture = random_mask(size, seed), uniform(3, *size, seed=seed)
    result = poisson_blend(picture, picture, mask, mixed=mixed)
    torch.testing.assert_close(result, picture, rtol=0, atol=1e-9)


@given(st.floats(-1, 1), st.integers(0, 999))
def test_a_constant_is_removed(constant: float, seed: int) -> None:
    picture = uniform(3, 6, 7, seed=seed)
    result = poisson_blend(picture, picture + constant, random_mask((6, 7), seed))
    torch.testing.assert_close(result, picture, rtol=0, atol=1e-9)


def test_a_plain_foreground_stays_within_the_rim() -> None:
    background, mask = uniform(3, 9, 10), square()
    result = poisson_blend(background, torch.full_like(background, 0.3), mask)
    rim = torch.nn.functional.max_pool2d(mask, 3, 1, 1) - mask > 0
    for channel in range(3):
        within, around = result[channel][mask[0] > 0], background[channel][rim[0]]
        assert around.min() < within.min() < within.max() < around.max()


def test_mixed_keeps_the_texture_of_the_background_under_a_plain_foreground() -> None:
    background = uniform(3, 9, 10)
    plain = torch.full_like(background, 0.5)
    result = poisson_blend(background, plain, square(), mixed=True)
    torch.testing.assert_close(result, background, rtol=0, atol=1e-9)
    assert not torch.allclose(poisson_blend(background, plain, square()), background)


def test_values_beyond_the_range_are_clamped_inside_only() -> None:
    background = torch.full((3, 9, 10), 0.9, dtype=torch.float64)
    foreground = torch.zeros_like(background)
    foreground[:, 4, 5] = 1.0
    result = poisson_blend(background, foreground, square())
    assert result.max() == 1
    assert result[:, 4, 5].tolist() == [1, 1, 1]


def test_a_mask_of_booleans_is_a_mask() -> None:
    background, foreground = uniform(3, 9, 10), uniform(3, 9, 10, seed=1)
    expected = poisson_blend(background, foreground, square())
    assert torch.equal(poisson_blend(background, foreground, square().bool()), expected)


def test_no_gradient_is_kept() -> None:
    background = uniform(3, 9, 10).requires_grad_()
    assert not poisson_blend(background, uniform(3, 9, 10), square()).requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"foreground": uniform(3, 9, 11)}, r"foreground: expected .*\(3, 9, 10\).*\(3, 9, 11\)"),
        ({"background": uniform(1, 9, 10)}, r"background: expected .*\(3, 9, 10\)"),
        ({"mask": square()[0]}, r"mask: expected a tensor of shape \(1, 9, 10\)"),
        ({"background": torch.full((3, 9, 10), torch.nan)}, "background: has 270 values"),
        ({"foreground": torch.full((3, 9, 10), torch.inf)}, "foreground: has 270 values"),
        ({"mask": square() * torch.nan}, "mask: has 90 values that are NaN"),
        ({"mask": square() / 2}, "mask: expected 0 and 1 only; threshold it first"),
        ({"mask": torch.zeros(1, 9, 10)}, "mask: is empty"),
        ({"mask": torch.ones(1, 9, 10)}, "mask: is full"),
    ],
)
def test_what_cannot_be_blended_is_named(change: dict[str, Tensor], message: str) -> None:
    given = {"background": uniform(3, 9, 10), "foreground": uniform(3, 9, 10), "mask": square()}
    with pytest.raises(InputError, match=message):
        poisson_blend(**(given | change))
