"""The plan of a generator's training: everything that decides the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, final

from invertkit.core.flags import NO_FLAG, Flag


@final
@dataclass(frozen=True)
class GeneratorPlan:
    """Everything that decides the weights, so that it can stand in the model card.

    Args:
        steps: Updates of the generator, at least 1. The discriminators take as many.
        batch: Pictures a step, a multiple of 4 (of `group`).
        group: Neighbouring pictures of one class; see `ClassHead`.
        lr: Adam's rate of the generator, 0 to 1.
        critic_lr: Of the discriminators, 0 to 1.
        betas: Adam's moments.
        decay: Of the exponential moving average of the generator's weights.
        cooldown: Share of the steps, at the end, over which learning rates fall linearly to 0.
        latent: Length of z.
        embedding: Length of the class embedding.
        widths: Channels of the generator at 4, 8, 16 and 32 pixels.
        guide_layers: Layers of the guiding classifier that get a discriminator of their own;
            none for a plain projection discriminator.
        guide_size: Side in pixels at which that classifier looks, at least 16.
        encoder_steps: Updates of the encoder afterwards, at least 1.
        seed: Of weights, order and latents, from 0.
        bf16: Train in bfloat16. Convolutions alone run in it.
    """

    steps: int = 8_000
    batch: int = 48
    group: Annotated[int, NO_FLAG] = 4
    lr: float = 3e-4
    critic_lr: float = 6e-4
    betas: Annotated[tuple[float, float], NO_FLAG] = (0.0, 0.99)
    decay: Annotated[float, NO_FLAG] = 0.999
    cooldown: Annotated[float, NO_FLAG] = 0.25
    latent: Annotated[int, NO_FLAG] = 64
    embedding: Annotated[int, NO_FLAG] = 32
    widths: Annotated[tuple[int, int, int, int], NO_FLAG] = (256, 128, 64, 32)
    guide_layers: Annotated[
        tuple[str, ...],
        Flag(
            "--no-guide",
            help="Judge pixels alone, not a classifier's layers.",
            typed=bool,
            default=False,
            reads=lambda alone: {"guide_layers": ()} if alone else {},
        ),
    ] = ("layer1", "layer2", "layer3")
    guide_size: int = 40
    encoder_steps: int = 4_000
    seed: int = 0
    bf16: bool = False


@final
@dataclass(frozen=True)
class GeneratorOrders:
    """What a generator's training is told beside its plan.

    Args:
        data: Folder or zip of CLASS/NAME.png to train on.
        out: Folder for checkpoint, weights and pictures.
        test: The same classes, unseen, to measure on (6 minutes).
        samples: Pictures to write singly to OUT/samples.
        resume: A checkpoint.pt to go on from.
        device: auto, cpu, cuda or cuda:N.
    """

    data: Path
    out: Path
    test: Path | None = None
    samples: int = 0
    resume: Path | None = None
    device: str = "auto"
