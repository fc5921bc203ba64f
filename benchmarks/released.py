"""One iteration of the released MAGIC loop, with the work it does twice or throws away.

Written from a description of that loop in numbers (`setting_id 2`, mode `synthesis`), in plain
PyTorch and without a line of invertkit, so that the two can be compared: `step.py` compares their
speed, `tests/engine/test_released_step.py` their numbers, of a batch of one.

What an iteration does needlessly, and is kept here on purpose: the classifier runs three times
(logits of x; features of x; features of the reference, with a graph, then detached), always to the
end; its weights, and those of segmenter and critic in the backward of x, receive gradients that
are never used; the segmenter runs once more on x without use; the loss is read by Python.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TAPS = ("relu", "layer1", "layer2", "layer3")
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Settings:
    """The numbers of `setting_id 2`, mode `synthesis`."""

    total: int = 18_000
    warmup: int = 100
    lr: float = 0.2
    betas: tuple[float, float] = (0.9, 0.999)
    player_lr: float = 5e-4
    player_betas: tuple[float, float] = (0.5, 0.999)
    total_variation_l1: float = 1e-3
    total_variation_l2: float = 1e-3
    norm: float = 1e-5
    statistics: float = 500.0
    mask: float = 30.0
    critic: float = 0.05
    penalty: float = 0.1
    segmenter_until: int = 10_000
    critic_after: int = 5_000
    critic_every: int = 5


def normalised(image: Tensor) -> Tensor:
    """An image in [0, 1] in ImageNet units, where the loop lives."""
    mean, std = image.new_tensor(MEAN), image.new_tensor(STD)
    return (image - mean.reshape(1, 3, 1, 1)) / std.reshape(1, 3, 1, 1)


def make_segmenter() -> nn.Sequential:
    """Three convolutions, three transposed ones; norm and LeakyReLU after the last one too."""
    layers: list[nn.Module] = []
    for i, o in ((3, 64), (64, 64), (64, 64)):
        layers += [nn.Conv2d(i, o, 3), nn.BatchNorm2d(o), nn.LeakyReLU(0.2)]
    for i, o in ((64, 64), (64, 64), (64, 1)):
        layers += [nn.ConvTranspose2d(i, o, 3), nn.BatchNorm2d(o), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers).apply(_initialise)


def make_critic() -> nn.Sequential:
    """The patch critic that sees 21×21 pixels."""
    layers: list[nn.Module] = []
    for i, o, kernel, stride in (
        (3, 64, 4, 1),
        (64, 128, 4, 2),
        (128, 128, 4, 2),
        (128, 128, 3, 1),
    ):
        layers += [nn.Conv2d(i, o, kernel, stride), nn.BatchNorm2d(o), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(128, 1, 1)).apply(_initialise)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)


@dataclass
class Released:
    """The loop. `iteration` counts from 1 and may be set, to start in a later phase.

    Args:
        classifier: A torchvision ResNet.
        segmenter: See `make_segmenter`.
        critic: See `make_critic`.
        reference: In ImageNet units, as often as there are images in the batch; masks likewise.
        mask: Of the object in the reference, 0 or 1.
        target: Where it shall be.
        x: What is optimised, in ImageNet units.
        settings: The numbers.
    """

    classifier: nn.Module
    segmenter: nn.Module
    critic: nn.Module
    reference: Tensor
    mask: Tensor
    target: Tensor
    x: Tensor
    settings: Settings = Settings()
    iteration: int = 1
    best_loss: float = math.inf
    best: Tensor | None = None
    values: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = self.settings
        self.classifier.eval()
        self.segmenter.train()
        self.critic.train()
        self.x = self.x.detach().clone().requires_grad_()
        self.optimizer = torch.optim.Adam([self.x], lr=numbers.lr, betas=numbers.betas)
        players: dict[str, Any] = {"lr": numbers.player_lr, "betas": numbers.player_betas}
        self.segmenter_optimizer = torch.optim.Adam(self.segmenter.parameters(), **players)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), **players)
        with torch.no_grad():
            self.label = self.classifier(self.reference).argmax(1)

    def step(self, alpha: Tensor | None = None) -> float:
        """One iteration; the loss before it. `values` then holds every term's raw value.

        Args:
            alpha: Share of the reference in the mixture of the gradient penalty; by default drawn.
        """
        numbers, x, terms = self.settings, self.x, {}
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(self.iteration - 1)
        self.optimizer.zero_grad()
        self.classifier.zero_grad()

        terms["cross_entropy"] = nn.CrossEntropyLoss()(self.classifier(x), self.label)
        wanted = [f.detach() for f in self._features(self.reference)]
        terms["statistics"] = _statistics_loss(self._features(x), wanted)
        terms["total_variation_l1"], terms["total_variation_l2"] = _total_variation(x)
        terms["norm"] = torch.norm(x.flatten(1), dim=1).mean()
        if self.iteration < numbers.segmenter_until:
            self._learn_segmenter()
            self.segmenter(x.detach())
        terms["mask"] = nn.BCEWithLogitsLoss()(self.segmenter(x), self.target)
        if self.iteration > numbers.critic_after:
            if self.iteration % numbers.critic_every == 0:
                self._learn_critic(torch.rand(1, 1, 1, 1) if alpha is None else alpha)
            terms["critic"] = -self.critic(x).mean()

        weighted = [value * getattr(numbers, name, 1.0) for name, value in terms.items()]
        loss = torch.stack(weighted).sum()
        loss.backward(retain_graph=True)
        self.optimizer.step()
        if loss.item() < self.best_loss:
            self.best_loss, self.best = loss.item(), x.detach().clone()
        self.values = {name: value.detach() for name, value in terms.items()}
        self.iteration += 1
        return loss.item()

    def _rate(self, step: int) -> float:
        numbers = self.settings
        if step < numbers.warmup:
            return numbers.lr * (step + 1) / numbers.warmup
        share = (step - numbers.warmup) / (numbers.total - numbers.warmup)
        return 0.5 * (1 + math.cos(math.pi * share)) * numbers.lr

    def _features(self, image: Tensor) -> list[Tensor]:
        """The four layers, by hooks, in a forward of its own that runs to the end."""
        seen: dict[str, Tensor] = {}

        def keep(
            _module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor, name: str
        ) -> None:
            seen[name] = output

        handles = [
            self.classifier.get_submodule(name).register_forward_hook(partial(keep, name=name))
            for name in TAPS
        ]
        self.classifier(image)
        for handle in handles:
            handle.remove()
        return [seen[name] for name in TAPS]

    def _learn_segmenter(self) -> None:
        self.segmenter_optimizer.zero_grad()
        loss = nn.BCEWithLogitsLoss()(self.segmenter(self.reference), self.mask)
        loss.backward(retain_graph=True)
        self.segmenter_optimizer.step()

    def _learn_critic(self, alpha: Tensor) -> None:
        fake = self.x.detach()
        self.critic_optimizer.zero_grad()
        loss = self.critic(fake).mean() - self.critic(self.reference).mean()
        alpha = alpha.to(fake)  # drawn on the CPU
        between = (alpha * self.reference + (1 - alpha) * fake).detach().requires_grad_()
        scores = self.critic(between)
        (slope,) = torch.autograd.grad(
            scores, between, grad_outputs=torch.ones_like(scores), create_graph=True
        )
        loss = loss + self.settings.penalty * ((slope.norm(2, dim=1) - 1) ** 2).mean()
        loss.backward()
        self.critic_optimizer.step()


def _statistics_loss(features: list[Tensor], wanted: list[Tensor]) -> Tensor:
    losses = []
    for here, there in zip(features, wanted, strict=True):
        for ours, theirs in zip(_statistics(here), _statistics(there), strict=True):
            losses.append(F.mse_loss(ours, theirs))
    return torch.stack(losses).sum()


def _statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    flat = features.flatten(2)
    return flat.mean(2), (flat.var(2) + 1e-5).sqrt()


def _total_variation(x: Tensor) -> tuple[Tensor, Tensor]:
    differences = (
        x[:, :, :, :-1] - x[:, :, :, 1:],
        x[:, :, :-1, :] - x[:, :, 1:, :],
        x[:, :, 1:, :-1] - x[:, :, :-1, 1:],
        x[:, :, :-1, :-1] - x[:, :, 1:, 1:],
    )
    l1 = torch.stack([d.abs().mean() for d in differences]).sum()
    return l1, torch.stack([torch.norm(d) for d in differences]).sum()
