"""What a step of a generator's training looks at: photographs, latents and classes."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from invertkit.training.data.photographs import PhotographSet
from invertkit.training.generator.plan import GeneratorPlan


@final
class ByClass:
    """Photographs with the rows of each class together."""

    def __init__(self, data: PhotographSet) -> None:
        self.images, self.labels, self.classes = data.images, data.labels, data.classes
        self._order = data.labels.argsort(stable=True)
        self._counts = torch.bincount(data.labels, minlength=len(data.classes))
        self._starts = self._counts.cumsum(0) - self._counts

    def rows_of(
        self, classes: Int[Tensor, " g"], draws: Float[Tensor, "g k"]
    ) -> Int[Tensor, "g k"]:
        """Rows of photographs of those classes; draws are uniform in [0, 1)."""
        # Uniform numbers scaled by the count: one draw serves classes of any sizes.
        places = (draws * self._counts[classes, None]).long()
        return self._order[self._starts[classes, None] + places]


def draws_of_step(
    plan: GeneratorPlan, data: ByClass, step: int, device: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Photographs in [-1, 1] with labels, latents and wanted classes; all from the step alone."""
    # Farther apart than a training has steps: neighbouring seeds share no draws.
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
    groups, classes = plan.batch // plan.group, len(data.classes)

    def classes_of_groups() -> Tensor:
        return torch.randint(classes, (groups,), generator=generator)

    shown = classes_of_groups()
    draws = torch.rand(groups, plan.group, generator=generator)
    rows = data.rows_of(shown, draws).flatten()
    images = data.images[rows].float() / 127.5 - 1
    mirrored = torch.rand(len(rows), generator=generator) < 0.5
    images[mirrored] = images[mirrored].flip(-1)
    latent = torch.randn(len(rows), plan.latent, generator=generator)
    wanted = classes_of_groups().repeat_interleave(plan.group)
    return images.to(device), data.labels[rows].to(device), latent.to(device), wanted.to(device)
