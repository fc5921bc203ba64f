"""Files of auxiliary networks, our own and the published one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from invertkit.errors import WeightsError
from invertkit.models.generators.zeta_file import load_auxiliary, save_zeta, zeta
from tests.helpers import normal
from tests.latents import zeta_space
from tests.models.generators.sngan.chainer import (
    HIDDEN,
    LATENT,
    ZETA,
    Entries,
    auxiliary_entries,
    generator_file,
    prelu,
    relu,
    write,
)


def test_what_a_training_leaves_is_read_again(tmp_path: Path) -> None:
    space = zeta_space().float()
    path = tmp_path / "zeta.safetensors"
    save_zeta(space.net, path, latent="z", facts={"generator": "a tiny generator"})
    read = zeta(weights=path)
    assert read.latent == "z"
    assert read.shape == space.shape
    assert read.description.startswith("auxiliary space of 9 numbers for 5 (zeta.safetensors")
    assert read.description.endswith("for a tiny generator")
    assert torch.equal(read.net.rates, space.net.rates)
    latent = normal(4, 5, dtype=torch.float32)
    torch.testing.assert_close(read.net(latent), space.net(latent), rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("learned", [True, False])
def test_the_published_file_is_its_formulas(tmp_path: Path, *, learned: bool) -> None:
    entries = {**generator_file(128), **auxiliary_entries(learned=learned)}
    write(tmp_path / "ResNetAuxABGenerator_450000.npz", entries)
    space = zeta(weights=tmp_path)
    assert (space.shape.latent, space.shape.hidden, space.shape.zeta) == (LATENT, HIDDEN, ZETA)
    torch.testing.assert_close(space.net.rates, torch.full((ZETA,), 2e-4))
    latent = normal(3, LATENT).numpy()

    def linear(name: str, rows: object) -> object:
        return rows @ entries[f"{name}/W"].T.astype(float) + entries[f"{name}/b"]

    there = prelu(linear("lA2", relu(linear("lA1", latent))), entries["preluMiddleW/W"])
    back = prelu(linear("lB2", relu(linear("lB1", there))), entries["preluW/W"])
    space.double()
    torch.testing.assert_close(space.expand(torch.from_numpy(latent)), torch.from_numpy(there))
    torch.testing.assert_close(space.collapse(torch.from_numpy(there)), torch.from_numpy(back))


@pytest.mark.parametrize("name", ["lA1/b", "lB2/W", "preluW/W", "preluMiddleW/W"])
def test_every_entry_counts(name: str, tmp_path: Path) -> None:
    entries: Entries = auxiliary_entries()
    del entries[name]
    with pytest.raises(WeightsError, match=r"w\.npz"):
        load_auxiliary(write(tmp_path / "w.npz", entries))


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="train it by `invertkit train zeta`"):
        zeta()
    with pytest.raises(WeightsError, match="is no Chainer file of auxiliary networks"):
        zeta(weights=write(tmp_path / "g.npz", generator_file(128)))
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="was not made by `invertkit train zeta`"):
        zeta(weights=tmp_path / "other.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "half.safetensors", {"architecture": '"zeta"'})
    with pytest.raises(WeightsError, match="its metadata are not those of auxiliary networks"):
        zeta(weights=tmp_path / "half.safetensors")
