"""Its own numbers; laws that it shares with LPIPS are in `test_lpips`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.images.resize import resize_mask
from invertkit.core.network import Network
from invertkit.core.scene import Scene
from invertkit.errors import RecipeError, TapError
from tests.helpers import (
    LAYERS,
    REGIONS,
    SIZE,
    make_scene,
    score,
    setting,
    tiny_classifier,
    uniform,
)
from tests.objectives.test_lpips import cosine, seeds, soft


def slow_cosine(image: Tensor, other: Tensor, weights: Tensor | None) -> Tensor:
    net, total = tiny_classifier(), torch.zeros(len(image), dtype=image.dtype)
    here, there = net.observe(image, LAYERS), net.observe(other, LAYERS)
    for name in LAYERS:
        f, g = here[name], there[name]
        if weights is not None:
            shrunk = resize_mask(weights, (f.shape[-2], f.shape[-1]))
            f, g = f * shrunk, g * shrunk
        total = total + 1 - F.cosine_similarity(f.flatten(1), g.flatten(1))
    return total / len(LAYERS)


@given(seed=seeds, region=st.sampled_from(["everywhere", *REGIONS]))
def test_feature_cosine_equals_its_slow_form(seed: int, region: str) -> None:
    images, scene = uniform(2, 3, *SIZE, seed=seed), soft(make_scene())
    assert scene.reference is not None
    objective = cosine()
    wanted = slow_cosine(images, scene.reference, scene.region(region, of_reference=False))
    values = score(objective, setting(objective, scene), images, region=region)
    torch.testing.assert_close(values, wanted, rtol=1e-9, atol=1e-14)


def test_feature_cosine_ignores_the_strength_of_features(scene: Scene) -> None:
    class Stronger(Network):
        """A model whose features of the reference are all twice as strong."""

        def __init__(self) -> None:
            net = tiny_classifier()
            super().__init__(default_layers=LAYERS)
            self.net = net

        def observe(self, image: Tensor, layers: Any) -> dict[str, Tensor]:
            factor = 2 if image is scene.reference else 1
            return {k: factor * v for k, v in self.net.observe(image, layers).items()}

    objective, images = cosine(), uniform(2, 3, *SIZE)
    wanted = score(objective, setting(objective, scene), images)
    here = replace(setting(objective, scene), models={"classifier": Stronger()})
    torch.testing.assert_close(score(objective, here, images), wanted, rtol=1e-12, atol=0)


def test_feature_cosine_refuses_layers_that_are_not_there() -> None:
    models = {"classifier": tiny_classifier()}
    with pytest.raises(TapError, match="no layer 'layer9'"):
        cosine(layers=["layer9"]).needs(models)
    with pytest.raises(RecipeError, match="no default layers"):
        cosine(layers=[]).needs(models)


def test_feature_cosine_reads_a_flat_layer_unless_it_has_a_region() -> None:
    objective = cosine(layers=["fc"])
    scene = setting(objective)
    assert (score(objective, scene, uniform(2, 3, *SIZE)) > 0).all()
    with pytest.raises(RecipeError, match=r"Layer 'fc' puts out shape \(1, 5\); `feat"):
        score(objective, scene, uniform(2, 3, *SIZE), region="object")
