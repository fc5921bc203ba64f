"""An auxiliary space that learns to be descended in: a few inner steps, and slopes through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from invertkit.core.images.resize import resize_image
from invertkit.errors import InputError
from invertkit.models.generators.encoder import Encoder
from invertkit.models.generators.zeta import AuxiliaryNetworks, ZetaShape
from invertkit.training.projection.descent import Lesson
from invertkit.training.projection.inner import calibrated
from invertkit.training.projection.plan import ZetaPlan
from invertkit.training.projection.subject import Subject


@final
class ZetaLesson(Lesson):
    """Auxiliary networks A and B, and their loss.

    `Σ_j w_j L(G(B(ζ_j)), x) + λ ‖B(A(z)) - z‖²`, `z = E(x, c)`, `ζ_0 = A(z)`, and ζ_1, ζ_2 by
    AdaGrad on L; the square is the mean over the numbers of z. Summed over photographs.

    Args:
        plan: Sizes, weights and rate.
        subject: In whose latent is searched.
        encoder: That says where to begin; it stays as it is.
        device: Where to learn.

    Raises:
        InputError: The encoder does not give the generator's latent, or asks for more than a class.

    Source: Suzuki et al. 2018, supplement B, Eq. 5 and 6, and the released code. There the squared
    pixels of the inner loss are averaged over the batch, so that they weigh less in a larger one;
    here each photograph is by itself.
    """

    net: AuxiliaryNetworks

    def __init__(
        self, plan: ZetaPlan, subject: Subject, encoder: Encoder, *, device: str = "cpu"
    ) -> None:
        if encoder.gives != (subject.latent,) or not set(encoder.takes) <= {subject.embedding}:
            raise InputError(
                f"--encoder: {encoder.description} is none for {subject.generator.description}."
            )
        self.plan, self.of, self.encoder = plan, subject, encoder.to(device)
        self.subject = "; ".join(
            each.description for each in (subject.generator, subject.discriminator, encoder)
        )
        with torch.random.fork_rng(devices=[]):  # PyTorch's initialisers read the global generator
            torch.manual_seed(plan.seed)
            self.net = AuxiliaryNetworks(
                ZetaShape(subject.numbers, zeta=plan.zeta, hidden=plan.hidden)
            )
        self.net.rates.requires_grad_(plan.rate == "learned")
        self.net.to(device)

    def warm(self) -> float:
        """Let B(A(z)) be near z on draws of N(0, I), before there is a first step.

        Ours: published trainings are so long that the loss does this by the way. A step costs about
        a tenth of one with the generator.

        Returns:
            The mean squared difference in the end.
        """
        plan, net = self.plan, self.net
        learning = [each for name, each in net.named_parameters() if name != "rates"]
        optimizer = torch.optim.Adam(learning, 1e-3)
        draw, error = torch.Generator().manual_seed(plan.seed), torch.zeros(())
        for step in range(plan.warm_steps):
            optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / plan.warm_steps)
            latent = torch.randn(64, self.of.numbers, generator=draw).to(net.rates)
            error = (net(latent) - latent).square().mean()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
        return float(error.detach())

    def begun(
        self, photographs: Float[Tensor, "b 3 s s"], labels: Int[Tensor, " b"]
    ) -> Float[Tensor, "b z"]:
        """What the encoder says.

        Raises:
            InputError: It is of another length than the latent.
        """
        look = resize_image(photographs, (self.encoder.size, self.encoder.size))
        known = {self.of.embedding: self.of.table[labels]}
        with torch.no_grad():
            latent = self.encoder.encode(look, **known)[self.of.latent]
        if latent.shape[1] != self.of.numbers:
            raise InputError(
                f"--encoder: {self.encoder.description} gives {latent.shape[1]} numbers, and "
                f"{self.of.generator.description} takes {self.of.numbers}."
            )
        return latent

    def losses(
        self, photographs: Float[Tensor, "b 3 s s"], labels: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
        """The loss above, and its parts as means over photographs."""
        plan, latent = self.plan, self.begun(photographs, labels)
        with torch.no_grad():
            goal = self.of.directions(photographs)
        zeta = self.net.expand(latent)

        def loss_of(at: Tensor) -> Tensor:
            pictures = self.of.pictures(self.net.collapse(at), labels)
            return self.of.distance(pictures, photographs, goal, pixels=plan.pixels)

        weights = plan.inner_weights
        along = calibrated(zeta, loss_of, self.net.rates, steps=len(weights) - 1)
        back = (self.net.collapse(zeta) - latent).square().mean(1)
        total = plan.reconstruction * back.sum()
        for weight, each in zip(weights, along, strict=True):
            total = total + weight * each.sum()
        told = {f"L{number}": each.mean() for number, each in enumerate(along)}
        return total, {**told, "z there and back": back.mean()}
