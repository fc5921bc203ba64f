"""The game: one look at the made pictures serves both sides."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from invertkit.errors import InputError, TapError
from invertkit.training.generator.augmentation import CHANGES, changed
from invertkit.training.generator.networks import GameNetworks, hinge
from tests.helpers import normal, uniform
from tests.training.generator.tiny import PLAN, eyes, tiny_networks


def draws(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, CHANGES, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 99))
def test_the_hinge_is_its_formula(seed: int) -> None:
    real, made = normal(3, 2, 2, seed=seed), normal(4, 2, 2, seed=seed + 1)
    wanted = sum(max(0.0, 1 - float(s)) for s in real.flatten()) / 12
    wanted += sum(max(0.0, 1 + float(s)) for s in made.flatten()) / 16
    assert float(hinge(real, made)) == pytest.approx(wanted, rel=1e-9)


def test_there_is_a_head_for_every_layer_and_the_eyes_are_no_part_of_the_state() -> None:
    networks = tiny_networks()
    assert networks.channels == [4, 8]
    assert len(networks.heads) == 2
    maps = networks.seen(uniform(4, 3, 32, 32).float() * 2 - 1, draws(4))
    assert [each.shape[-1] for each in maps] == networks.sides
    scores = networks.scores(maps, torch.tensor([0, 1, 2, 0]))
    assert all(each.ndim == 3 and each.isfinite().all() for each in scores)
    parts = {name.split(".")[0] for name in networks.state_dict()}
    assert parts == {"generator", "posterior", "mixer", "heads"}


def test_what_is_seen_is_the_augmented_picture_through_the_eyes_mixed() -> None:
    networks, image = tiny_networks(), uniform(2, 3, 32, 32).float() * 2 - 1
    view = changed(image, draws(2), size=PLAN.eyes_size) / 2 + 0.5
    maps = eyes().observe(view, PLAN.eyes_layers)
    wanted = networks.mixer([maps[name] for name in PLAN.eyes_layers])
    for seen, plain in zip(networks.seen(image, draws(2)), wanted, strict=True):
        torch.testing.assert_close(seen, plain, rtol=1e-4, atol=1e-4)


def test_scores_of_detached_maps_are_those_of_a_pass_of_their_own() -> None:
    """The loss of the heads needs no second run of the generator and the eyes."""
    networks, labels = tiny_networks().train(), torch.tensor([0, 1, 2, 0])
    latent = normal(4, PLAN.latent, dtype=torch.float32)
    table = networks.generator.embeddings.weight.T

    def pictures() -> Tensor:
        made: Tensor = networks.generator(latent, table[labels])
        return made

    def slopes(maps: list[Tensor]) -> list[Tensor]:
        networks.load_state_dict(before)  # power iterations go on with every look
        loss = torch.stack([-hinge(s, s) for s in networks.scores(maps, labels)]).sum()
        return list(torch.autograd.grad(loss, list(networks.heads.parameters())))

    before = {name: value.clone() for name, value in networks.state_dict().items()}
    shared = [each.detach() for each in networks.seen(pictures(), draws(4))]
    with torch.no_grad():
        apart = networks.seen(pictures(), draws(4))
    for one, other in zip(slopes(shared), slopes(apart), strict=True):
        assert torch.equal(one, other)


def test_the_generator_learns_through_the_eyes() -> None:
    networks, labels = tiny_networks(), torch.tensor([0, 1, 1, 2])
    latent = normal(4, PLAN.latent, dtype=torch.float32).requires_grad_()
    made = networks.generator(latent, networks.generator.embeddings.weight.T[labels])
    scores = networks.scores(networks.seen(made, draws(4)), labels)
    (slope,) = torch.autograd.grad(torch.stack([s.mean() for s in scores]).sum(), latent)
    assert slope.abs().min() > 0
    assert not any(weight.requires_grad for weight in networks.eyes.parameters())
    assert not any(weight.requires_grad for weight in networks.mixer.parameters())


def test_eyes_without_the_layers_are_told() -> None:
    with pytest.raises(TapError, match=r"has no layer 'blocks\.0'"):
        GameNetworks(replace(PLAN, eyes_layers=("blocks.0",)), 3, eyes())
    with pytest.raises(InputError, match="--eyes-layers: fc of a tiny network shows no map"):
        GameNetworks(replace(PLAN, eyes_layers=("layer1", "fc")), 3, eyes())
