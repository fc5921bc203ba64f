"""The networks of the game and their loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from invertkit.models.generators.kitgan import ClassHead
from invertkit.training.generator.networks import GameNetworks, hinge
from tests.helpers import normal, tiny_classifier, uniform
from tests.training.generator.tiny import PLAN


@given(real=st.lists(st.floats(-3, 3), min_size=1, max_size=6), made=st.floats(-3, 3))
def test_the_hinge_loss_is_its_formula(real: list[float], made: float) -> None:
    scores = torch.tensor([*real, made, -made], dtype=torch.float64)
    wanted = sum(max(0.0, 1 - score) for score in real) / len(real)
    wanted += (max(0.0, 1 + made) + max(0.0, 1 - made)) / 2
    assert hinge(scores, len(real)).item() == pytest.approx(wanted)


def test_the_head_is_a_projection_on_summed_features() -> None:
    head = ClassHead(5, 3, group=2, spectral=False)
    features, labels = normal(4, 5, 2, 3).float(), torch.tensor([2, 2, 0, 0])
    summed = features.clamp(min=0).sum((2, 3))
    for row in range(4):
        pair = summed[row // 2 * 2 : row // 2 * 2 + 2]
        spread = ((pair[0] - pair[1]).square() / 4 + 1e-6).sqrt()
        wanted = (
            head.linear.weight[0] @ summed[row]
            + head.linear.bias[0]
            + head.spread.weight[0] @ spread
            + head.spread.bias[0]
            + head.embedding.weight[labels[row]] @ summed[row]
        )
        assert torch.isclose(head(features, labels)[row], wanted, atol=1e-5)


def test_a_generator_that_draws_a_class_alike_is_found_out() -> None:
    head = ClassHead(5, 2, group=4, spectral=False)
    nn.init.zeros_(head.linear.weight)
    nn.init.zeros_(head.embedding.weight)
    nn.init.ones_(head.spread.weight)
    nn.init.zeros_(head.linear.bias)
    nn.init.zeros_(head.spread.bias)
    varied, labels = normal(8, 5, 2, 2).float(), torch.tensor([0] * 4 + [1] * 4)
    alike = torch.cat([varied[:4], varied[4:5].expand(4, -1, -1, -1)])
    scores = head(alike, labels)
    assert (scores[4:] < 5 * 1.1e-3).all()
    assert (scores[:4] > 0.1).all()
    assert torch.equal(scores[:4], head(varied, labels)[:4])


@pytest.mark.parametrize("guided", [True, False])
def test_the_heads_look_at_groups_of_the_plans_size(guided: bool) -> None:  # noqa: FBT001
    guide = tiny_classifier(torch.float32) if guided else None
    players = GameNetworks(replace(PLAN, group=2), 3, guide)
    heads = [m for m in players.modules() if isinstance(m, ClassHead)]
    assert len(heads) == (3 if guided else 1)
    assert {head.group for head in heads} == {2}
    image, labels = uniform(4, 3, 32, 32).float(), torch.tensor([0, 0, 1, 1])
    assert len(players.scores(image, labels)) == len(heads)
    assert not any("guide" in name for name in players.state_dict())
