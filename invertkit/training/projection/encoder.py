"""An encoder that learns to begin projections: Ψ of G(E(x, c)) shall be that of x."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from invertkit.errors import InputError
from invertkit.models.generators.conditional import ConditionalEncoder, encoder_widths
from invertkit.training.projection.descent import Lesson
from invertkit.training.projection.plan import EncoderPlan
from invertkit.training.projection.subject import Subject


@final
class EncoderLesson(Lesson):
    """An encoder, and how far what it says is from the photograph.

    Args:
        plan: `seed` and `pixels`.
        subject: Whose latents it gives.
        device: Where to learn.

    Raises:
        InputError: The generator's pictures are not square with a side of 16, 32, 64, ….

    Source: Suzuki et al. 2018, §4 and supplement B.2. There the network is SNGAN's; here it is a
    smaller one with group norms, which has no statistics of a batch.
    """

    net: ConditionalEncoder

    def __init__(self, plan: EncoderPlan, subject: Subject, *, device: str = "cpu") -> None:
        side, (height, width) = subject.generator.size, subject.generator.shape
        if height != width or side < 16 or side & (side - 1):
            raise InputError(
                f"--generator: {subject.generator.description} makes pictures of {height}×{width}; "
                "an encoder is trained for a square of 16, 32, 64, … pixels."
            )
        self.of, self.pixels = subject, plan.pixels
        self.subject = f"{subject.generator.description}; {subject.discriminator.description}"
        self.widths = encoder_widths(side)
        with torch.random.fork_rng(devices=[]):  # PyTorch's initialisers read the global generator
            torch.manual_seed(plan.seed)
            self.net = ConditionalEncoder(
                latent=subject.numbers, embedding=subject.table.shape[1], widths=self.widths
            )
        self.net.to(device)

    def losses(
        self, photographs: Float[Tensor, "b 3 s s"], labels: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
        """The sum over photographs of their distance to what is made of them."""
        with torch.no_grad():
            goal = self.of.directions(photographs)
        latent = self.net(photographs * 2 - 1, self.of.table[labels])
        pictures = self.of.pictures(latent, labels)
        away = self.of.distance(pictures, photographs, goal, pixels=self.pixels)
        return away.sum(), {"distance": away.mean(), "deviation of z": latent.std()}
