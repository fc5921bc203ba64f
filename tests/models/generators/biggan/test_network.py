from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from invertkit.errors import InputError
from invertkit.models.generators.biggan.files import without_spectral_norm
from invertkit.models.generators.biggan.network import BigGANDeep, statistics_at
from tests.helpers import normal, uniform
from tests.models.generators.biggan.port import (
    SMALL,
    inputs,
    restated,
    small_net,
    small_state,
)


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("truncation", [1.0, 0.58, 0.5, 0.4321, 0.005])
def test_the_forward_is_its_plain_restatement(truncation: float) -> None:
    latent, embedding = inputs()
    net = small_net(truncation=truncation)
    expected = restated(small_state(), latent, embedding, truncation=truncation)
    made = net(latent, embedding)
    assert made.shape == (2, 3, 16, 16)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-10)
    assert expected.std() > 0.1  # and it is a picture, not a constant
    assert made.abs().max() <= 1


def test_a_picture_does_not_depend_on_its_neighbours() -> None:
    net, (latent, embedding) = small_net(), inputs(3)
    alone = [net(latent[i : i + 1], embedding[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(net(latent, embedding), torch.cat(alone), rtol=0, atol=1e-12)


@given(index=st.integers(0, 50))
def test_statistics_at_a_stored_truncation_are_the_stored_ones(index: int) -> None:
    table = normal(51, 3)
    assert torch.equal(statistics_at(table, index / 50), table[index])
    assert torch.equal(statistics_at(table, index * 0.02), table[index])


@given(truncation=st.floats(0, 1), rows=st.integers(1, 60))
def test_statistics_between_are_linear_in_the_truncation(truncation: float, rows: int) -> None:
    table = normal(rows, 3)
    grid = np.linspace(0, 1, rows) if rows > 1 else np.zeros(1)
    expected = [np.interp(truncation, grid, column) for column in table.T.numpy()]
    torch.testing.assert_close(
        statistics_at(table, truncation), torch.tensor(expected), rtol=0, atol=1e-7
    )


def test_each_neighbour_weighs_the_more_the_nearer_it_is() -> None:
    table = torch.arange(51.0)[:, None]
    assert 0.58 / 0.02 < 29  # where the lower neighbour is row 28 in floating point
    assert statistics_at(table, 0.58) == 29
    assert statistics_at(table, 0.585) == pytest.approx(29.25)
    assert statistics_at(table, 0.595) == pytest.approx(29.75)


def test_setting_the_truncation_selects_the_statistics_of_every_norm() -> None:
    latent, embedding = inputs()
    net = small_net(truncation=0.3)
    before = net(latent, embedding)
    net.truncation = 0.7
    assert net.truncation == 0.7
    assert torch.equal(net(latent, embedding), small_net(truncation=0.7)(latent, embedding))
    net.truncation = 0.3
    assert torch.equal(net(latent, embedding), before)
    for wrong in (0.0, -0.5, 1.01, float("nan")):
        with pytest.raises(InputError, match=r"truncation: expected a number in \(0, 1\]"):
            net.truncation = wrong
    assert net.truncation == 0.3


def test_loading_other_statistics_selects_among_those() -> None:
    latent, embedding = inputs()
    net = small_net(truncation=0.3)
    net.load_state_dict(without_spectral_norm(small_state(seed=1), name="other"))
    expected = restated(small_state(seed=1), latent, embedding, truncation=0.3)
    torch.testing.assert_close(net(latent, embedding), expected, rtol=0, atol=1e-10)


def test_gradients_reach_the_latent_and_the_embedding() -> None:
    net = small_net().requires_grad_(False)
    variables = [value.requires_grad_() for value in inputs(1)]
    directions = [normal(*value.shape, seed=5 + i) for i, value in enumerate(variables)]
    looked_at = normal(1, 3, 16, 16, seed=9)

    def loss(step: float) -> Tensor:
        moved = [v + step * d for v, d in zip(variables, directions, strict=True)]
        made: Tensor = net(*moved)
        return (made * looked_at).sum()

    gradients = torch.autograd.grad(loss(0.0), variables)
    assert all(bool((gradient != 0).all()) for gradient in gradients)
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    with torch.no_grad():
        difference = (loss(1e-6) - loss(-1e-6)) / 2e-6
    torch.testing.assert_close(slope, difference, rtol=1e-5, atol=0)


def test_gradients_reach_every_parameter() -> None:
    net, (latent, embedding) = small_net(), inputs()
    (net(latent, embedding) * normal(2, 3, 16, 16, seed=9)).sum().backward()
    without = {name for name, value in net.named_parameters() if value.grad is None}
    assert without == {"embeddings.weight"}  # which the caller applies


def test_what_a_tap_holds_is_not_changed_later() -> None:
    net, seen = small_net(), {}

    def keep(module: nn.Module, _: Any, output: Tensor, *, name: str) -> None:
        seen[name] = (output, output.detach().clone())

    for name, module in net.named_modules():
        if name and not isinstance(module, nn.ModuleList):
            module.register_forward_hook(partial(keep, name=name))
    net(*inputs())
    assert seen["generator.gen_z"][0].shape == (2, 16 * 32)
    assert [tuple(seen[f"generator.layers.{i}"][0].shape[1:]) for i in range(5)] == [
        (32, 4, 4),
        (16, 8, 8),
        (16, 8, 8),  # the attention
        (16, 16, 16),
        (8, 16, 16),
    ]
    assert all(torch.equal(*pair) for pair in seen.values())


def test_a_copy_in_single_precision_agrees() -> None:
    net, (latent, embedding) = small_net(truncation=0.43), inputs()
    single = copy.deepcopy(net).float()
    made = single(latent.float(), embedding.float())
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.double(), net(latent, embedding), rtol=0, atol=1e-4)


def test_random_weights_give_finite_pictures() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = BigGANDeep(SMALL)
    latent = 4 * uniform(2, SMALL.latent) - 2
    made = net(latent, net.embeddings(torch.eye(SMALL.classes)[:2]))
    assert made.isfinite().all()
    assert made.std() > 0
