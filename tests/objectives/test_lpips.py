from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.images.inputs import joined
from invertkit.core.scene import Scene
from invertkit.errors import InputError, RecipeError
from invertkit.models.perceptual.network import unit_channels
from invertkit.objectives.base import Objective
from invertkit.objectives.feature_cosine import FeatureCosine
from invertkit.objectives.lpips import LPIPS
from tests.helpers import (
    LAYERS,
    REGIONS,
    SIZE,
    gradcheck,
    gradient,
    make_scene,
    rectangle,
    score,
    setting,
    tiny_classifier,
    tiny_perceptual,
    uniform,
    with_inputs,
)

Mask = Literal["layers", "maps"]
both_masks = pytest.mark.parametrize("mask", ["layers", "maps"])
seeds = st.integers(0, 98)  # the reference is noise of seed 99


def cosine(**options: Any) -> FeatureCosine:
    return FeatureCosine(**{"model": "classifier"} | options)


every_kind = pytest.mark.parametrize(
    "objective",
    [LPIPS(), LPIPS(mask="maps"), LPIPS(outside=0.3), cosine(), cosine(layers=["layer2"])],
    ids=["layers", "maps", "outside", "cosine", "cosine-layer2"],
)


def slow_lpips(
    image: Tensor, other: Tensor, weights: Tensor | None, mask: Mask = "layers"
) -> Tensor:
    """Layer by layer, map by map, as the two forms are written."""
    net, total = tiny_perceptual(), torch.zeros(len(image), dtype=image.dtype)
    here, there = net.observe(image, LAYERS), net.observe(other, LAYERS)
    weights = torch.ones_like(image[:1, :1]) if weights is None else weights
    weights = weights.expand(len(image), -1, -1, -1)
    enlarged = torch.zeros_like(image[:, :1])
    for name in LAYERS:
        difference = unit_channels(here[name]) - unit_channels(there[name])
        map = torch.einsum("bchw,c->bhw", difference**2, net.heads[name])[:, None]
        options: dict[str, Any] = {"mode": "bilinear", "align_corners": False}
        enlarged = enlarged + F.interpolate(map, image.shape[-2:], **options)
        small = F.interpolate(weights, map.shape[-2:], **options)
        total = total + (small * map).sum((1, 2, 3)) / small.sum((1, 2, 3))
    if mask == "layers":
        return total
    return (weights * enlarged).sum((1, 2, 3)) / weights.sum((1, 2, 3))


def soft(scene: Scene) -> Scene:
    """The same scene with masks of every weight."""
    mask, target = uniform(1, 1, *scene.size, seed=7), uniform(1, 1, *scene.size, seed=8)
    return with_inputs(replace(scene, kept={}), mask=mask, target=target)


# ---------------------------------------------------------------------- against slow versions


@both_masks
@given(seed=seeds, region=st.sampled_from(["everywhere", *REGIONS]), outside=st.floats(0, 1))
def test_lpips_equals_its_slow_form(mask: Mask, seed: int, region: str, outside: float) -> None:
    objective = LPIPS(mask=mask, outside=outside)
    images = uniform(2, 3, *SIZE, seed=seed)
    for scene in (make_scene(), soft(make_scene())):
        assert scene.reference is not None
        weights = scene.region(region, of_reference=False)
        if weights is not None:
            weights = weights + (1 - weights) * outside
        wanted = slow_lpips(images, scene.reference, weights, mask)
        values = score(objective, setting(objective, scene), images, region=region)
        torch.testing.assert_close(values, wanted, rtol=1e-10, atol=1e-14)


def test_lpips_without_a_region_is_the_distance_of_its_model(scene: Scene) -> None:
    assert scene.reference is not None
    images = uniform(3, 3, *SIZE)
    wanted = tiny_perceptual()(images, scene.reference)
    values = score(LPIPS(), setting(LPIPS(), scene), images)
    torch.testing.assert_close(values, wanted, rtol=1e-12, atol=0)


# ---------------------------------------------------------------------- laws


@every_kind
@given(seed=seeds, region=st.sampled_from(["everywhere", *REGIONS]))
def test_it_is_zero_at_the_reference_and_positive_elsewhere(
    objective: Objective, seed: int, region: str
) -> None:
    scene = setting(objective)
    assert scene.reference is not None
    assert score(objective, scene, scene.reference, region=region).item() == 0
    images = uniform(2, 3, *SIZE, seed=seed)
    assert (score(objective, scene, images, region=region) > 0).all()


@every_kind
@given(seed=seeds)
def test_image_and_reference_may_change_places(objective: Objective, seed: int) -> None:
    a, b = uniform(2, 1, 3, *SIZE, seed=seed)
    values = [
        score(objective, setting(objective, with_inputs(make_scene(), image=there)), here)
        for here, there in ((a, b), (b, a))
    ]
    torch.testing.assert_close(*values, rtol=1e-12, atol=0)


@every_kind
def test_a_mask_of_ones_is_no_mask(objective: Objective) -> None:
    ones = torch.ones(1, 1, *SIZE, dtype=torch.float64)
    scene = setting(objective, with_inputs(make_scene(), mask=ones, target=ones))
    images = uniform(2, 3, *SIZE)
    whole, masked = (score(objective, scene, images, region=r) for r in ("everywhere", "object"))
    torch.testing.assert_close(masked, whole, rtol=1e-12, atol=0)


@both_masks
def test_lpips_that_weighs_the_outside_as_the_inside_has_no_mask(mask: Mask, scene: Scene) -> None:
    objective, images = LPIPS(mask=mask, outside=1.0), uniform(2, 3, *SIZE)
    scene = setting(objective, scene)
    whole, masked = (score(objective, scene, images, region=r) for r in ("everywhere", "object"))
    torch.testing.assert_close(masked, whole, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "objective", [LPIPS(), LPIPS(mask="maps"), cosine()], ids=["layers", "maps", "cosine"]
)
def test_what_lies_far_outside_the_region_is_not_seen_but_its_surroundings_are(
    objective: Objective,
) -> None:
    """Layer 3 sees 86 pixels, 43 to a side; a pixel of it is 8 wide, and masks reach 2 further."""
    size = (16, 160)
    mask = rectangle(size, slice(None), slice(0, 8), torch.float64)
    scene = setting(objective, with_inputs(make_scene(size), mask=mask, target=mask))
    image = uniform(1, 3, *size)
    slope = gradient(lambda x: score(objective, scene, x, region="object"), image)
    assert not slope[..., 8 + 43 + 16 :].any()
    assert slope[..., :8].any()
    assert slope[..., 8:16].any()
    leak = slope[..., 8:].abs().sum() / slope.abs().sum()
    assert 0.1 < leak < 0.9


@every_kind
@pytest.mark.parametrize("region", ["everywhere", "untouched"])
def test_its_gradient_agrees_with_finite_differences(objective: Objective, region: str) -> None:
    scene = setting(objective, make_scene((8, 10)))
    gradcheck(lambda x: score(objective, scene, x, region=region), uniform(2, 3, 8, 10))


@every_kind
def test_its_slope_at_the_reference_is_finite(objective: Objective) -> None:
    scene = setting(objective)
    assert scene.reference is not None
    slope = gradient(lambda x: score(objective, scene, x, region="object"), scene.reference)
    assert slope.isfinite().all()


@pytest.mark.parametrize(
    "objective", [LPIPS(), LPIPS(mask="maps"), cosine()], ids=["layers", "maps", "cosine"]
)
def test_an_empty_region_asks_for_nothing(objective: Objective) -> None:
    empty = torch.zeros(1, 1, *SIZE, dtype=torch.float64)
    scene = setting(objective, with_inputs(make_scene(), mask=empty, target=empty))

    def value(images: Tensor) -> Tensor:
        return score(objective, scene, images, region="object")

    assert not value(uniform(2, 3, *SIZE)).any()
    assert not gradient(value, uniform(2, 3, *SIZE)).any()


# ---------------------------------------------------------------------- rows


@every_kind
@pytest.mark.parametrize("region", ["everywhere", "object", "vacated"])
def test_a_reference_for_each_image_may_be_the_same_or_another(
    objective: Objective, region: str
) -> None:
    images, base = uniform(3, 3, *SIZE), soft(make_scene())
    assert base.reference is not None
    one = score(objective, setting(objective, base), images, region=region)
    same = replace(base, inputs=base.inputs.map(lambda tensor: tensor.expand(3, -1, -1, -1)))
    repeated = score(objective, setting(objective, replace(same, kept={})), images, region=region)
    torch.testing.assert_close(repeated, one, rtol=1e-12, atol=0)
    scenes = [
        with_inputs(
            replace(base, kept={}),
            image=uniform(1, 3, *SIZE, seed=20 + i),
            mask=uniform(1, 1, *SIZE, seed=30 + i),
            target=uniform(1, 1, *SIZE, seed=40 + i),
        )
        for i in range(3)
    ]
    rows = joined([scene.inputs for scene in scenes])
    together = score(
        objective,
        setting(objective, replace(base, inputs=rows, kept={})),
        images,
        region=region,
    )
    alone = [
        score(objective, setting(objective, scene), images[i : i + 1], region=region)
        for i, scene in enumerate(scenes)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=0)


@pytest.mark.parametrize("objective", [LPIPS(), cosine()], ids=["lpips", "cosine"])
def test_the_reference_is_looked_at_once(objective: LPIPS | FeatureCosine) -> None:
    scene, batches = setting(objective), []
    net = scene.models[objective.model]
    first = net.trunk[0] if isinstance(objective, LPIPS) else net.net.stem
    first.register_forward_hook(lambda module, inputs, output: batches.append(len(output)))
    for step in range(3):
        score(objective, scene, uniform(2, 3, *SIZE, seed=step).requires_grad_(), region="object")
    assert sorted(batches) == [1, 2, 2, 2]
    tensors = [
        tensor
        for held in scene.kept.values()
        for tensor in (held.values() if isinstance(held, dict) else held)
        if isinstance(tensor, Tensor)
    ]
    assert tensors
    assert not any(tensor.requires_grad for tensor in tensors)


# ---------------------------------------------------------------------- faults


@pytest.mark.parametrize("objective", [LPIPS(), cosine()], ids=["lpips", "cosine"])
def test_without_a_reference_it_says_so(objective: Objective) -> None:
    scene = setting(objective, make_scene(reference=False))
    with pytest.raises(InputError, match="compares with a reference; give an image"):
        score(objective, scene, uniform(1, 3, *SIZE))


@pytest.mark.parametrize("objective", [LPIPS(), FeatureCosine()], ids=["lpips", "cosine"])
def test_without_its_model_it_says_which(objective: LPIPS | FeatureCosine) -> None:
    with pytest.raises(RecipeError, match=f"no model '{objective.model}' in `models`; known: net"):
        objective.needs({"net": tiny_classifier()})


def test_lpips_refuses_a_model_without_heads() -> None:
    with pytest.raises(RecipeError, match=r"'perceptual' has no heads .* type `lpips`"):
        LPIPS().needs({"perceptual": tiny_classifier()})


def test_lpips_refuses_images_too_small_for_its_layers() -> None:
    scene = setting(LPIPS(), make_scene((6, 12)))
    with pytest.raises(InputError, match=r"'layer3', which needs .* at least 8×8 .* 6×12"):
        score(LPIPS(), scene, uniform(1, 3, 6, 12))
