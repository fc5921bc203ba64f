"""Training the encoder that inverts a generator."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from invertkit.models.classifiers.architectures import quiet_random
from invertkit.models.generators.conditional import (
    ConditionalEncoder,
    ConditionalGenerator,
    encoder_widths,
)
from invertkit.training.generator.plan import GeneratorPlan
from invertkit.training.loop.options import Tell


def mean_encoder(posterior: ConditionalEncoder, *, widths: tuple[int, ...]) -> ConditionalEncoder:
    """The encoder of a posterior's mean: half of what a posterior gives.

    Args:
        posterior: Gives means, then log-variances.
        widths: Its channels.

    Example:
        >>> net = ConditionalEncoder(latent=10, embedding=4, widths=(8, 8, 16))
        >>> mean_encoder(net, widths=(8, 8, 16)).fc.out_features
        5
    """
    state = posterior.state_dict()
    half = len(state["fc.bias"]) // 2
    state |= {name: state[name][:half] for name in ("fc.weight", "fc.bias")}
    embedding = state["blocks.0.scale.weight"].shape[1]
    with quiet_random():
        encoder = ConditionalEncoder(latent=half, embedding=embedding, widths=widths)
    encoder.load_state_dict(state)
    return encoder.eval()


def train_encoder(
    plan: GeneratorPlan,
    generator: ConditionalGenerator,
    *,
    classes: int,
    device: str = "cpu",
    report: Tell = print,
) -> ConditionalEncoder:
    """Train an encoder on the generator's own pictures: from G(z, c) and c back to z.

    Args:
        plan: `encoder_steps`, `batch`, `seed`.
        generator: In evaluation mode.
        classes: Number of classes.
        device: Where to train.
        report: Receives one line per 500 steps.
    """
    generator = generator.to(device)
    table = generator.embeddings.weight.T.detach()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed + 1)
        encoder = ConditionalEncoder(
            latent=plan.latent, embedding=plan.embedding, widths=encoder_widths(plan.size)
        ).to(device)
    encoder.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(encoder.parameters(), 1e-3, (0.9, 0.99))
    kind = torch.device(device).type
    for step in range(plan.encoder_steps):
        # Half a billion on: beyond the steps of the generator's own training.
        draw = torch.Generator().manual_seed(plan.seed * 1_000_003 + 500_000_000 + step)
        latent = torch.randn(plan.batch, plan.latent, generator=draw).clamp(-2, 2).to(device)
        labels = torch.randint(classes, (plan.batch,), generator=draw).to(device)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / plan.encoder_steps)
        with torch.autocast(kind, torch.bfloat16, enabled=plan.bf16):
            with torch.no_grad():
                pictures = generator(latent, table[labels])
            guess = encoder(pictures, table[labels])
        loss = F.mse_loss(guess.float(), latent)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 500 == 0 or step + 1 == plan.encoder_steps:
            report(f"encoder step {step + 1}/{plan.encoder_steps} squared error {loss.item():.3f}")
    return encoder.eval()
