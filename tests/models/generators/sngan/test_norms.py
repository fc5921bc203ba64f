"""Mixtures of classes in a conditional norm."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from invertkit.models.generators.sngan.norms import CategoricalBatchNorm, mixed, weights_at
from tests.helpers import normal, uniform


def drawn_norm(channels: int, classes: int, seed: int) -> CategoricalBatchNorm:
    norm = CategoricalBatchNorm(channels, classes).eval().double()
    norm.gammas.weight.data = normal(classes, channels, seed=seed)
    norm.betas.weight.data = normal(classes, channels, seed=seed + 1)
    norm.norm.running_mean = normal(channels, seed=seed + 2)
    norm.norm.running_var = uniform(channels, seed=seed + 3) + 0.5
    return norm


@given(classes=st.integers(1, 5), label=st.integers(0, 4), seed=st.integers(0, 10**6))
def test_one_class_is_its_row_to_the_bit_also_as_a_map(classes: int, label: int, seed: int) -> None:
    label %= classes
    norm, features = drawn_norm(3, classes, seed), normal(2, 3, 4, 4, seed=seed)
    one = torch.eye(classes).double()[[label, label]]
    row = mixed(norm.gammas.weight, one)[:, :, 0, 0]
    assert torch.equal(row, norm.gammas.weight[[label, label]])
    everywhere = one[:, :, None, None].expand(-1, -1, 4, 4)
    assert torch.equal(norm(features, one), norm(features, everywhere))


@given(seed=st.integers(0, 10**6), column=st.integers(1, 3))
def test_each_half_is_that_of_its_class(seed: int, column: int) -> None:
    norm, features = drawn_norm(3, 2, seed), normal(1, 3, 4, 4, seed=seed)
    weights = torch.zeros(1, 2, 4, 4).double()
    weights[:, 0, :, :column], weights[:, 1, :, column:] = 1, 1
    halves = norm(features, weights)
    first, second = (norm(features, torch.eye(2).double()[[label]]) for label in (0, 1))
    assert torch.equal(halves[..., :column], first[..., :column])
    assert torch.equal(halves[..., column:], second[..., column:])


@given(classes=st.integers(1, 4), power=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_weights_sum_to_one_at_every_level(classes: int, power: int, seed: int) -> None:
    weights = uniform(1, classes, 16, 16, seed=seed, dtype=torch.float32) + 0.1
    weights = weights / weights.sum(1, keepdim=True)
    at = weights_at(weights, 2**power)
    torch.testing.assert_close(at.sum(1), torch.ones(1, 2**power, 2**power))
    assert at.min() >= 0
    whole = weights[:, :, :1, :1].expand_as(weights)
    constant = weights_at(torch.ones_like(whole), 2**power)
    assert torch.equal(constant, torch.ones(1, classes, 2**power, 2**power))
