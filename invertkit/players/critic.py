"""The WGAN-GP patch critic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Annotated, Any, Literal, final

import torch
from annotated_types import MinLen
from jaxtyping import Float
from torch import Tensor

from invertkit.errors import InputError
from invertkit.models.patch_nets import NormKind, PatchCriticNet, receptive_field
from invertkit.normalization import Space, in_space
from invertkit.players.base import Player
from invertkit.randomness import Randomness, generator
from invertkit.schedules import Count, Decay, Index, NonNegative, Positive
from invertkit.view import Scene


@final
class PatchCritic(Player):
    """Learns to tell patches of the image from patches of the reference.

    Minimises mean D(image) - mean D(reference) + `penalty` · GP, one critic per image by default.

    Args:
        kernels: Of the network; with `strides` they decide the receptive field, which is computed.
        strides: Of the network.
        widths: Of the network, one less than kernels.
        norm: `instance` (each image alone), `batch` (as released), `none`.
        space: Units in which it sees the image, and the penalty counts pixels;
            `imagenet` as released.
        start: First step of the run at which it learns.
        every: Learn on every `every`-th step: where (step + 1) is divisible by it.
        updates: Updates each time.
        lr: Adam's learning rate.
        betas: Adam's.
        penalty: Weight of the gradient penalty.
        penalty_form: `pixel`: the gradient's norm over channels at every pixel is driven to 1
            (released); `sample`: the norm of the whole gradient of the mean score (the standard).
        shared: One critic for the whole batch, as released, so that seeds depend on each other.

    Source: MAGIC θ_d, IMAGINE R_pc; Gulrajani et al. 2017 (arXiv:1704.00028) Eq. 3; the pixel
    form is SinGAN's.
    """

    def __init__(
        self,
        *,
        kernels: Annotated[Sequence[Count], MinLen(1)] = (4, 4, 4, 3, 1),
        strides: Annotated[Sequence[Count], MinLen(1)] = (1, 2, 2, 1, 1),
        widths: Sequence[Count] = (64, 128, 128, 128),
        norm: NormKind = "instance",
        space: Space = "unit",
        start: Index = 0,
        every: Count = 1,
        updates: Count = 1,
        lr: Positive = 5e-4,
        betas: tuple[Decay, Decay] = (0.5, 0.999),
        penalty: NonNegative = 0.1,
        penalty_form: Literal["pixel", "sample"] = "pixel",
        shared: bool = False,
    ) -> None:
        self.kernels, self.strides, self.widths = kernels, strides, widths
        self.norm, self.space = norm, space
        self.start, self.every, self.updates = start, every, updates
        self.lr, self.betas, self.shared = lr, betas, shared
        self.penalty, self.penalty_form = penalty, penalty_form
        self.nets: list[PatchCriticNet] = []
        self._optimizers: list[torch.optim.Adam] = []
        self._real: Tensor | None = None
        self._randomness = Randomness(())
        self._purpose = ""

    def begin(self, scene: Scene, randomness: Randomness, *, purpose: str) -> None:
        if scene.reference is None:
            raise InputError("`patch_critic` learns from a reference; give an image.")
        self._real = in_space(scene.reference, self.space)
        self._randomness, self._purpose = randomness, purpose
        seeds = randomness.seeds[:1] if self.shared else randomness.seeds
        if not self.nets:
            self.nets = [self._make(seed, purpose, randomness.device) for seed in seeds]
        field = self.nets[0].receptive_field
        if min(scene.size) < field:
            raise InputError(
                f"`patch_critic` sees patches of {field}×{field} pixels, the image of this stage "
                f"is {scene.size[0]}×{scene.size[1]}. Use a larger stage or smaller kernels."
            )
        # The last normalised layer needs two places: statistics over one say nothing.
        two = receptive_field(self.kernels[:-1], self.strides[:-1]) + math.prod(self.strides[:-1])
        if self.norm != "none" and self.widths and max(scene.size) < two:
            raise InputError(
                f"`patch_critic` with `norm: {self.norm}` needs a side of at least {two} pixels, "
                f"the image of this stage is {scene.size[0]}×{scene.size[1]}. Use a larger stage, "
                "smaller kernels or `norm: none`."
            )
        self._optimizers = [
            torch.optim.Adam(net.parameters(), lr=self.lr, betas=self.betas) for net in self.nets
        ]

    def _make(self, seed: int, purpose: str, device: torch.device) -> PatchCriticNet:
        net = PatchCriticNet(
            kernels=self.kernels,
            strides=self.strides,
            widths=self.widths,
            norm=self.norm,
            generator=generator(seed, f"{purpose}/weights"),
        )
        return net.to(device).requires_grad_(False)

    def scores(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 i j"]:
        """Score of every patch, by each image's own critic."""
        # Frozen passes are fastest with channels last, weight gradients with channels first.
        images = in_space(images, self.space).contiguous(memory_format=torch.channels_last)
        if len(self.nets) == 1:
            scores: Tensor = self.nets[0](images)
            return scores
        pairs = zip(self.nets, images.split(1), strict=True)
        return torch.cat([net(image) for net, image in pairs])

    def learn(self, images: Float[Tensor, "b 3 h w"], *, step: int) -> None:
        if step < self.start or (step + 1) % self.every or self._real is None:
            return
        images = in_space(images, self.space)
        groups = (images,) if self.shared else images.split(1)
        for update in range(self.updates):
            purpose = f"{self._purpose}/mix/{update}"
            mixes = self._randomness.uniform(purpose, (1, 1, 1), step=step)
            parts = mixes[:1].split(1) if self.shared else mixes.split(1)
            for net, optimizer, fake, mix in zip(
                self.nets, self._optimizers, groups, parts, strict=True
            ):
                net.requires_grad_(True)
                optimizer.zero_grad()
                loss = critic_loss(
                    net, self._real, fake, mix, penalty=self.penalty, form=self.penalty_form
                )
                loss.backward(inputs=list(net.parameters()))  # not those of the mixed image
                optimizer.step()
                net.requires_grad_(False)

    def save(self) -> dict[str, Any]:
        saved = {
            "nets": [net.state_dict() for net in self.nets],
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }
        return deepcopy(saved)  # PyTorch hands out the tensors that the next update changes

    def load(self, saved: dict[str, Any]) -> None:
        for net, state in zip(self.nets, saved["nets"], strict=True):
            net.load_state_dict(state)
        for optimizer, state in zip(self._optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(deepcopy(state))


Critic = Callable[[Tensor], Tensor]


def critic_loss(
    critic: Critic,
    real: Float[Tensor, "1 3 h w"],
    fake: Float[Tensor, "b 3 h w"],
    mix: Float[Tensor, "m 1 1 1"],
    *,
    penalty: float = 0.1,
    form: Literal["pixel", "sample"] = "pixel",
) -> Float[Tensor, ""]:
    """Mean D(fake) - mean D(real) + penalty · GP at `mix`·real + (1 - mix)·fake.

    Args:
        critic: Scores of every patch.
        real: The reference; one image serves the whole batch, since its mean score is the same.
        fake: Images, without a graph.
        mix: Between 0 and 1.
        penalty: Weight of the penalty.
        form: See `gradient_penalty`.
    """
    loss = critic(fake).mean() - critic(real).mean()
    if penalty == 0:
        return loss
    between = mix * real + (1 - mix) * fake
    return loss + penalty * gradient_penalty(critic, between, form=form)


def gradient_penalty(
    critic: Critic, images: Float[Tensor, "b 3 h w"], *, form: Literal["pixel", "sample"]
) -> Float[Tensor, ""]:
    """Mean of (‖gradient‖ - 1)².

    `pixel`: the gradient of the *sum* of scores, its norm over the channels of each pixel.
    `sample`: the gradient of each image's *mean* score, its norm over the whole image.
    """
    images = images.detach().requires_grad_()
    scores = critic(images)
    total = scores.sum() if form == "pixel" else scores.flatten(1).mean(1).sum()
    (gradient,) = torch.autograd.grad(total, images, create_graph=True)
    if form == "pixel":
        length = torch.linalg.vector_norm(gradient, dim=1)
    else:
        length = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    penalty: Tensor = (length - 1).square().mean()
    return penalty
