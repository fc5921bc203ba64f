"""The networks that play against each other while a generator is trained, and their loss."""

from __future__ import annotations

from copy import deepcopy
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.generators.kitgan import (
    ClassHead,
    FeatureHead,
    KitDiscriminator,
    KitGenerator,
)
from invertkit.training.generator.plan import GeneratorPlan


@final
class GameNetworks(nn.Module):
    """The networks of the game.

    Args:
        plan: Their sizes.
        classes: Number of classes.
        guide: Frozen classifier whose layers are judged too, or None.
    """

    def __init__(self, plan: GeneratorPlan, classes: int, guide: Classifier | None) -> None:
        super().__init__()
        self.generator = KitGenerator(
            classes, latent=plan.latent, embedding=plan.embedding, widths=plan.widths
        )
        self.discriminator = KitDiscriminator(classes)
        self.heads = nn.ModuleDict()
        self.plan = plan
        self.guide: tuple[Classifier | None] = (None,)  # in a tuple: not a part of the state
        if guide is not None:
            guide = deepcopy(guide).requires_grad_(False)  # the caller's stays where it is
            self.guide = (guide,)
            layers = guide.resolve(plan.guide_layers)
            probe = torch.zeros(1, 3, plan.guide_size, plan.guide_size)
            for name, features in guide.observe(probe, layers).items():
                self.heads[name] = FeatureHead(features.shape[1], classes)
        for module in self.modules():
            if isinstance(module, ClassHead):
                module.group = plan.group

    def scores(
        self, image: Float[Tensor, "b 3 h w"], labels: Int[Tensor, " b"]
    ) -> list[Float[Tensor, " b"]]:
        """What every discriminator thinks of pictures in [-1, 1]."""
        scores = [self.discriminator(image, labels)]
        (guide,) = self.guide
        if guide is not None and len(self.heads):
            size = (self.plan.guide_size,) * 2
            seen = F.interpolate(image / 2 + 0.5, size, mode="bilinear", align_corners=False)
            seen = seen.contiguous(memory_format=torch.channels_last)
            taps = guide.observe(seen, tuple(self.heads))
            scores += [head(taps[name], labels) for name, head in self.heads.items()]
        return scores


def hinge(scores: Float[Tensor, " b"], real: int) -> Float[Tensor, ""]:
    """Mean `max(0, 1 - s)` of the first `real` scores plus mean `max(0, 1 + s)` of the rest.

    Source: Lim & Ye 2017.

    Example:
        >>> hinge(torch.tensor([2.0, 0.0, -2.0]), real=2).item()
        0.5
    """
    return F.relu(1 - scores[:real]).mean() + F.relu(1 + scores[real:]).mean()
