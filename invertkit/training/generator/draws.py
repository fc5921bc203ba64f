"""What a step of a generator's training looks at: photographs, latents and classes."""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from invertkit.training.data.photographs import PhotographSet
from invertkit.training.generator.augmentation import CHANGES
from invertkit.training.generator.plan import GeneratorPlan


@final
class ByClass:
    """Photographs with the rows of each class together."""

    def __init__(self, data: PhotographSet) -> None:
        self.images, self.labels, self.classes = data.images, data.labels, data.classes
        self._order = data.labels.argsort(stable=True)
        self._counts = torch.bincount(data.labels, minlength=len(data.classes))
        self._starts = self._counts.cumsum(0) - self._counts

    def rows_of(self, classes: Int[Tensor, " b"], draws: Float[Tensor, " b"]) -> Int[Tensor, " b"]:
        """Rows of photographs of those classes; draws are uniform in [0, 1)."""
        # Uniform numbers scaled by the count: one draw serves classes of any sizes.
        places = (draws * self._counts[classes]).long()
        return self._order[self._starts[classes] + places]


class StepDraws(NamedTuple):
    """What one step takes.

    Attributes:
        images: Photographs in [-1, 1].
        labels: Their classes, which are also those of the pictures to be made.
        latent: Of the pictures to be made.
        real_changes: Of `changed`, for the photographs.
        made_changes: For the made pictures.
    """

    images: Float[Tensor, "b 3 s s"]
    labels: Int[Tensor, " b"]
    latent: Float[Tensor, "b z"]
    real_changes: Float[Tensor, "b 7"]
    made_changes: Float[Tensor, "b 7"]


def draws_of_step(plan: GeneratorPlan, data: ByClass, step: int, device: str) -> StepDraws:
    """All that a step draws, from the step and the seed alone: classes as often as each other."""
    # Farther apart than a training has steps: neighbouring seeds share no draws.
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
    labels = torch.randint(len(data.classes), (plan.batch,), generator=generator)
    rows = data.rows_of(labels, torch.rand(plan.batch, generator=generator))
    images = data.images[rows].float() / 127.5 - 1
    mirrored = torch.rand(plan.batch, generator=generator) < 0.5
    images[mirrored] = images[mirrored].flip(-1)
    latent = torch.randn(plan.batch, plan.latent, generator=generator)
    real, made = torch.rand(2, plan.batch, CHANGES, generator=generator)
    return StepDraws(*(part.to(device) for part in (images, labels, latent, real, made)))
