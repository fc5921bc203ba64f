"""The encoder that inverts a generator."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn import functional as F

from invertkit.models.generators.conditional import encoder_widths
from invertkit.training.generator.encoder import mean_encoder, train_encoder
from tests.helpers import global_generators_unmoved
from tests.training.generator.tiny import PLAN, QUIET, tiny_net, tiny_networks


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


def test_the_mean_of_a_posterior_is_an_encoder() -> None:
    posterior = tiny_networks().posterior
    encoder = mean_encoder(posterior, widths=encoder_widths(PLAN.size))
    image = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    condition = torch.randn(5, PLAN.embedding, generator=torch.Generator().manual_seed(1))
    wanted = posterior(image, condition)[:, : PLAN.latent]
    assert torch.allclose(encoder(image, condition), wanted, atol=1e-6)
    assert encoder.training is False
