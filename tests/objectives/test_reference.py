from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from invertkit.core.images.inputs import Inputs
from invertkit.core.images.specs import InputSpec
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.core.view import View
from invertkit.errors import InputError, TapError
from invertkit.objectives.base import Objective, evaluate
from invertkit.objectives.feature_cosine import FeatureCosine
from invertkit.objectives.lpips import LPIPS
from invertkit.objectives.patches.nearest import NearestPatches
from invertkit.objectives.reference import PixelDistance, WeightDeviation
from tests.helpers import (
    REGIONS,
    SIZE,
    gradcheck,
    gradient,
    make_scene,
    normal,
    score,
    tiny_perceptual,
    uniform,
    with_inputs,
)

Form = Literal["l1", "l2"]
forms = pytest.mark.parametrize("form", ["l1", "l2"])


@forms
@given(seed=st.integers(0, 99), outside=st.just(0.0) | st.floats(0, 1))
def test_pixel_distance_equals_its_slow_loop(form: Form, seed: int, outside: float) -> None:
    scene, images = make_scene((5, 6)), uniform(2, 3, 5, 6, seed=seed)
    assert scene.reference is not None
    for region in ("everywhere", *REGIONS):
        weights = scene.region(region, of_reference=False)
        objective = PixelDistance(form=form, outside=outside)
        values = score(objective, scene, images, region=region)
        assert values.shape == (2,)
        for image, value in zip(images, values, strict=True):
            above = below = 0.0
            for c, y, x in product(range(3), range(5), range(6)):
                inside = 1.0 if weights is None else weights[0, 0, y, x].item()
                weight = inside + (1 - inside) * outside
                difference = abs(image[c, y, x].item() - scene.reference[0, c, y, x].item())
                above += weight * (difference if form == "l1" else difference**2)
                below += weight
            assert value.item() == pytest.approx(above / below)


@forms
def test_pixel_distance_is_zero_at_the_reference_and_only_there(form: Form, scene: Scene) -> None:
    assert scene.reference is not None
    objective = PixelDistance(form=form)
    assert score(objective, scene, scene.reference).item() == 0
    assert score(objective, scene, scene.reference + 0.01).item() > 0


@forms
@pytest.mark.parametrize("region", REGIONS)
def test_pixel_distance_does_not_see_outside_its_region(
    form: Form, region: str, scene: Scene
) -> None:
    inside = scene.region(region, of_reference=False)
    assert inside is not None
    objective = PixelDistance(form=form)
    slope = gradient(lambda x: score(objective, scene, x, region=region), uniform(2, 3, *SIZE))
    assert not (slope * (1 - inside)).any()
    assert (slope * inside).any()


@forms
@pytest.mark.parametrize("region", ["everywhere", "untouched"])
def test_gradient_of_pixel_distance_agrees_with_finite_differences(form: Form, region: str) -> None:
    scene = make_scene((6, 7))
    objective = PixelDistance(form=form)
    gradcheck(lambda x: score(objective, scene, x, region=region), uniform(2, 3, 6, 7))


@forms
def test_pixel_distance_of_an_image_does_not_depend_on_its_company(
    form: Form, scene: Scene
) -> None:
    images, objective = uniform(3, 3, *SIZE), PixelDistance(form=form)
    alone = torch.cat([score(objective, scene, image[None]) for image in images])
    torch.testing.assert_close(score(objective, scene, images), alone, rtol=1e-14, atol=0)


def test_untouched_and_vacated_are_where_the_masks_say(scene: Scene) -> None:
    """A pixel changed inside a region is seen there, and in no region that does not hold it."""
    assert scene.reference is not None
    places = {(1, 0): "both", (1, 1): "neither"}
    for y, x in product(range(SIZE[0]), range(SIZE[1])):
        inside = bool(scene.inputs["mask"][0, 0, y, x]), bool(scene.inputs["target"][0, 0, y, x])
        places[y, x] = {
            (False, False): "untouched",
            (True, False): "vacated",
            (False, True): "arrived",
            (True, True): "stays",
        }[inside]
    assert {"untouched", "vacated", "arrived", "stays"} <= set(places.values())
    for wanted in ("untouched", "vacated", "arrived", "stays"):
        y, x = next(place for place, name in places.items() if name == wanted)
        image = scene.reference.clone()
        image[0, :, y, x] += 0.5
        seen = {
            region: score(PixelDistance(), scene, image, region=region).item() > 0
            for region in REGIONS
        }
        assert seen == {
            "object": wanted in ("arrived", "stays"),
            "background": wanted in ("untouched", "vacated"),
            "untouched": wanted == "untouched",
            "vacated": wanted == "vacated",
        }


def test_without_a_reference_there_is_a_clear_error() -> None:
    with pytest.raises(InputError, match="give an image"):
        score(PixelDistance(), make_scene(reference=False), uniform(1, 3, *SIZE))


@forms
def test_pixel_distance_that_weighs_the_outside_as_the_inside_has_no_region(
    form: Form, scene: Scene
) -> None:
    objective, images = PixelDistance(form=form, outside=1.0), uniform(2, 3, *SIZE)
    whole, masked = (score(objective, scene, images, region=r) for r in ("everywhere", "object"))
    torch.testing.assert_close(masked, whole, rtol=1e-14, atol=0)


@forms
@pytest.mark.parametrize("outside", [0.0, 0.3])
@pytest.mark.parametrize("region", ["everywhere", *REGIONS])
def test_pixel_distance_takes_a_reference_and_a_mask_for_each_image(
    form: Form, outside: float, region: str, scene: Scene
) -> None:
    objective, images = PixelDistance(form=form, outside=outside), uniform(3, 3, *SIZE)
    rows: dict[str, Any] = {
        "image": uniform(3, 3, *SIZE, seed=1),
        "mask": uniform(3, 1, *SIZE, seed=2),
        "target": uniform(3, 1, *SIZE, seed=3),
    }
    together = score(objective, with_inputs(scene, **rows), images, region=region)
    for i in range(3):
        row = {name: tensor[i : i + 1] for name, tensor in rows.items()}
        alone = score(objective, with_inputs(scene, **row), images[i : i + 1], region=region)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-14, atol=0)


# ---------------------------------------------------------------------- weight_deviation


def deviation(difference: Tensor, **options: bool) -> Tensor:
    view = View(
        uniform(len(difference), 3, 4, 4),
        make_scene((4, 4)),
        Randomness((0,) * len(difference)),
        tensors={"z": normal(len(difference), 5), "weights": difference},
    )
    return WeightDeviation(**options).forward(view)  # type: ignore[arg-type]


@given(seed=st.integers(0, 99), scale=st.floats(-10, 10))
def test_weight_deviation_is_a_length(seed: int, scale: float) -> None:
    a, b = normal(2, 3, 7, seed=seed), normal(2, 3, 7, seed=seed + 1)
    slow = torch.stack([sum((x * x for x in row.flatten()), torch.zeros(())) for row in a])
    torch.testing.assert_close(deviation(a), slow.sqrt().to(a))
    torch.testing.assert_close(deviation(a, squared=True), slow.to(a))
    torch.testing.assert_close(deviation(scale * a), abs(scale) * deviation(a))
    assert (deviation(a + b) <= deviation(a) + deviation(b)).all()
    torch.testing.assert_close(deviation(a[1:]), deviation(a)[1:])


@pytest.mark.parametrize("squared", [False, True])
def test_weight_deviation_has_slope_zero_at_zero(*, squared: bool) -> None:
    zero = torch.zeros(2, 5, dtype=torch.float64)
    assert not deviation(zero, squared=squared).any()
    assert torch.equal(gradient(lambda x: deviation(x, squared=squared), zero), zero)
    gradcheck(lambda x: deviation(x, squared=squared), normal(2, 5))


def test_weight_deviation_names_the_tensors_there_are(scene: Scene) -> None:
    message = "reads tensor 'weights', which this recipe's variable does not have; it has: pixels"
    with pytest.raises(TapError, match=message):
        score(WeightDeviation(), scene, uniform(1, 3, *SIZE))


@pytest.mark.parametrize(
    "objective", [PixelDistance(), LPIPS(), FeatureCosine(model="perceptual"), NearestPatches()]
)
@pytest.mark.parametrize("region", ["everywhere", "object"])
def test_an_image_of_another_shape_is_told(objective: Objective, region: str) -> None:
    scene = replace(make_scene(), models={"perceptual": tiny_perceptual()})
    specs = {**scene.inputs.specs, "style": InputSpec()}
    style = uniform(1, 3, 24, 12, seed=8)
    scene = replace(scene, inputs=Inputs({**scene.inputs, "style": style}, specs))
    scene = replace(scene, needs=objective.needs(scene.models))
    of_style = View(style, scene, Randomness((0,)), is_reference=True, of="style")
    view = View(uniform(2, 3, *SIZE), scene, Randomness((0, 1)))

    def compare() -> None:  # one keeps its patches from the start, the others look at each step
        objective.prepare(of_style)
        evaluate(objective, view, region, "style")

    with pytest.raises(InputError, match="compares place by place, and 'style' has another shape"):
        compare()
