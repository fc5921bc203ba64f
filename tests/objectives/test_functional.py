from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from invertkit.objectives.functional import (
    channel_statistics,
    faded,
    neighbour_differences,
    neighbour_weights,
    total_variation_l1,
    total_variation_l2,
    total_variation_mv,
    weighted_mean,
)
from tests.helpers import gradcheck, gradient, normal, uniform

STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))  # right, down, down right, down left

sides = st.integers(2, 6)
counts = st.integers(1, 3)
seeds = st.integers(0, 999)


def slow_pairs(image: Tensor, weights: Tensor | None = None) -> list[list[tuple[float, float]]]:
    """For each direction the (difference, weight) of every pair of neighbours of one image."""
    channels, height, width = image.shape
    found: list[list[tuple[float, float]]] = []
    for down, right in STEPS:
        pairs = []
        for c, y, x in product(range(channels), range(height), range(width)):
            if 0 <= y + down < height and 0 <= x + right < width:
                here, there = image[c, y, x].item(), image[c, y + down, x + right].item()
                weight = 1.0
                if weights is not None:
                    w = weights[0, 0]
                    weight = min(w[y, x].item(), w[y + down, x + right].item())
                pairs.append((there - here, weight))
        found.append(pairs)
    return found


def slow_l1(image: Tensor, weights: Tensor | None = None) -> float:
    total = 0.0
    for pairs in slow_pairs(image, weights):
        weight = sum(w for _, w in pairs)
        total += sum(abs(d) * w for d, w in pairs) / weight if weight else 0.0
    return total


def slow_l2(image: Tensor, weights: Tensor | None = None) -> float:
    return sum(math.sqrt(sum(d * d * w for d, w in ps)) for ps in slow_pairs(image, weights))


def slow_mv(image: Tensor, beta: float, weights: Tensor | None = None) -> float:
    channels, height, width = image.shape
    total = 0.0
    for c, y, x in product(range(channels), range(height - 1), range(width - 1)):
        right = image[c, y, x + 1].item() - image[c, y, x].item()
        down = image[c, y + 1, x].item() - image[c, y, x].item()
        weight = 1.0 if weights is None else weights[0, 0, y : y + 2, x : x + 2].min().item()
        total += weight * (right**2 + down**2) ** (beta / 2)
    return total


FORMS: dict[str, Callable[..., Tensor]] = {
    "l1": total_variation_l1,
    "l2": total_variation_l2,
    "mv2": total_variation_mv,
    "mv1": lambda image, weights=None: total_variation_mv(image, weights, beta=1.0),
    "mv3": lambda image, weights=None: total_variation_mv(image, weights, beta=3.0),
}
SLOW: dict[str, Callable[..., float]] = {
    "l1": slow_l1,
    "l2": slow_l2,
    "mv2": lambda image, weights=None: slow_mv(image, 2.0, weights),
    "mv1": lambda image, weights=None: slow_mv(image, 1.0, weights),
    "mv3": lambda image, weights=None: slow_mv(image, 3.0, weights),
}
DEGREE = {"l1": 1, "l2": 1, "mv2": 2, "mv1": 1, "mv3": 3}
every_form = pytest.mark.parametrize("form", FORMS)


@every_form
@given(b=counts, h=sides, w=sides, seed=seeds)
def test_total_variation_equals_its_slow_loop(form: str, b: int, h: int, w: int, seed: int) -> None:
    images = normal(b, 3, h, w, seed=seed)
    slow = torch.tensor([SLOW[form](image) for image in images], dtype=torch.float64)
    torch.testing.assert_close(FORMS[form](images), slow)


@every_form
@given(h=sides, w=sides, seed=seeds, soft=st.booleans())
def test_weighted_total_variation_equals_its_slow_loop(
    *, form: str, h: int, w: int, seed: int, soft: bool
) -> None:
    images, weights = normal(2, 3, h, w, seed=seed), uniform(1, 1, h, w, seed=seed + 1)
    weights = weights if soft else weights.round()
    slow = torch.tensor([SLOW[form](image, weights) for image in images], dtype=torch.float64)
    torch.testing.assert_close(FORMS[form](images, weights), slow)


@every_form
def test_total_variation_of_constants_is_zero_with_zero_gradient(form: str) -> None:
    flat = torch.full((2, 3, 5, 4), 0.3, dtype=torch.float64)
    assert FORMS[form](flat).tolist() == [0, 0]
    assert not gradient(FORMS[form], flat).any()


@every_form
@given(shift=st.floats(-5, 5), seed=seeds)
def test_total_variation_does_not_see_a_constant_added(form: str, shift: float, seed: int) -> None:
    images = normal(2, 3, 5, 4, seed=seed)
    torch.testing.assert_close(FORMS[form](images + shift), FORMS[form](images))


@pytest.mark.parametrize("form", ["l1", "l2"])
@given(h=sides, w=sides, seed=seeds)
def test_four_directions_do_not_see_flips_and_transposes(
    form: str, h: int, w: int, seed: int
) -> None:
    images = normal(2, 3, h, w, seed=seed)
    here = FORMS[form](images)
    for moved in (images.flip(2), images.flip(3), images.transpose(2, 3), -images):
        torch.testing.assert_close(FORMS[form](moved), here)


@pytest.mark.parametrize("form", ["mv1", "mv2", "mv3"])
def test_mahendran_vedaldi_does_not_see_a_transpose(form: str) -> None:
    images = normal(2, 3, 4, 6)
    torch.testing.assert_close(FORMS[form](images.transpose(2, 3)), FORMS[form](images))


@every_form
@given(scale=st.floats(0.1, 10), seed=seeds)
def test_total_variation_is_homogeneous_of_its_degree(form: str, scale: float, seed: int) -> None:
    images = normal(2, 3, 4, 5, seed=seed)
    wanted = scale ** DEGREE[form] * FORMS[form](images)
    torch.testing.assert_close(FORMS[form](scale * images), wanted)


@every_form
def test_total_variation_of_an_image_does_not_depend_on_its_company(form: str) -> None:
    images, weights = normal(3, 3, 5, 6), uniform(1, 1, 5, 6)
    for w in (None, weights):
        alone = torch.cat([FORMS[form](image[None], w) for image in images])
        torch.testing.assert_close(FORMS[form](images, w), alone, rtol=1e-14, atol=0)


@given(b=counts, seed=seeds)
def test_coupled_total_variation_adds_up_to_the_norm_over_the_batch(b: int, seed: int) -> None:
    images = normal(b, 3, 4, 5, seed=seed)
    slow = 0.0
    for direction in zip(*(slow_pairs(image) for image in images), strict=True):
        slow += math.sqrt(sum(d * d for pairs in direction for d, _ in pairs))
    values = total_variation_l2(images, coupled=True)
    assert values.shape == (b,)
    assert values.sum().item() == pytest.approx(slow)
    torch.testing.assert_close(values, values[:1].expand(b))


def test_the_released_loss_of_a_batch_grows_as_its_root() -> None:
    image = normal(1, 3, 6, 6)
    four = total_variation_l2(image.repeat(4, 1, 1, 1), coupled=True).sum()
    torch.testing.assert_close(four, 2 * total_variation_l2(image).sum())


@every_form
def test_weights_of_one_change_nothing_and_weights_of_zero_leave_nothing(form: str) -> None:
    images = normal(2, 3, 5, 6)
    torch.testing.assert_close(FORMS[form](images, torch.ones(1, 1, 5, 6)), FORMS[form](images))
    assert FORMS[form](images, torch.zeros(1, 1, 5, 6)).tolist() == [0, 0]


@every_form
def test_pairs_across_the_border_of_a_region_do_not_count(form: str) -> None:
    weights = torch.zeros(1, 1, 6, 6)
    weights[:, :, 1:4, 2:5] = 1
    slope = gradient(lambda images: FORMS[form](images, weights), normal(2, 3, 6, 6))
    outside = (weights == 0).expand_as(slope)
    assert not slope[outside].any()
    assert slope[~outside].any()


@every_form
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_of_total_variation_agrees_with_finite_differences(
    *, form: str, weighted: bool
) -> None:
    weights = uniform(1, 1, 4, 5, seed=3) if weighted else None
    gradcheck(lambda images: FORMS[form](images, weights), normal(2, 3, 4, 5))


def test_coupled_gradient_agrees_with_finite_differences() -> None:
    gradcheck(lambda images: total_variation_l2(images, coupled=True), normal(2, 3, 4, 5))


def test_images_of_one_pixel_have_no_variation() -> None:
    for h, w in ((1, 1), (1, 4), (4, 1)):
        images = normal(2, 3, h, w)
        slow = [slow_l1(image) for image in images]
        assert total_variation_l1(images).tolist() == pytest.approx(slow)


def test_differences_and_weights_have_the_same_shapes() -> None:
    shapes = [tuple(d.shape[-2:]) for d in neighbour_differences(normal(2, 3, 4, 7))]
    assert shapes == [(4, 6), (3, 7), (3, 6), (3, 6)]
    assert shapes == [tuple(w.shape[-2:]) for w in neighbour_weights(uniform(1, 1, 4, 7))]


@given(seed=seeds, soft=st.booleans())
def test_weighted_mean_equals_its_slow_loop(*, seed: int, soft: bool) -> None:
    values, weights = normal(2, 3, 3, 4, seed=seed), uniform(1, 1, 3, 4, seed=seed)
    weights = weights if soft else weights.round()
    for image, mean in zip(values, weighted_mean(values, weights), strict=True):
        above = below = 0.0
        for c, y, x in product(range(3), range(3), range(4)):
            above += image[c, y, x].item() * weights[0, 0, y, x].item()
            below += weights[0, 0, y, x].item()
        assert mean.item() == pytest.approx(above / below if below else 0.0)


@given(seed=seeds)
def test_weights_may_differ_from_image_to_image(seed: int) -> None:
    values, weights = normal(3, 2, 3, 4, seed=seed), uniform(3, 1, 3, 4, seed=seed)

    def both(v: Tensor, w: Tensor) -> list[Tensor]:
        return [weighted_mean(v, w), *channel_statistics(v, w, unbiased=True)]

    rows = zip(values.split(1), weights.split(1), strict=True)
    alone = [torch.cat(parts) for parts in zip(*(both(v, w) for v, w in rows), strict=True)]
    torch.testing.assert_close(both(values, weights), alone, rtol=1e-13, atol=1e-15)


@given(outside=st.floats(0, 2), seed=seeds)
def test_faded_weights_are_one_inside_and_the_share_outside(outside: float, seed: int) -> None:
    binary = uniform(1, 1, 3, 4, seed=seed).round()
    wanted = torch.where(binary == 1, 1.0, torch.tensor(outside, dtype=binary.dtype))
    result = faded(binary, outside)
    assert result is not None
    assert torch.equal(result, wanted)
    assert faded(None, outside) is None


@given(c=st.integers(1, 3), h=st.integers(1, 4), w=st.integers(1, 4), seed=seeds)
def test_channel_statistics_equal_their_slow_loop(c: int, h: int, w: int, seed: int) -> None:
    features, n = normal(2, c, h, w, seed=seed), h * w
    mean, unbiased = channel_statistics(features, unbiased=True)
    _, biased = channel_statistics(features, unbiased=False)
    for b, k in product(range(2), range(c)):
        pixels = [features[b, k, y, x].item() for y in range(h) for x in range(w)]
        middle = sum(pixels) / n
        squares = sum((pixel - middle) ** 2 for pixel in pixels)
        assert mean[b, k].item() == pytest.approx(middle)
        assert biased[b, k].item() == pytest.approx(squares / n, abs=1e-14)
        assert unbiased[b, k].item() == pytest.approx(squares / max(1, n - 1), abs=1e-14)


@pytest.mark.parametrize("unbiased", [False, True])
@given(seed=seeds)
def test_binary_weights_select_pixels(*, unbiased: bool, seed: int) -> None:
    features, weights = normal(2, 3, 4, 5, seed=seed), uniform(1, 1, 4, 5, seed=seed).round()
    weights[0, 0, 0, :2] = 1  # at least two
    mean, variance = channel_statistics(features, weights, unbiased=unbiased)
    chosen = features[:, :, weights[0, 0].bool()]
    torch.testing.assert_close(mean, chosen.mean(2))
    torch.testing.assert_close(variance, chosen.var(2, unbiased=unbiased))


@pytest.mark.parametrize("unbiased", [False, True])
def test_statistics_of_no_pixels_are_finite(*, unbiased: bool) -> None:
    mean, variance = channel_statistics(
        normal(2, 3, 4, 5), torch.zeros(1, 1, 4, 5), unbiased=unbiased
    )
    assert not mean.any()
    assert not variance.any()


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_of_channel_statistics_agrees_with_finite_differences(
    *, unbiased: bool, weighted: bool
) -> None:
    weights = uniform(1, 1, 3, 4) if weighted else None
    gradcheck(
        lambda f: torch.cat(channel_statistics(f, weights, unbiased=unbiased)), normal(2, 3, 3, 4)
    )
