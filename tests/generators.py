"""A file of three networks as `invertkit train generator` leaves it, so small that it is quick."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from invertkit.models.classifiers.architectures import build
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.generators.conditional import ConditionalEncoder, encoder_widths
from invertkit.training.generator.networks import GameNetworks
from invertkit.training.generator.release import save_generator
from tests.training.generator.tiny import PLAN, tiny_networks

EYES: Final = "timm:test_efficientnet"
CLASSES: Final = ("cat", "sheep", "dog")


def tiny_game() -> GameNetworks:
    """Untrained networks with eyes that a file can name."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = build(EYES, 7)
        for name, value in net.state_dict().items():
            if "running" in name:
                value.uniform_(0.5, 1.5)
    plan = replace(PLAN, eyes_layers=("blocks.0", "blocks.2"))
    return tiny_networks(plan, seeing=Classifier(net, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)))


def write_tiny(path: Path, networks: GameNetworks | None = None) -> Path:
    """Pictures of 32 pixels of three classes, their discriminator and their encoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        encoder = ConditionalEncoder(
            latent=PLAN.latent, embedding=PLAN.embedding, widths=encoder_widths(PLAN.size)
        )
    save_generator(
        networks or tiny_game(), encoder, path, classes=CLASSES, eyes_architecture=EYES,
        looked_at=3,
    )  # fmt: skip
    return path
