"""A plan, photographs, eyes and networks so small that trainings take moments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.generators.conditional import ConditionalGenerator
from invertkit.training.data.photographs import PhotographSet
from invertkit.training.generator.networks import GameNetworks
from invertkit.training.generator.plan import GeneratorOrders, GeneratorPlan
from invertkit.training.generator.settling import settle
from tests.helpers import tiny_classifier

QUIET: Callable[[str], None] = lambda _: None
PLAN = GeneratorPlan(
    steps=8,
    batch=4,
    size=32,
    latent=6,
    embedding=4,
    widths=(16, 8, 8, 8),
    eyes_layers=("layer1", "layer3"),
    eyes_size=40,
    reconstructed=0.5,
    warm_steps=2,
    encoder_steps=4,
)


def eyes() -> Classifier:
    """They see at 10 and at 3 places a side."""
    return tiny_classifier(torch.float32)


def orders(out: Path, **options: object) -> GeneratorOrders:
    """To train on the CPU in a folder."""
    return GeneratorOrders(data=out, out=out, **{"device": "cpu", **options})  # type: ignore[arg-type]


def some_photographs(count: int = 30, classes: int = 3, seed: int = 0) -> PhotographSet:
    """Noise around a brightness that tells the class, in no order."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (count,), generator=draw)
    labels[:classes] = torch.arange(classes)
    noise = torch.randint(-30, 30, (count, 3, 32, 32), generator=draw)
    images = (40 + 170 * labels[:, None, None, None] // max(1, classes - 1) + noise).clamp(0, 255)
    return PhotographSet(images.to(torch.uint8), labels, tuple("abcdef"[:classes]))


def tiny_networks(
    plan: GeneratorPlan = PLAN, classes: int = 3, seeing: Classifier | None = None
) -> GameNetworks:
    """Untrained, its generator settled, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        networks = GameNetworks(plan, classes, eyes() if seeing is None else seeing)
    settle(networks.generator, plan, classes=classes, batches=2)
    return networks.eval()


def tiny_net(plan: GeneratorPlan = PLAN, classes: int = 3) -> ConditionalGenerator:
    return tiny_networks(plan, classes).generator
