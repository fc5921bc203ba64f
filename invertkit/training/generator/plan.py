"""The plan of a generator's training: everything that decides the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class GeneratorPlan:
    """Everything that decides the weights, so that it can stand in the model card.

    Args:
        steps: Updates of the generator; the discriminators take as many.
        batch: Pictures per update, a multiple of `group`.
        group: Neighbouring pictures of one class; see `ClassHead`.
        lr: Adam's learning rate of the generator.
        critic_lr: Of the discriminators.
        betas: Adam's moments.
        decay: Of the exponential moving average of the generator's weights.
        cooldown: Share of the steps, at the end, over which learning rates fall linearly to 0.
        latent: Length of z.
        embedding: Length of the class embedding.
        widths: Channels of the generator at 4, 8, 16 and 32 pixels.
        guide_layers: Layers of the guiding classifier that get a discriminator of their own;
            none for a plain projection discriminator.
        guide_size: Side in pixels at which the guiding classifier sees the pictures.
        encoder_steps: Updates of the encoder afterwards.
        seed: Of weights, order and latents.
        bf16: Run convolutions in bfloat16.
    """

    steps: int = 8_000
    batch: int = 48
    group: int = 4
    lr: float = 3e-4
    critic_lr: float = 6e-4
    betas: tuple[float, float] = (0.0, 0.99)
    decay: float = 0.999
    cooldown: float = 0.25
    latent: int = 64
    embedding: int = 32
    widths: tuple[int, int, int, int] = (256, 128, 64, 32)
    guide_layers: tuple[str, ...] = ("layer1", "layer2", "layer3")
    guide_size: int = 40
    encoder_steps: int = 4_000
    seed: int = 0
    bf16: bool = False
