"""The networks that play against each other while a generator is trained, and their loss."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.generators.conditional import (
    ConditionalEncoder,
    ConditionalGenerator,
    encoder_widths,
)
from invertkit.models.generators.projected import FeatureMixer, ScaleHead
from invertkit.training.generator.augmentation import changed
from invertkit.training.generator.plan import GeneratorPlan


@final
class GameNetworks(nn.Module):
    """The generator and its judges: heads on what frozen eyes see, mixed at random.

    Args:
        plan: Their sizes.
        classes: Number of classes.
        eyes: Frozen classifier on whose layers the judges look; a copy is kept, and it is no part
            of the state.

    Raises:
        TapError: The eyes have no such layer.
        InputError: A layer of them shows no map.

    Attributes:
        layers: Of the eyes, shallow to deep.
        channels: Of what each shows.
        sides: Of what each shows.
    """

    def __init__(self, plan: GeneratorPlan, classes: int, eyes: Classifier) -> None:
        super().__init__()
        self.plan = plan
        self.generator = ConditionalGenerator(
            classes, latent=plan.latent, embedding=plan.embedding, widths=plan.widths
        )
        self.posterior = ConditionalEncoder(
            latent=2 * plan.latent, embedding=plan.embedding, widths=encoder_widths(plan.size)
        )
        self._eyes = (deepcopy(eyes).requires_grad_(False),)  # in a tuple: not part of the state
        self.layers = eyes.resolve(plan.eyes_layers)
        probe = torch.zeros(1, 3, plan.eyes_size, plan.eyes_size)
        seen = self.eyes.observe(probe, self.layers)
        maps = [seen[name] for name in self.layers]
        for name, features in zip(self.layers, maps, strict=True):
            if features.ndim != 4:
                raise InputError(f"--eyes-layers: {name} of {eyes.description} shows no map.")
        self.channels = [features.shape[1] for features in maps]
        self.sides = [features.shape[-1] for features in maps]
        self.mixer = FeatureMixer(self.channels)
        self.heads = nn.ModuleList(
            ScaleHead(width, side, classes)
            for width, side in zip(self.mixer.widths, self.sides, strict=True)
        )

    @property
    def eyes(self) -> Classifier:
        """The frozen classifier."""
        return self._eyes[0]

    def seen(
        self, pictures: Float[Tensor, "b 3 h w"], draws: Float[Tensor, "b 7"]
    ) -> list[Float[Tensor, "b _ _ _"]]:
        """What heads look at: pictures in [-1, 1], augmented, through the eyes, mixed."""
        view = changed(pictures.float(), draws, size=self.plan.eyes_size) / 2 + 0.5
        # Their depthwise convolutions are slower in bfloat16 than in float32.
        with torch.autocast(view.device.type, enabled=False):
            maps = self.eyes.observe(
                view.contiguous(memory_format=torch.channels_last), self.layers
            )
        mixed: list[Tensor] = self.mixer([maps[name] for name in self.layers])
        return mixed

    def scores(
        self, maps: Sequence[Float[Tensor, "b _ _ _"]], labels: Int[Tensor, " b"]
    ) -> list[Float[Tensor, "b _ _"]]:
        """What every head thinks of mixed maps, place by place."""
        return [head(each, labels) for head, each in zip(self.heads, maps, strict=True)]


def hinge(real: Float[Tensor, "b _ _"], made: Float[Tensor, "n _ _"]) -> Float[Tensor, ""]:
    """Mean `max(0, 1 - s)` of the scores of photographs plus mean `max(0, 1 + s)` of the made.

    Source: Lim & Ye 2017.

    Example:
        >>> hinge(torch.tensor([[[2.0]]]), torch.tensor([[[0.0]], [[-2.0]]])).item()
        0.5
    """
    return F.relu(1 - real).mean() + F.relu(1 + made).mean()
