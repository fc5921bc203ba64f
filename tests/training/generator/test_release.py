"""The file gives the three networks back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from invertkit.models.classifiers.open import open_classifier
from invertkit.models.generators.open import (
    embedded_discriminator,
    embedded_encoder,
    embedded_generator,
)
from invertkit.models.loading.safetensors_file import metadata
from invertkit.models.loading.weights_file import read_weights
from invertkit.training.generator.networks import GameNetworks
from invertkit.training.generator.placing import object_statistics
from invertkit.training.generator.release import carried_as
from tests.generators import CLASSES, tiny_game, write_tiny
from tests.helpers import uniform
from tests.training.generator.tiny import PLAN, tiny_networks


@pytest.fixture
def networks() -> GameNetworks:
    return tiny_game()


@pytest.fixture
def path(networks: GameNetworks, tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "generator.safetensors", networks)


def test_the_generator_and_the_encoder_come_back(networks: GameNetworks, path: Path) -> None:
    loaded = embedded_generator(weights=path)
    assert loaded.classes == CLASSES
    found = object_statistics(
        networks.generator, classes=CLASSES, eyes=networks.eyes, size=PLAN.eyes_size, count=3
    )
    assert (loaded.statistics.centre, loaded.statistics.size) == found
    latent = torch.randn(3, PLAN.latent, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    table = loaded.tables["embedding"]
    again = loaded.generate(latent=latent, embedding=table)
    made = networks.generator(latent, networks.generator.embeddings.weight.T) / 2 + 0.5
    assert torch.allclose(made, again, atol=4e-3)
    assert not torch.equal(made[0], made[1])
    facts = {key: json.loads(value) for key, value in metadata(path).items()}
    assert facts["plan"]["steps"] == 8
    found = embedded_encoder(weights=path).encode(made, embedding=table)
    assert found["latent"].shape == (3, PLAN.latent)


def test_the_discriminator_comes_back_with_what_its_eyes_need(
    networks: GameNetworks, path: Path
) -> None:
    judge = embedded_discriminator(weights=path)
    assert judge.classes == CLASSES
    image = uniform(2, 3, 32, 32).float()
    size = (PLAN.eyes_size,) * 2
    view = torch.nn.functional.interpolate(image, size, mode="bilinear")
    maps = networks.eyes.observe(view, networks.layers)
    mixed = networks.mixer([maps[name] for name in networks.layers])
    layers = judge.resolve(["default"])
    assert len(layers) == 2
    seen = judge.observe(image, layers)
    logits = judge(image)
    wanted = torch.zeros(2, 3)
    with torch.no_grad():
        for name, head, each in zip(layers, networks.heads, mixed, strict=True):
            there = head.trunk(each)
            assert torch.allclose(seen[name], there, atol=2e-2 * float(there.abs().max()))
            wanted += head.of_all(each)
    assert torch.allclose(logits, wanted, atol=2e-2 * float(wanted.abs().max()))
    stored = {name for name, _ in judge.named_parameters()}
    assert any(".blocks.2." in name for name in stored)
    assert not any(".blocks.3." in name or ".classifier" in name for name in stored)


def test_equal_networks_make_equal_files(networks: GameNetworks, path: Path) -> None:
    other = write_tiny(path.with_name("other.safetensors"), networks)
    assert path.read_bytes() == other.read_bytes()


def test_eyes_that_the_package_carries_are_not_written_again(tmp_path: Path) -> None:
    eyes = open_classifier("embedded-eps0")
    plan = replace(PLAN, eyes_layers=("blocks.0", "blocks.3"))
    networks, path = tiny_networks(plan, seeing=eyes), tmp_path / "generator.safetensors"
    write_tiny(path, networks)
    assert not any(".eyes." in name for name in read_weights(path))
    judge = embedded_discriminator(weights=path)
    stored = {name for name, _ in judge.named_parameters()}
    assert any(".blocks.3." in name for name in stored)
    assert not any(".blocks.4." in name for name in stored)
    image = uniform(2, 3, 32, 32).float()
    view = torch.nn.functional.interpolate(image, (PLAN.eyes_size,) * 2, mode="bilinear")
    maps = eyes.observe(view, networks.layers)
    wanted = torch.zeros(2, 3)
    with torch.no_grad():
        mixed = networks.mixer([maps[name] for name in networks.layers])
        for head, each in zip(networks.heads, mixed, strict=True):
            wanted += head.of_all(each)
    assert torch.allclose(judge(image), wanted, atol=2e-2 * float(wanted.abs().max()))


def test_eyes_with_other_weights_are_not_those_carried() -> None:
    eyes = open_classifier("embedded-eps0")
    assert carried_as(eyes) == "embedded-eps0"
    eyes.net.conv_stem.weight.data[0, 0, 0, 0] += 0.5
    assert carried_as(eyes) is None
