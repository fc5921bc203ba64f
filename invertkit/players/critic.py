"""The WGAN-GP patch critic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, final

import torch
from annotated_types import MinLen
from jaxtyping import Float
from torch import Tensor

from invertkit.core.pixel_space import Space, in_space
from invertkit.core.randomness import Randomness, generator
from invertkit.core.ranges import Count, Decay, Index, NonNegative, Positive
from invertkit.core.recording.fused_adam import FusedAdam
from invertkit.core.scene import Scene
from invertkit.errors import InputError
from invertkit.models.critics.patch_critic import PatchCriticNet
from invertkit.models.stacked.normed_leaky import NormKind
from invertkit.models.stacked.stack import receptive_field
from invertkit.players.critic_gradients import PenaltyForm, critic_gradients
from invertkit.players.stacked import StackedPlayer


@final
class PatchCritic(StackedPlayer[PatchCriticNet]):
    """Learns to tell patches of the image from patches of the reference.

    Minimises mean D(image) - mean D(reference) + `penalty` · GP, one critic per image by default.
    The critics of a batch are one stack of networks; each learns as it would alone.

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

    Example:
        >>> from invertkit.core.images.inputs import Inputs
        >>> scene = Scene((24, 24), Inputs.of({"image": torch.rand(1, 3, 24, 24)}))
        >>> critic = PatchCritic(kernels=(3, 3), strides=(1, 1), widths=(4,))
        >>> critic.begin(scene, Randomness((0, 1)), purpose="players/critic")
        >>> critic.learn(torch.rand(2, 3, 24, 24), step=0)
        >>> critic.scores(torch.rand(2, 3, 24, 24)).shape
        torch.Size([2, 1, 20, 20])

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
        penalty_form: PenaltyForm = "pixel",
        shared: bool = False,
    ) -> None:
        super().__init__(updates=updates, space=space, lr=lr, betas=betas)
        self.kernels, self.strides, self.widths, self.norm = kernels, strides, widths, norm
        self.start, self.every, self.shared = start, every, shared
        self.penalty = penalty
        self.penalty_form: PenaltyForm = penalty_form
        self._real: Tensor | None = None
        self._randomness = Randomness(())
        self._purpose = ""

    @property
    def couples_images(self) -> bool:
        """If it is shared."""
        return self.shared

    def begin(self, scene: Scene, randomness: Randomness, *, purpose: str) -> None:
        if scene.reference is None:
            raise InputError("`patch_critic` learns from a reference; give an image.")
        self._check(scene.size)
        self._real = in_space(scene.reference, self.space)
        self._randomness, self._purpose = randomness, purpose
        self._precision = scene.precision
        # Kept from stage to stage: the network is convolutional and goes on learning at any size.
        if self.net is None:
            seeds = randomness.seeds[:1] if self.shared else randomness.seeds
            self.net = PatchCriticNet(
                kernels=self.kernels,
                strides=self.strides,
                widths=self.widths,
                norm=self.norm,
                generators=[generator(seed, f"{purpose}/weights") for seed in seeds],
            ).to(randomness.device)
        # Anew in each stage, whose patches are of another resolution than the moments would be of.
        self._optimizer = FusedAdam(self.net.learnt(), lr=self.lr, betas=self.betas)

    def _check(self, size: tuple[int, int]) -> None:
        field = receptive_field(self.kernels, self.strides)
        if min(size) < field:
            raise InputError(
                f"`patch_critic` sees patches of {field}×{field} pixels, the image of this stage "
                f"is {size[0]}×{size[1]}. Use a larger stage or smaller kernels."
            )
        # The last normalised layer needs two places: statistics over one say nothing.
        two = receptive_field(self.kernels[:-1], self.strides[:-1]) + math.prod(self.strides[:-1])
        if self.norm != "none" and self.widths and max(size) < two:
            raise InputError(
                f"`patch_critic` with `norm: {self.norm}` needs a side of at least {two} pixels, "
                f"the image of this stage is {size[0]}×{size[1]}. Use a larger stage, "
                "smaller kernels or `norm: none`."
            )

    def scores(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 i j"]:
        """Score of every patch, by each image's own critic."""
        return self._outputs(images)

    def learns(self, step: int) -> bool:
        return step >= self.start and (step + 1) % self.every == 0

    def learn(self, images: Float[Tensor, "b 3 h w"], *, step: int) -> None:
        if self.net is None or self._optimizer is None or not self.learns(step):
            return
        images = in_space(images, self.space)
        for update in range(self.updates):
            purpose = f"{self._purpose}/mix/{update}"
            # Of each image's own seed, so that its critic learns as it would alone; a shared critic
            # takes the first image's number for the whole batch.
            mixes = self._randomness.uniform(purpose, (1, 1, 1), step=step)
            gradients = self._gradients(self.net, images, mixes[:1] if self.shared else mixes)
            # By `grad` as autograd would leave them, so that one optimizer serves all players.
            for parameter, gradient in zip(self.net.learnt(), gradients, strict=True):
                parameter.grad = gradient
            self._optimizer.step()
            self._optimizer.zero_grad()

    def _gradients(
        self, net: PatchCriticNet, images: Float[Tensor, "b 3 h w"], mixes: Tensor
    ) -> list[Tensor]:
        """Of all critics: in one pass, or on a CPU, where that is quicker, in one for each."""
        real = self._real
        assert real is not None  # noqa: S101 # by `begin`
        gradients_of_turns = [
            critic_gradients(
                net,
                images[turn],
                real[turn] if len(real) > 1 else real,
                mixes[turn],
                penalty=self.penalty,
                form=self.penalty_form,
                which=turn,
            )
            for turn in net.turns(images.device)
        ]
        if len(gradients_of_turns) == 1:
            return gradients_of_turns[0]
        return [torch.cat(gradients) for gradients in zip(*gradients_of_turns, strict=True)]
