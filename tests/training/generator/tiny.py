"""A plan, photographs and a generator so small that trainings take moments."""

from __future__ import annotations

from collections.abc import Callable

import torch

from invertkit.models.generators.kitgan import KitGenerator
from invertkit.training.data.photographs import PhotographSet
from invertkit.training.generator.plan import GeneratorPlan
from invertkit.training.generator.settling import settle

QUIET: Callable[[str], None] = lambda _: None
PLAN = GeneratorPlan(
    steps=8,
    batch=4,
    latent=6,
    embedding=4,
    widths=(16, 8, 8, 8),
    guide_layers=("layer1", "layer3"),
    guide_size=16,
    encoder_steps=4,
)


def some_photographs(count: int = 30, classes: int = 3, seed: int = 0) -> PhotographSet:
    """Noise around a brightness that tells the class, in no order."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=draw)
    labels[:classes] = torch.arange(classes)
    noise = torch.randint(-30, 30, (count, 3, 32, 32), generator=draw)
    images = (40 + 170 * labels[:, None, None, None] // max(1, classes - 1) + noise).clamp(0, 255)
    return PhotographSet(images.to(torch.uint8), labels, tuple("abcdef"[:classes]))


def tiny_net(plan: GeneratorPlan = PLAN, classes: int = 3) -> KitGenerator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = KitGenerator(
            classes, latent=plan.latent, embedding=plan.embedding, widths=plan.widths
        )
    settle(net, plan, classes=classes, batches=2)
    return net
