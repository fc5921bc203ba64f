from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.core.images.resize import resize_image
from invertkit.errors import InputError, ShapeError
from invertkit.models.generators.feature_blend import FeatureSource, blend_levels, blended
from invertkit.models.generators.generator import Generator
from tests.helpers import normal, uniform
from tests.models.generators.test_collage import drawn, generator


def rows(draws: Generator, seed: int) -> dict[str, Tensor]:
    return {**drawn(draws, seed % 3), "latent": normal(1, 5, seed=seed).float()}


@pytest.mark.parametrize("name", ["conditional", "class at start", "biggan"])
def test_nothing_leaves_the_picture_and_everything_takes_the_other(name: str) -> None:
    draws = generator(name)
    one, other = rows(draws, 1), rows(draws, 2)
    whole = torch.ones(1, 1, 8, 8)
    plain, another = draws.generate(**one), draws.generate(**other)
    assert (plain - another).abs().max() > 0.01

    def made(**options: Any) -> Tensor:
        strength = options.pop("strength", 1.0)
        mask = options.pop("mask", whole)
        return blended(draws, one, [FeatureSource(other, mask, **options)], strength=strength)

    torch.testing.assert_close(made(mask=0 * whole), plain, rtol=0, atol=1e-6)
    torch.testing.assert_close(made(levels="none"), plain, rtol=0, atol=1e-6)
    torch.testing.assert_close(made(strength=0), plain, rtol=0, atol=1e-6)
    torch.testing.assert_close(made(), another, rtol=0, atol=1e-6)
    last = len(blend_levels(draws)) - 1
    torch.testing.assert_close(made(levels=[last]), another, rtol=0, atol=1e-6)


def test_blending_is_the_rule_written_out() -> None:
    draws, net = generator(), generator().net
    one, others = rows(draws, 1), [rows(draws, 2), rows(draws, 3)]
    masks = [torch.zeros(1, 1, 16, 16) for _ in others]
    masks[0][..., :5], masks[1][..., 9:] = 0.7, 1
    sources = [
        FeatureSource(other, mask, levels=levels)
        for other, mask, levels in zip(others, masks, ({0: 1, 1: 0.5}, [1, 2]), strict=True)
    ]
    made = blended(draws, one, sources, softened_by=0)
    # Each picture made alone, and a target that goes through the network a level at a time.
    features = [draws.features(blend_levels(draws), **other) for other in others]
    condition = torch.cat([one["latent"], one["embedding"]], 1)
    target = net.gen_z(one["latent"]).reshape(1, -1, 4, 4)
    for level, name in enumerate(blend_levels(draws)):
        if level:
            target = net.blocks[level - 1](target, condition, condition)
        strengths = ((1, 0.5, 0)[level], (0, 1, 1)[level])
        parts = [
            s * resize_image(m, target.shape[-2:]) for s, m in zip(strengths, masks, strict=True)
        ]
        target = (1 - sum(parts)) * target + sum(
            part * each[name] for part, each in zip(parts, features, strict=True)
        )
    picture = torch.tanh(net.to_rgb(F.relu(net.bn(target)))) / 2 + 0.5
    torch.testing.assert_close(made, picture, rtol=0, atol=1e-5)


@given(right=st.integers(-3, 3), down=st.integers(-3, 3))
def test_a_shift_of_whole_pixels_at_the_last_level_moves_what_is_blended(
    right: int, down: int
) -> None:
    draws = generator()
    one, other = rows(draws, 1), rows(draws, 2)
    last = len(blend_levels(draws)) - 1
    source = FeatureSource(
        other, torch.ones(1, 1, 16, 16), levels=[last], shift=(right / 16, down / 16)
    )
    made = blended(draws, one, [source])
    there = torch.roll(draws.generate(**other), (down, right), (2, 3))
    # A pixel in from the edges, where the last convolution sees what came from outside.
    inside = [slice(max(0, by) + 1, 16 + min(0, by) - 1) for by in (down, right)]
    torch.testing.assert_close(
        made[:, :, inside[0], inside[1]], there[:, :, inside[0], inside[1]], rtol=0, atol=1e-5
    )
    beyond = slice(0, right - 1) if right > 1 else slice(0, 0)
    torch.testing.assert_close(
        made[..., beyond], draws.generate(**one)[..., beyond], rtol=0, atol=1e-5
    )


def test_pictures_of_a_batch_are_blended_each_for_itself() -> None:
    draws = generator()
    pair = {
        name: torch.cat([rows(draws, 1)[name], rows(draws, 2)[name]])
        for name in ("latent", "embedding")
    }
    source = FeatureSource(rows(draws, 3), uniform(1, 1, 16, 16).float())
    together = blended(draws, pair, [source])
    for index in range(2):
        alone = blended(draws, rows(draws, index + 1), [source])
        torch.testing.assert_close(together[index : index + 1], alone, rtol=0, atol=1e-5)
    assert not draws.net.start._forward_hooks  # nothing stays behind


def test_faults_are_told_in_a_sentence() -> None:
    draws = generator()
    one, other = rows(draws, 1), rows(draws, 2)
    whole = torch.ones(1, 1, 4, 4)
    twice = [FeatureSource(other, whole), FeatureSource(other, whole / 2)]
    with pytest.raises(InputError, match=r"overlap on 100\.0% of the picture"):
        blended(draws, one, twice)
    with pytest.raises(InputError, match="needs at least one other picture"):
        blended(draws, one, [])
    with pytest.raises(ShapeError, match="are of one size"):
        blended(
            draws, one, [FeatureSource(other, whole / 2), FeatureSource(other, whole[..., :2] / 2)]
        )
    with pytest.raises(ShapeError, match=r"expected \(b, 1, h, w\)"):
        FeatureSource(other, torch.ones(4, 4))
    with pytest.raises(InputError, match=r"in \[0, 1\]"):
        FeatureSource(other, 2 * whole)
    body = nn.Sequential(nn.Linear(5, 48), nn.Unflatten(1, (3, 4, 4)))
    with pytest.raises(InputError, match="an attribute `levels`"):
        blend_levels(Generator(body, latents={"z": 5}))
