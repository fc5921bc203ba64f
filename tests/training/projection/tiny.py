"""A generator with a discriminator, so small that a training of it takes no time; in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from invertkit.models.generators.encoder import Encoder
from invertkit.training.data.photographs import PhotographSet
from invertkit.training.projection.subject import Subject
from tests.helpers import tiny_classifier
from tests.latents import encoder64, generator64

SIDE = 16


def tiny_subject() -> Subject:
    """Pictures of 16 pixels of three classes, z of five numbers, compared in one layer."""
    judge = tiny_classifier(torch.float64)
    judge.default_layers = ("layer2",)
    return Subject(generator64(size=SIDE), judge)


def tiny_encoder() -> Encoder:
    """From pictures of 32 pixels to z."""
    return encoder64()


def photographs(count: int = 12) -> PhotographSet:
    """Noise of three classes, the second of which has none."""
    drawing = torch.Generator().manual_seed(4)
    images = torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=drawing, dtype=torch.uint8)
    labels: Tensor = torch.tensor([0, 2]).repeat_interleave(count // 2)
    return PhotographSet(images, labels, ("cat", "dog", "eel"))
