"""Batch-norm statistics of a generator whose weights are an average."""

from __future__ import annotations

import torch
from torch import nn

from invertkit.models.generators.conditional import ConditionalGenerator
from invertkit.training.generator.plan import GeneratorPlan


@torch.no_grad()
def settle(
    generator: ConditionalGenerator, plan: GeneratorPlan, *, classes: int, batches: int = 128
) -> None:
    """Batch-norm statistics of the averaged weights, over many batches.

    Args:
        generator: Left in evaluation mode.
        plan: `latent` and `seed`.
        classes: Number of classes.
        batches: Of 64 pictures.

    Source: "standing statistics", Brock et al. 2019.
    """
    norms = [m for m in generator.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    generator.train()
    device = generator.gen_z.weight.device
    for index in range(batches):
        # Below the numbers of the training's steps, which begin at 0.
        draw = torch.Generator().manual_seed(plan.seed * 1_000_003 - 1 - index)
        latent = torch.randn(64, plan.latent, generator=draw).to(device)
        labels = torch.randint(classes, (64,), generator=draw).to(device)
        generator(latent, generator.embeddings.weight.T[labels])
    generator.eval()
