"""Mixtures of classes in a conditional norm."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from invertkit.models.generators.class_maps import Mixture
from invertkit.models.generators.sngan.norms import CategoricalBatchNorm
from tests.helpers import normal, uniform


def drawn_norm(channels: int, classes: int, seed: int) -> CategoricalBatchNorm:
    norm = CategoricalBatchNorm(channels, classes).eval().double()
    norm.gammas.weight.data = normal(classes, channels, seed=seed)
    norm.betas.weight.data = normal(classes, channels, seed=seed + 1)
    norm.norm.running_mean = normal(channels, seed=seed + 2)
    norm.norm.running_var = uniform(channels, seed=seed + 3) + 0.5
    return norm


@given(classes=st.integers(1, 5), label=st.integers(0, 4), seed=st.integers(0, 10**6))
def test_one_class_is_its_row_to_the_bit(classes: int, label: int, seed: int) -> None:
    label %= classes
    norm, features = drawn_norm(3, classes, seed), normal(2, 3, 4, 4, seed=seed)
    one = torch.eye(classes).double()[[label, label]]
    normalised = norm.norm(features)
    scale, shift = (t.weight[label][:, None, None] for t in (norm.gammas, norm.betas))
    assert torch.equal(norm(features, one), torch.addcmul(shift, normalised, scale))


@given(seed=st.integers(0, 10**6), column=st.integers(1, 3))
def test_each_half_is_that_of_its_class(seed: int, column: int) -> None:
    norm, features = drawn_norm(3, 2, seed), normal(1, 3, 4, 4, seed=seed)
    weights = torch.zeros(1, 2, 4, 4).double()
    weights[:, 0, :, :column], weights[:, 1, :, column:] = 1, 1
    halves = norm(features, Mixture(torch.eye(2).double()[None], weights))
    first, second = (norm(features, torch.eye(2).double()[[label]]) for label in (0, 1))
    torch.testing.assert_close(halves[..., :column], first[..., :column])
    torch.testing.assert_close(halves[..., column:], second[..., column:])


@given(share=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_between_two_classes_features_lie_between(share: float, seed: int) -> None:
    """Linear in the weights, for a condition as for a mixture."""
    norm, features = drawn_norm(3, 2, seed), normal(1, 3, 4, 4, seed=seed)
    first, second = (norm(features, torch.eye(2).double()[[label]]) for label in (0, 1))
    row = torch.tensor([[share, 1 - share]]).double()
    wanted = share * first + (1 - share) * second
    torch.testing.assert_close(norm(features, row), wanted)
    places = row[:, :, None, None].expand(-1, -1, 4, 4)
    torch.testing.assert_close(norm(features, Mixture(torch.eye(2).double()[None], places)), wanted)
