"""One iteration of the released DeepInversion loop, with the work it does twice or throws away.

Written from a description of that loop in numbers (ImageNet, its settings 0, 1 and 2, without the
competing student of Adaptive DeepInversion), in plain PyTorch and without a line of invertkit, so
that the two can be compared: `step.py --loop deepinversion` compares their speed,
`tests/engine/test_released_deepinversion.py` their numbers.

What an iteration does needlessly, and is kept here on purpose: the classifier's weights take
gradients that are never used and are cleared at every step; its batch-norm hooks copy every input
into another layout for the variance; the batch is shifted by one copy and mirrored by another; the
clip goes channel by channel; the loss is read by Python, which decides by it whether the batch is
the best and copied. The optimizer is made anew for each stage.

Kept too, though it is the method and not waste: statistics and total variation are taken over the
whole batch, so its images depend on each other, and the whole batch is shifted alike. The paper
does not say how the image gets from one stage to the next: in the code it is one 224-pixel tensor,
of which the first stage of setting 0 sees means of 2×2.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Stage:
    """So many iterations on an image `shrink` times smaller than the tensor."""

    iterations: int
    shrink: int = 1


@dataclass(frozen=True)
class Settings:
    """The numbers of setting 0; see `setting` for the others."""

    stages: tuple[Stage, ...] = (Stage(2_000, 2), Stage(1_000))
    betas: tuple[float, float] = (0.5, 0.9)
    clip: bool = True
    warmup: int = 100
    lr: float = 0.2
    jitter: int = 30
    flip: bool = True
    first_bn_multiplier: float = 10.0
    statistics: float = 0.05
    total_variation: float = 1e-4
    norm: float = 1e-5

    @property
    def total(self) -> int:
        """Iterations of all stages."""
        return sum(stage.iterations for stage in self.stages)


def setting(number: int) -> Settings:
    """Setting 0, 1 or 2 of the released code."""
    if number == 0:
        return Settings()
    if number == 1:
        return Settings(stages=(Stage(2_000),))
    return Settings(stages=(Stage(20_000),), betas=(0.9, 0.999), clip=False)


class _StatisticsHook:
    """Distance of a batch-norm input's statistics over the batch to the stored ones."""

    def __init__(self, module: nn.Module) -> None:
        self.value = torch.empty(0)
        self.handle = module.register_forward_hook(self._see)

    def _see(self, module: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        (features,) = inputs
        channels = features.shape[1]
        mean = features.mean([0, 2, 3])
        rows = features.permute(1, 0, 2, 3).contiguous().view(channels, -1)
        variance = rows.var(1, unbiased=False)
        self.value = torch.norm(module.running_var.data - variance, 2) + torch.norm(
            module.running_mean.data - mean, 2
        )


@dataclass
class DeepInversion:
    """The loop. `iteration` counts from 1 and may be set, to start anywhere.

    Args:
        classifier: With batch norm; takes images in ImageNet units.
        labels: Wanted class of every image.
        x: What is optimised, in ImageNet units.
        settings: The numbers.
    """

    classifier: nn.Module
    labels: Tensor
    x: Tensor
    settings: Settings = Settings()
    iteration: int = 1
    best_loss: float = math.inf
    best: Tensor | None = None
    values: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.classifier.eval()
        self.x = self.x.detach().clone().requires_grad_()
        self.optimizer: torch.optim.Adam | None = None
        self.stage = -1
        self.hooks: list[_StatisticsHook] = []

    def step(self, shift: tuple[int, int] | None = None, *, flip: bool | None = None) -> float:
        """One iteration; the loss before it. `values` then holds every term's raw value.

        Args:
            shift: Pixels down and to the right; by default drawn.
            flip: Whether the batch is mirrored; by default drawn.
        """
        numbers, stage, here = self.settings, *self.place()
        if not self.hooks:
            norms = [m for m in self.classifier.modules() if isinstance(m, nn.BatchNorm2d)]
            self.hooks = [_StatisticsHook(norm) for norm in norms]
        if stage != self.stage or self.optimizer is None:
            self.stage = stage
            self.optimizer = torch.optim.Adam([self.x], lr=numbers.lr, betas=numbers.betas)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(here, numbers.stages[stage].iterations)

        look = self._look(numbers.stages[stage].shrink, shift, flip=flip)
        self.optimizer.zero_grad()
        self.classifier.zero_grad()
        logits = self.classifier(look)
        distances = [hook.value for hook in self.hooks]
        distances[0] = numbers.first_bn_multiplier * distances[0]
        terms = {
            "cross_entropy": nn.CrossEntropyLoss()(logits, self.labels),
            "statistics": torch.stack(distances).sum(),
            "total_variation": _total_variation(look),
            "norm": torch.norm(look.reshape(len(look), -1), dim=1).mean(),
        }
        weighted = [value * getattr(numbers, name, 1.0) for name, value in terms.items()]
        loss = torch.stack(weighted).sum()
        loss.backward()
        self.optimizer.step()
        if numbers.clip:
            self.x.data = _clipped(self.x.data)
        if loss.item() < self.best_loss:
            self.best_loss, self.best = loss.item(), self.x.data.clone()
        self.values = {name: value.detach() for name, value in terms.items()}
        self.iteration += 1
        return loss.item()

    def place(self) -> tuple[int, int]:
        """Stage, and iteration in it from 0."""
        here = self.iteration - 1
        for index, stage in enumerate(self.settings.stages):
            if here < stage.iterations:
                return index, here
            here -= stage.iterations
        raise RuntimeError(f"there are only {self.settings.total} iterations")

    def _rate(self, here: int, iterations: int) -> float:
        numbers = self.settings
        if here < numbers.warmup:
            return numbers.lr * (here + 1) / numbers.warmup
        share = (here - numbers.warmup) / (iterations - numbers.warmup)
        return 0.5 * (1 + math.cos(math.pi * share)) * numbers.lr

    def _look(self, shrink: int, shift: tuple[int, int] | None, *, flip: bool | None) -> Tensor:
        """The batch made smaller, shifted and mirrored."""
        look = self.x if shrink == 1 else nn.AvgPool2d(shrink)(self.x)
        reach = self.settings.jitter // shrink
        if shift is None:
            shift = random.randint(-reach, reach), random.randint(-reach, reach)
        look = torch.roll(look, shifts=shift, dims=(2, 3))
        if flip is None:
            flip = self.settings.flip and random.random() > 0.5
        return torch.flip(look, dims=(3,)) if flip else look


def _total_variation(x: Tensor) -> Tensor:
    differences = (
        x[:, :, :, :-1] - x[:, :, :, 1:],
        x[:, :, :-1, :] - x[:, :, 1:, :],
        x[:, :, 1:, :-1] - x[:, :, :-1, 1:],
        x[:, :, :-1, :-1] - x[:, :, 1:, 1:],
    )
    return torch.stack([torch.norm(d) for d in differences]).sum()


def _clipped(x: Tensor) -> Tensor:
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        x[:, channel] = torch.clamp(x[:, channel], -mean / std, (1 - mean) / std)
    return x
