"""The encoder that inverts a generator."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional as F

from invertkit.training.generator.encoder import train_encoder
from tests.helpers import global_generators_unmoved
from tests.training.generator.tiny import PLAN, QUIET, tiny_net


def test_training_the_encoder_lowers_its_error() -> None:
    net = tiny_net()

    def error(steps: int) -> float:
        plan = replace(PLAN, encoder_steps=steps, batch=8)
        encoder = train_encoder(plan, net, classes=3, report=QUIET)
        latent = torch.randn(64, PLAN.latent, generator=torch.Generator().manual_seed(9))
        labels = torch.arange(64) % 3
        latent = latent.clamp(-2, 2)
        table = net.embeddings.weight.T
        with torch.no_grad():
            return F.mse_loss(encoder(net(latent, table[labels]), table[labels]), latent).item()

    with global_generators_unmoved():
        assert error(40) < 0.7 * error(1)
