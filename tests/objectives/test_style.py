from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invertkit.core.images.inputs import Inputs
from invertkit.core.images.specs import InputSpec
from invertkit.core.randomness import Randomness
from invertkit.core.view import View
from invertkit.errors import InputError, RecipeError
from invertkit.objectives.base import evaluate
from invertkit.objectives.functional import gram_matrix
from invertkit.objectives.style import FeatureDistance, GramMatrices
from tests.helpers import SIZE, make_scene, normal, score, setting, tiny_classifier, uniform


def test_a_gram_matrix_is_the_mean_of_outer_products() -> None:
    features = normal(2, 3, 4, 5)
    for i, matrix in enumerate(gram_matrix(features)):
        pixels = [features[i, :, y, x] for y in range(4) for x in range(5)]
        slow = torch.stack([torch.outer(pixel, pixel) for pixel in pixels]).mean(0)
        torch.testing.assert_close(matrix, slow)


@given(seed=st.integers(0, 99))
def test_gram_matrices_do_not_see_where_things_are(seed: int) -> None:
    features, weights = normal(1, 3, 4, 5, seed=seed), uniform(1, 1, 4, 5, seed=seed)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(seed))

    def mixed(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.flatten(2)[..., order].reshape(tensor.shape)

    torch.testing.assert_close(gram_matrix(mixed(features)), gram_matrix(features))
    torch.testing.assert_close(
        gram_matrix(mixed(features), mixed(weights)), gram_matrix(features, weights)
    )
    whole = torch.ones_like(weights)
    torch.testing.assert_close(gram_matrix(features, whole), gram_matrix(features))


@pytest.mark.parametrize("objective", [GramMatrices(), FeatureDistance()])
def test_both_are_nothing_at_the_reference_and_grow_away_from_it(
    objective: GramMatrices | FeatureDistance,
) -> None:
    scene = setting(objective)
    assert scene.reference is not None
    near = scene.reference + 0.01 * normal(1, 3, *SIZE)
    far = scene.reference + 0.2 * normal(1, 3, *SIZE)
    values = score(objective, scene, torch.cat([scene.reference, near, far]))
    assert values[0].item() == pytest.approx(0, abs=1e-20)
    assert 0 < values[1] < values[2]


def test_the_weights_of_layers_add_up() -> None:
    layers, images = ["stem", "layer2"], uniform(2, 3, *SIZE)
    parts = []
    for weights in ([1, 0], [0, 1], [2, 3], []):
        objective = GramMatrices(layers=layers, weights=weights)
        parts.append(score(objective, setting(objective), images))
    torch.testing.assert_close(2 * parts[0] + 3 * parts[1], parts[2])
    torch.testing.assert_close((parts[0] + parts[1]) / 2, parts[3])


def test_a_style_may_have_another_shape_and_content_may_not() -> None:
    style = uniform(1, 3, 24, 12, seed=8)
    scene = make_scene()
    specs = {**scene.inputs.specs, "style": InputSpec()}
    scene = replace(scene, inputs=Inputs({**scene.inputs, "style": style}, specs))
    images = uniform(2, 3, *SIZE)
    models = {"classifier": tiny_classifier()}
    for objective in (GramMatrices(), FeatureDistance()):
        seen = replace(scene, models=models, needs=objective.needs(models))
        look = View(style, seen, Randomness((0,)), is_reference=True, of="style")
        objective.prepare(look)
        view = View(images, seen, Randomness((0, 1)))
        if isinstance(objective, FeatureDistance):
            with pytest.raises(InputError, match="the reference 'style' has another shape"):
                evaluate(objective, view, "everywhere", "style")
            continue
        value = evaluate(objective, view, "everywhere", "style")
        alone = GramMatrices()
        there = setting(alone, replace(make_scene((24, 12)), inputs=Inputs.of({"image": style})))
        torch.testing.assert_close(value, score(alone, there, images))


def test_weights_are_one_a_layer() -> None:
    with pytest.raises(RecipeError, match="expected one for each of 2 layers, got 1"):
        GramMatrices(layers=["stem", "layer1"], weights=[1])
    with pytest.raises(RecipeError, match="expected one for each of 4 layers, got 1"):
        GramMatrices(weights=[1]).needs({"classifier": tiny_classifier()})
