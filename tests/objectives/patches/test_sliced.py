from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from torch import Tensor

from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.core.view import View
from invertkit.core.wasserstein import resample, wasserstein_1d
from invertkit.errors import InputError
from invertkit.objectives.patches.sliced import PatchSWD
from tests.helpers import (
    SIZE,
    gradcheck,
    gradient,
    make_scene,
    normal,
    score,
    setting,
    uniform,
    with_inputs,
)

counts = st.integers(1, 12)
seeds = st.integers(0, 999)


@given(n=counts, seed=seeds)
def test_the_distance_in_one_dimension_is_that_of_scipy(n: int, seed: int) -> None:
    values, wanted = normal(3, n, seed=seed), normal(3, n, seed=seed + 1)
    slow = [wasserstein_distance(a, b) for a, b in zip(values, wanted, strict=True)]
    assert wasserstein_1d(values, wanted).tolist() == pytest.approx(slow)


@given(n=counts, seed=seeds, scale=st.floats(0.1, 5), shift=st.floats(-3, 3))
def test_the_distance_is_a_distance_of_distributions(
    n: int, seed: int, scale: float, shift: float
) -> None:
    values, wanted = normal(2, n, seed=seed), normal(2, n, seed=seed + 1)
    here = wasserstein_1d(values, wanted)
    assert not wasserstein_1d(values, values.flip(1)).any()
    torch.testing.assert_close(wasserstein_1d(wanted, values), here)
    torch.testing.assert_close(wasserstein_1d(scale * values, scale * wanted), scale * here)
    torch.testing.assert_close(wasserstein_1d(values + shift, wanted + shift), here)
    moved = wasserstein_1d(values, values + shift)
    torch.testing.assert_close(moved, torch.full_like(moved, abs(shift)))


@given(have=st.integers(1, 9), count=st.integers(2, 9), seed=seeds)
def test_resampling_is_linear_and_keeps_both_ends(have: int, count: int, seed: int) -> None:
    ordered = normal(2, have, seed=seed).sort(1).values
    found = resample(ordered, count)
    places = np.linspace(0, have - 1, count)
    for row, wanted in zip(found, ordered, strict=True):
        slow = np.interp(places, np.arange(have), wanted.numpy())
        assert row.tolist() == pytest.approx(slow.tolist())
    assert torch.equal(found[:, 0], ordered[:, 0])
    assert torch.equal(found[:, -1], ordered[:, -1])


def test_one_point_stands_for_the_mean() -> None:
    ordered = normal(2, 5).sort(1).values
    torch.testing.assert_close(resample(ordered, 1), ordered.mean(1, keepdim=True))


@given(n=st.integers(1, 9), m=st.integers(1, 9), seed=seeds)
def test_unequal_counts_compare_with_the_resampled_reference(n: int, m: int, seed: int) -> None:
    values, wanted = normal(2, n, seed=seed), normal(2, m, seed=seed + 1)
    goal = resample(wanted.sort(1).values, n)
    slow = (values.sort(1).values - goal).abs().mean(1)
    torch.testing.assert_close(wasserstein_1d(values, wanted), slow)


def test_the_gradient_in_one_dimension_agrees_with_finite_differences() -> None:
    gradcheck(lambda values: wasserstein_1d(values, normal(2, 5, seed=1)), normal(2, 7))


def slow_patch_swd(scene: Scene, image: Tensor, objective: PatchSWD, seed: int, step: int) -> float:
    """Patches one by one, filters one by one; SciPy's distance where counts are equal."""
    assert scene.reference is not None
    k, f = objective.kernel, objective.filters
    drawn = Randomness((seed,)).normal(f"patch_swd/{k}", (f, 3 * k * k), step=step)[0].double()
    h, w = image.shape[-2:]
    places = list(product(range(h - k + 1), range(w - k + 1)))
    parts: list[tuple[Any, Any]] = [(lambda y, x: True, lambda y, x: True)]
    if objective.split:
        mask, target = scene.inputs["mask"][0, 0], scene.inputs["target"][0, 0]
        parts = [
            (lambda y, x: mask[y, x] > 0.5, lambda y, x: target[y, x] > 0.5),
            (lambda y, x: mask[y, x] <= 0.5, lambda y, x: target[y, x] <= 0.5),
        ]
    total, middle = 0.0, (k - 1) // 2
    for of_reference, of_result in parts:
        distances = []
        for direction in drawn:
            unit = direction / direction.norm()

            def project(picture: Tensor, chosen: Any, unit: Tensor = unit) -> Tensor:
                return torch.stack(
                    [
                        (picture[:, y : y + k, x : x + k].flatten() * unit).sum()
                        for y, x in places
                        if chosen(y + middle, x + middle)
                    ]
                )

            here, wanted = project(image, of_result), project(scene.reference[0], of_reference)
            if len(here) == len(wanted):
                distances.append(wasserstein_distance(here, wanted))
            else:
                goal = resample(wanted.sort().values, len(here))
                distances.append(float((here.sort().values - goal).abs().mean()))
        share = len(here) / len(places)
        total += share**0.5 * sum(distances) / f
    return total


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_patch_swd_equals_its_slow_loop(*, split: bool, kernel: int) -> None:
    objective = PatchSWD(filters=3, kernel=kernel, split=split)
    scene, images = setting(objective, make_scene((8, 9))), uniform(2, 3, 8, 9)
    values = score(objective, scene, images, seeds=(5, 6), step=4)
    slow = [
        slow_patch_swd(scene, image, objective, seed, 4)
        for image, seed in zip(images, (5, 6), strict=True)
    ]
    # directions are normalised in float32
    assert values.tolist() == pytest.approx(slow, rel=1e-6)


@pytest.mark.parametrize("split", [False, True])
def test_patch_swd_is_zero_at_the_reference(*, split: bool) -> None:
    objective, scene = PatchSWD(filters=8, split=split), make_scene()
    scene = setting(objective, with_inputs(scene, target=scene.inputs["mask"]))
    assert scene.reference is not None
    images = scene.reference.expand(2, -1, -1, -1)
    assert score(objective, scene, images).tolist() == pytest.approx([0, 0], abs=1e-12)
    assert (score(objective, scene, images + 0.1) > 0.01).all()


def test_patch_swd_does_not_see_where_patches_are() -> None:
    """Mirroring patches of one pixel changes their places only."""
    objective = PatchSWD(filters=4, kernel=1, split=False)
    scene, images = setting(objective), uniform(2, 3, *SIZE)
    torch.testing.assert_close(
        score(objective, scene, images.flip(2, 3)), score(objective, scene, images)
    )


def test_patch_swd_grows_in_proportion_to_a_shift_of_brightness() -> None:
    objective, scene = PatchSWD(filters=4, split=False), make_scene()
    scene = setting(objective, scene)
    assert scene.reference is not None
    one, two = (score(objective, scene, scene.reference + shift) for shift in (0.1, 0.2))  # type: ignore[operator]
    torch.testing.assert_close(two, 2 * one)


@pytest.mark.parametrize("split", [False, True])
def test_patch_swd_of_an_image_depends_on_its_seed_and_not_on_its_company(*, split: bool) -> None:
    objective = PatchSWD(filters=4, kernel=3, split=split)
    scene, images = setting(objective), uniform(3, 3, *SIZE)
    values = score(objective, scene, images, seeds=(7, 8, 9), step=2)
    assert values.shape == (3,)
    assert values.isfinite().all()
    alone = [
        score(objective, scene, image[None], seeds=(seed,), step=2)
        for image, seed in zip(images, (7, 8, 9), strict=True)
    ]
    torch.testing.assert_close(values, torch.cat(alone), rtol=1e-10, atol=0)
    assert not torch.equal(values, score(objective, scene, images, seeds=(1, 2, 3), step=2))
    assert not torch.equal(values, score(objective, scene, images, seeds=(7, 8, 9), step=3))


@pytest.mark.parametrize("region", ["everywhere", "object", "vacated"])
def test_the_gradient_of_patch_swd_agrees_with_finite_differences(region: str) -> None:
    objective = PatchSWD(filters=3, kernel=3)
    scene = setting(objective, make_scene((10, 12)), region=region)
    gradcheck(lambda x: score(objective, scene, x, region=region), uniform(2, 3, 10, 12))


def test_patches_centred_outside_a_region_do_not_count() -> None:
    objective = PatchSWD(filters=4, kernel=3)
    scene = setting(objective, region="object")
    slope = gradient(
        lambda x: score(objective, scene, x, region="object"), uniform(2, 3, *SIZE)
    ).abs().sum((0, 1))  # fmt: skip
    near = torch.nn.functional.max_pool2d(scene.inputs["target"], 3, 1, 1)[0, 0]
    assert not slope[near == 0].any()
    assert slope[scene.inputs["target"][0, 0] == 1].all()


def test_a_part_without_patches_is_left_out() -> None:
    scene = make_scene()
    empty = with_inputs(scene, target=torch.zeros_like(scene.inputs["mask"]))
    split, plain = PatchSWD(filters=4), PatchSWD(filters=4)
    images = uniform(2, 3, *SIZE)
    background = score(plain, setting(plain, empty, region="background"), images)
    torch.testing.assert_close(score(split, setting(split, empty), images), background)


def test_patches_are_no_larger_than_the_image() -> None:
    objective = PatchSWD(filters=2, kernel=50, split=False)
    scene = setting(objective, make_scene((8, 9)))
    assert score(objective, scene, uniform(1, 3, 8, 9)).isfinite().all()


def test_masks_are_optional() -> None:
    split, plain = PatchSWD(filters=4), PatchSWD(filters=4, split=False)
    images = uniform(2, 3, *SIZE)
    without = score(split, setting(split, make_scene(masks=False)), images)
    assert torch.equal(without, score(plain, setting(plain), images))


def test_without_a_reference_there_is_a_clear_error(scene: Scene) -> None:
    with pytest.raises(InputError, match="give an image"):
        PatchSWD().prepare(None)
    with pytest.raises(InputError, match="not prepared"):
        PatchSWD().forward(View(uniform(1, 3, *SIZE), scene, Randomness((0,))))
