from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch

from invertkit.core.images.resize import resize_mask
from invertkit.errors import InputError, TapError
from invertkit.objectives.asked_players import CriticScore, MaskBCE
from tests.helpers import SIZE, gradcheck, gradient, make_scene, scene_of, score, setting, uniform

OBJECTIVES: dict[str, Any] = {"critic": CriticScore, "segmenter": MaskBCE}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


@pytest.mark.parametrize("region", ["everywhere", "object"])
def test_critic_score_is_minus_the_weighted_mean_of_the_map(region: str) -> None:
    objective, images = CriticScore(), uniform(2, 3, *SIZE)
    scene = setting(objective, seeds=(0, 1))
    values = score(objective, scene, images, region=region)
    scores = scene.players["critic"].scores(images)
    size = (scores.shape[-2], scores.shape[-1])
    weights = (
        torch.ones(1, 1, *size)
        if region == "everywhere"
        else resize_mask(scene.inputs["target"], size)
    )
    for i, value in enumerate(values):
        above = below = 0.0
        for y, x in product(range(size[0]), range(size[1])):
            above += weights[0, 0, y, x].item() * scores[i, 0, y, x].item()
            below += weights[0, 0, y, x].item()
        assert value.item() == pytest.approx(-above / below)


@pytest.mark.parametrize("region", ["everywhere", "background"])
def test_mask_bce_equals_its_slow_loop(region: str) -> None:
    objective, images = MaskBCE(), uniform(2, 3, *SIZE)
    scene = setting(objective)
    values = score(objective, scene, images, region=region)
    logits = scene.players["segmenter"].logits(images)
    weights = scene.region(region, of_reference=False)
    for i, value in enumerate(values):
        above = below = 0.0
        for y, x in product(range(SIZE[0]), range(SIZE[1])):
            share = 1 / (1 + math.exp(-logits[i, 0, y, x].item()))
            wanted = scene.inputs["target"][0, 0, y, x].item()
            loss = -wanted * math.log(share) - (1 - wanted) * math.log(1 - share)
            weight = 1.0 if weights is None else weights[0, 0, y, x].item()
            above, below = above + weight * loss, below + weight
        assert value.item() == pytest.approx(above / below)


@every_objective
def test_what_a_player_says_of_an_image_does_not_depend_on_its_company(name: str) -> None:
    images, values = uniform(3, 3, *SIZE), []
    together = OBJECTIVES[name]()
    scene = setting(together, seeds=(7, 8, 9))
    for image, seed in zip(images, (7, 8, 9), strict=True):
        objective = OBJECTIVES[name]()
        alone = setting(objective, seeds=(seed,))
        values.append(score(objective, alone, image[None], seeds=(seed,)))
    found = score(together, scene, images, seeds=(7, 8, 9))
    assert found.shape == (3,)
    assert found.isfinite().all()
    torch.testing.assert_close(found, torch.cat(values), rtol=1e-10, atol=1e-14)


@every_objective
@pytest.mark.parametrize("region", ["everywhere", "object"])
def test_the_gradient_agrees_with_finite_differences(name: str, region: str) -> None:
    objective, size = OBJECTIVES[name](), (10, 12)
    scene = setting(objective, make_scene(size), seeds=(0, 1))
    gradcheck(lambda x: score(objective, scene, x, region=region), uniform(2, 3, *size))


@every_objective
def test_a_region_that_is_everything_changes_nothing(name: str) -> None:
    ones, images = torch.ones(1, 1, *SIZE, dtype=torch.float64), uniform(2, 3, *SIZE)
    objective, scene = OBJECTIVES[name](), make_scene()
    scene = setting(objective, scene_of(SIZE, scene.reference, ones, ones), seeds=(0, 1))
    torch.testing.assert_close(
        score(objective, scene, images, region="object"), score(objective, scene, images)
    )


@every_objective
def test_the_gradient_reaches_the_image_and_no_weight(name: str) -> None:
    objective = OBJECTIVES[name]()
    scene = setting(objective)
    slope = gradient(lambda x: score(objective, scene, x), uniform(1, 3, *SIZE))
    assert slope.any()
    for player in scene.players.values():
        nets = getattr(player, "nets", None) or [player.net]
        assert all(weight.grad is None for net in nets for weight in net.parameters())


@every_objective
def test_a_missing_player_is_named(name: str) -> None:
    with pytest.raises(TapError, match=rf"No player {name!r}.*known: none"):
        score(OBJECTIVES[name](), make_scene(), uniform(1, 3, *SIZE))


def test_mask_bce_needs_a_target() -> None:
    with pytest.raises(InputError, match="target mask; give one"):
        score(MaskBCE(), make_scene(masks=False), uniform(1, 3, *SIZE))
