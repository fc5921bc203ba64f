from __future__ import annotations

from itertools import product
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invertkit.errors import InputError
from invertkit.objectives.reference import PixelDistance
from invertkit.view import Scene
from tests.helpers import REGIONS, SIZE, gradcheck, gradient, make_scene, score, uniform

Form = Literal["l1", "l2"]
forms = pytest.mark.parametrize("form", ["l1", "l2"])


@forms
@given(seed=st.integers(0, 99))
def test_pixel_distance_equals_its_slow_loop(form: Form, seed: int) -> None:
    scene, images = make_scene((5, 6)), uniform(2, 3, 5, 6, seed=seed)
    assert scene.reference is not None
    for region in ("everywhere", *REGIONS):
        weights = scene.region(region, of_reference=False)
        values = score(PixelDistance(form=form), scene, images, region=region)
        assert values.shape == (2,)
        for image, value in zip(images, values, strict=True):
            above = below = 0.0
            for c, y, x in product(range(3), range(5), range(6)):
                weight = 1.0 if weights is None else weights[0, 0, y, x].item()
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
    assert scene.mask is not None
    assert scene.target is not None
    places = {(1, 0): "both", (1, 1): "neither"}
    for y, x in product(range(SIZE[0]), range(SIZE[1])):
        inside = bool(scene.mask[0, 0, y, x]), bool(scene.target[0, 0, y, x])
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
