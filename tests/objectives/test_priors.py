from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from invertkit.core.pixel_space import IMAGENET_MEAN, IMAGENET_STD
from invertkit.core.scene import Scene
from invertkit.objectives.functional import total_variation_l2
from invertkit.objectives.priors import Norm, Range, TotalVariation
from tests.helpers import (
    REGIONS,
    SIZE,
    gradcheck,
    gradient,
    make_scene,
    normal,
    scene_of,
    score,
    uniform,
)
from tests.objectives.test_functional import slow_l1, slow_l2, slow_mv

PRIORS: dict[str, Any] = {
    "tv l1": lambda: TotalVariation(),
    "tv l1 imagenet": lambda: TotalVariation(space="imagenet"),
    "tv l2": lambda: TotalVariation(form="l2"),
    "tv mv": lambda: TotalVariation(form="mahendran_vedaldi", beta=1.5),
    "norm²": lambda: Norm(),
    "norm": lambda: Norm(squared=False, space="imagenet"),
    "range": lambda: Range(),
}
every_prior = pytest.mark.parametrize("name", PRIORS)


def images(seed: int = 0, batch: int = 2) -> Tensor:
    """Some pixels are outside [0, 1]."""
    return 0.5 + 0.5 * normal(batch, 3, *SIZE, seed=seed)


def normalised(image: Tensor) -> Tensor:
    rows = [(image[:, c] - IMAGENET_MEAN[c]) / IMAGENET_STD[c] for c in range(3)]
    return torch.stack(rows, 1)


@every_prior
def test_a_prior_gives_one_finite_value_per_image_alone_or_in_company(
    name: str, scene: Scene
) -> None:
    prior, batch = PRIORS[name](), images(batch=3)
    for region in ("everywhere", *REGIONS):
        values = score(prior, scene, batch, region=region)
        assert values.shape == (3,)
        assert values.isfinite().all()
        alone = torch.cat([score(prior, scene, image[None], region=region) for image in batch])
        torch.testing.assert_close(values, alone, rtol=1e-13, atol=0)


@every_prior
@pytest.mark.parametrize("region", REGIONS)
def test_the_gradient_of_a_prior_ends_at_its_region(name: str, region: str, scene: Scene) -> None:
    slope = gradient(lambda x: score(PRIORS[name](), scene, x, region=region), images())
    inside = scene.region(region, of_reference=False)
    assert inside is not None
    assert not (slope * (1 - inside)).any()
    assert (slope * inside).any()


@every_prior
@pytest.mark.parametrize("region", ["everywhere", "object"])
def test_the_gradient_of_a_prior_agrees_with_finite_differences(name: str, region: str) -> None:
    small = make_scene((6, 7))
    gradcheck(
        lambda x: score(PRIORS[name](), small, x, region=region), 0.5 + 0.5 * normal(2, 3, 6, 7)
    )


@every_prior
def test_a_region_that_is_everything_changes_nothing(name: str) -> None:
    scene = scene_of(SIZE, mask=torch.zeros(1, 1, *SIZE), target=torch.ones(1, 1, *SIZE))
    prior = PRIORS[name]()
    torch.testing.assert_close(
        score(prior, scene, images(), region="object"), score(prior, scene, images())
    )


@given(seed=st.integers(0, 99))
def test_total_variation_counts_in_the_space_it_is_told(seed: int) -> None:
    scene, batch = make_scene((5, 6)), uniform(2, 3, 5, 6, seed=seed)
    for space, seen in (("unit", batch), ("imagenet", normalised(batch))):
        for form, slow in (
            ("l1", slow_l1),
            ("l2", slow_l2),
            ("mahendran_vedaldi", lambda x: slow_mv(x, 2.5)),
        ):
            prior = TotalVariation(form=form, space=space, beta=2.5)
            wanted = [slow(image) for image in seen]
            assert score(prior, scene, batch).tolist() == pytest.approx(wanted)


def test_coupled_total_variation_is_that_of_the_whole_batch(scene: Scene) -> None:
    batch = images(batch=3)
    values = score(TotalVariation(form="l2", coupled=True), scene, batch)
    tall = total_variation_l2(batch.reshape(1, 9, *SIZE))  # three images as channels of one
    torch.testing.assert_close(values.sum(), tall[0])


@given(seed=st.integers(0, 99))
def test_norm_equals_its_slow_loop(seed: int) -> None:
    scene, batch = make_scene((3, 4)), images(seed)[:, :, :3, :4]
    for space, seen in (("unit", batch), ("imagenet", normalised(batch))):
        squares = [sum(x * x for x in image.flatten().tolist()) for image in seen]
        assert score(Norm(space=space), scene, batch).tolist() == pytest.approx(squares)
        plain = score(Norm(squared=False, space=space), scene, batch).tolist()
        assert plain == pytest.approx([math.sqrt(square) for square in squares])


def test_norm_of_nothing_is_zero_with_zero_gradient(scene: Scene) -> None:
    black = torch.zeros(2, 3, *SIZE, dtype=torch.float64)
    for squared in (True, False):
        prior = Norm(squared=squared)
        assert score(prior, scene, black).tolist() == [0, 0]
        assert not gradient(lambda x: score(prior, scene, x), black).any()  # noqa: B023


def test_the_mean_colour_of_photographs_has_no_length_in_imagenet_units(scene: Scene) -> None:
    mean = torch.tensor(IMAGENET_MEAN, dtype=torch.float64).reshape(1, 3, 1, 1)
    value = score(Norm(space="imagenet"), scene, mean.expand(1, 3, *SIZE))
    assert value.item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("region", REGIONS)
def test_norm_in_a_binary_region_is_that_of_its_pixels(region: str, scene: Scene) -> None:
    weights, batch = scene.region(region, of_reference=False), images()
    assert weights is not None
    chosen = batch[:, :, weights[0, 0].bool()].flatten(1)
    values = score(Norm(squared=False), scene, batch, region=region)
    torch.testing.assert_close(values, chosen.norm(dim=1))


def test_range_is_zero_inside_and_the_mean_squared_excess_outside(scene: Scene) -> None:
    inside = uniform(1, 3, *SIZE)
    assert score(Range(), scene, inside).item() == 0
    assert not gradient(lambda x: score(Range(), scene, x), inside).any()
    batch = images()
    for image, value in zip(batch, score(Range(), scene, batch), strict=True):
        pixels = image.flatten().tolist()
        excess = sum(max(0.0, -p, p - 1) ** 2 for p in pixels) / len(pixels)
        assert value.item() == pytest.approx(excess)
