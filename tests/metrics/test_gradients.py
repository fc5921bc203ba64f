from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from invertkit.metrics.gradients import (
    edge_alignment,
    edges,
    low_frequencies,
    low_frequency_share,
    orientation_agreement,
)
from tests.helpers import normal, uniform

SHAPES = st.tuples(st.integers(1, 3), st.integers(6, 17), st.integers(6, 17))
SEEDS = st.integers(0, 9)
METRICS = [edge_alignment, orientation_agreement, lambda g, x: low_frequency_share(g)]


def bars(size: tuple[int, int] = (24, 20)) -> Tensor:
    """Upright bars, brighter towards the right: edges of all strengths."""
    columns = torch.arange(size[1], dtype=torch.float64)
    row = ((columns // 4) % 2) * columns / size[1]
    return row.expand(1, 3, *size).clone()


@pytest.mark.parametrize("metric", METRICS)
@given(shape=SHAPES, seed=SEEDS, power=st.integers(-30, 30))
def test_no_number_depends_on_the_gradients_scale(
    metric: Any, shape: tuple[int, int, int], seed: int, power: int
) -> None:
    gradient, image = normal(2, *shape, seed=seed), uniform(2, 3, *shape[1:], seed=seed)
    scaled = metric(gradient * 10.0**power, image)
    assert torch.allclose(scaled, metric(gradient, image), rtol=1e-9, atol=1e-9)
    assert torch.allclose(metric(-gradient, image), metric(gradient, image))


@pytest.mark.parametrize("metric", METRICS)
@given(shape=SHAPES, seed=SEEDS)
def test_every_number_is_in_its_range_and_its_own_images(
    metric: Any, shape: tuple[int, int, int], seed: int
) -> None:
    gradient, image = normal(3, *shape, seed=seed), uniform(3, 3, *shape[1:], seed=seed)
    together = metric(gradient, image)
    low = 0 if metric is METRICS[2] else -1
    assert ((together >= low) & (together <= 1)).all()
    alone = [metric(gradient[i : i + 1], image[i : i + 1]) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-9)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("axes", [(2,), (3,), (2, 3)])
@given(shape=SHAPES, seed=SEEDS)
def test_mirrored_pictures_have_the_same_numbers(
    metric: Any, axes: tuple[int, ...], shape: tuple[int, int, int], seed: int
) -> None:
    gradient, image = normal(1, *shape, seed=seed), uniform(1, 3, *shape[1:], seed=seed)
    mirrored = metric(gradient.flip(axes), image.flip(axes))
    assert torch.allclose(mirrored, metric(gradient, image), rtol=1e-9, atol=1e-12)


@given(shape=SHAPES, seed=SEEDS, blur=st.sampled_from([0.0, 0.7, 1.0, 2.5]))
def test_a_gradient_that_is_the_images_edges_is_aligned(
    shape: tuple[int, int, int], seed: int, blur: float
) -> None:
    image = uniform(1, 3, *shape[1:], seed=seed)
    outline = edges(image) * 3
    assert edge_alignment(outline, image, blur=blur).item() == pytest.approx(1, abs=1e-9)
    noise = normal(1, 1, *shape[1:], seed=seed).sign()
    assert edge_alignment(outline * noise, image, blur=blur).item() == pytest.approx(1, abs=1e-9)
    colours = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    assert edge_alignment(outline * colours, image, blur=blur).item() == pytest.approx(1, abs=1e-9)


def test_a_gradient_beside_the_edges_is_not_aligned() -> None:
    image = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    image[..., 16:] = 1
    beside = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    beside[..., 4:6] = 1
    assert edge_alignment(beside, image).item() < 0
    assert edge_alignment(beside.roll(11, 3), image).item() > 0.9


def test_noise_is_neither_aligned_nor_oriented() -> None:
    image = uniform(1, 3, 64, 64).cumsum(3).fmod(7) / 7
    noise = normal(40, 3, 64, 64)
    images = image.expand(40, -1, -1, -1)
    for metric in (edge_alignment, orientation_agreement):
        values = metric(noise, images)
        assert abs(values.mean()) < 4 * values.std() / 40**0.5 + 0.01


def test_strokes_along_the_edges_agree_and_strokes_across_them_disagree() -> None:
    image = bars((32, 32))
    along, across = image.flip(3), image.transpose(2, 3)
    assert orientation_agreement(along, image).item() == pytest.approx(1)
    assert orientation_agreement(across, image).item() < -0.9
    assert orientation_agreement(image + 5, image).item() == pytest.approx(1)


def test_oblique_strokes_have_their_angle_too() -> None:
    rows, columns = torch.meshgrid(*[torch.arange(48, dtype=torch.float64)] * 2, indexing="ij")
    falling, rising, upright = (
        torch.sin(wave * 0.4).expand(1, 3, 48, 48)
        for wave in (rows + columns, rows - columns, columns * 2**0.5)
    )
    assert orientation_agreement(falling, falling).item() > 0.95
    assert orientation_agreement(rising, falling).item() < -0.95
    assert abs(orientation_agreement(upright, falling).item()) < 0.1


@given(shape=SHAPES, seed=SEEDS)
def test_edges_agree_with_a_slow_loop(shape: tuple[int, int, int], seed: int) -> None:
    image = uniform(1, *shape, seed=seed)
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")[0]
    across = {-1: 0.25, 0: 0.5, 1: 0.25}
    y, x = shape[1] // 2, shape[2] - 1
    total = 0.0
    for channel in padded:
        at = {(i, j): channel[y + 1 + i, x + 1 + j].item() for i in across for j in across}
        total += sum(across[i] * (at[i, 1] - at[i, -1]) / 2 for i in across) ** 2
        total += sum(across[j] * (at[1, j] - at[-1, j]) / 2 for j in across) ** 2
    assert edges(image)[0, 0, y, x].item() == pytest.approx(math.sqrt(total))


@given(shape=SHAPES, seed=SEEDS, cutoff=st.sampled_from([0.1, 0.25, 0.5, 0.9]))
def test_low_and_high_frequencies_add_up(
    shape: tuple[int, int, int], seed: int, cutoff: float
) -> None:
    gradient = normal(1, *shape, seed=seed)
    inside = low_frequencies(*shape[1:], cutoff=cutoff)
    low, high = (
        torch.fft.ifft2(torch.fft.fft2(gradient) * part).real for part in (inside, 1 - inside)
    )
    whole = gradient.square().sum()
    assert torch.allclose(low.square().sum() + high.square().sum(), whole)
    share = low_frequency_share(gradient, cutoff=cutoff).item()
    assert share == pytest.approx((low.square().sum() / whole).item())
    assert low_frequency_share(low, cutoff=cutoff).item() == pytest.approx(1)
    if high.abs().max() > 1e-9:
        assert low_frequency_share(high, cutoff=cutoff).item() == pytest.approx(0, abs=1e-9)
    assert low_frequency_share(gradient, cutoff=2**0.5).item() == pytest.approx(1)


@pytest.mark.parametrize("cutoff", [0.2, 0.25, 0.5, 1.0])
def test_white_noise_has_the_share_of_the_discs_area(cutoff: float) -> None:
    shares = low_frequency_share(normal(64, 3, 48, 40), cutoff=cutoff)
    area = low_frequencies(48, 40, cutoff=cutoff).mean().item()
    assert abs(shares.mean().item() - area) < 4 * shares.std().item() / 8
    assert area == pytest.approx(math.pi * cutoff**2 / 4, rel=0.12)


def test_waves_are_low_up_to_the_cutoff_and_along_every_axis() -> None:
    steps = torch.arange(64, dtype=torch.float64)
    for period, low in ((16, 1), (8, 1), (4, 0), (2, 0)):
        wave = torch.cos(2 * math.pi * steps / period)
        for picture in (wave.expand(64, 64), wave[:, None].expand(64, 64)):
            share = low_frequency_share(picture[None, None], cutoff=0.25).item()
            assert share == pytest.approx(low, abs=1e-9)


def test_what_is_undefined_is_no_number() -> None:
    image, flat = uniform(1, 3, 9, 9), torch.full((1, 3, 9, 9), 0.5, dtype=torch.float64)
    none = torch.zeros_like(image)
    assert edge_alignment(none, image).isnan().all()
    assert edge_alignment(image, flat).isnan().all()
    assert low_frequency_share(none).isnan().all()
    assert orientation_agreement(none, image).isnan().all()
