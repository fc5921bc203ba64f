"""Auxiliary networks, beside their formulas in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invertkit.errors import InputError
from invertkit.models.generators.zeta import RATE, AuxiliaryNetworks, ZetaShape
from tests.helpers import normal
from tests.latents import zeta_space
from tests.models.generators.sngan.chainer import prelu, relu


@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10))
def test_there_and_back_are_the_formulas(seed: int, scale: float) -> None:
    space = zeta_space()
    of = {name: value.numpy() for name, value in space.net.state_dict().items()}
    latent = scale * normal(3, 5, seed=seed)

    def linear(name: str, rows: np.ndarray) -> np.ndarray:
        return rows @ of[f"{name}.weight"].T + of[f"{name}.bias"]

    zeta = prelu(linear("a2", relu(linear("a1", latent.numpy()))), of["a_slopes.weight"])
    back = prelu(linear("b2", relu(linear("b1", zeta))), of["b_slopes.weight"])
    torch.testing.assert_close(space.expand(latent), torch.from_numpy(zeta))
    torch.testing.assert_close(space.collapse(space.expand(latent)), torch.from_numpy(back))
    torch.testing.assert_close(space.net(latent), torch.from_numpy(back))


def test_the_start_of_a_training_is_the_released_one() -> None:
    shape = ZetaShape(128)
    assert (shape.zeta, shape.hidden) == (10_000, 1_000)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = AuxiliaryNetworks(ZetaShape(4, zeta=300, hidden=200))
    assert (networks.rates == RATE).all()
    assert (networks.a_slopes.weight == 0.25).all()
    assert (networks.b_slopes.weight == 0.25).all()
    for layer in (networks.a1, networks.a2, networks.b1, networks.b2):
        bound = (6 / sum(layer.weight.shape)) ** 0.5  # Glorot's, of the uniform
        assert bound * 0.95 < layer.weight.abs().max() <= bound
        assert (layer.bias == 0).all()


def test_layers_of_no_number_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1 number a layer"):
        ZetaShape(4, zeta=0)
