"""What tests of population searches share: many minima, and BasinCMA as a plain loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.optimizers.base import Optimizer
from invertkit.optimizers.population.cma import CMA
from invertkit.optimizers.population.cma_es import CmaEs
from tests.helpers import normal
from tests.landscapes import FunctionLandscape

TOLD: tuple[Literal["refined", "sampled"], ...] = ("refined", "sampled")
LIMIT = 1.5
SEARCHED, BESIDE = (2, 2), 3
SIZE = math.prod(SEARCHED)


class Valley:
    """Losses of two tensors with many minima, another landscape for each image."""

    def __init__(self, images: int = 2, *, seeds: Sequence[int] = (), dtype: Any = None) -> None:
        self.images, self.seeds = images, tuple(seeds) or tuple(range(4, 4 + images))
        rows = [normal(SIZE + BESIDE, seed=seed) for seed in self.seeds]
        self.goal = torch.stack(rows)
        self.start = {
            "z": 0.3 * self.goal[:, :SIZE].reshape(-1, *SEARCHED),
            "c": 0 * self.goal[:, SIZE:],
        }
        self.params = {name: start.clone().requires_grad_() for name, start in self.start.items()}
        self.largest = 0.0

    def losses(self, points: Params) -> Tensor:
        z, c = points["z"], points["c"]
        goal = self.goal.repeat_interleave(len(z) // self.images, 0)
        self.largest = max(self.largest, float(z.detach().abs().max()))
        away = torch.cat([z.flatten(1), c], 1) - goal
        return away.square().sum(1) + (4 * away).sin().sum(1) + 0.3 * (z.flatten(1)[:, 0] * c[:, 0])

    def landscape(self, step: int, limit: float = math.inf) -> Fenced:
        at = Fenced(self.losses, self.params, randomness=Randomness(self.seeds), step=step)
        at.limit = limit
        return at

    def go(
        self,
        optimizer: Optimizer,
        total: int,
        *,
        start: int = 0,
        stop: int | None = None,
        held: Any = None,
        limit: float = math.inf,
        finish: bool = True,
    ) -> tuple[Any, list[Tensor]]:
        held = optimizer.init(self.params) if held is None else held
        losses = []
        for step in range(start, total if stop is None else stop):
            here = self.landscape(step, limit)
            losses.append(optimizer.step(here, self.params, held, step=step, total=total))
        if finish and stop is None:
            optimizer.finish(self.params, held)
        return held, losses


class Fenced(FunctionLandscape):
    """|z| is at most a limit; new starts of c are small numbers."""

    limit = math.inf

    def fresh(self, count: int, purpose: str) -> Params:
        draws = self.randomness.candidates(count, purpose)
        c = 0.1 * draws.normal("c", (BESIDE,)).double()
        return {"z": self.points["z"].detach().repeat_interleave(count, 0), "c": c}

    def confine(self) -> None:
        with torch.no_grad():
            self.points["z"].clamp_(-self.limit, self.limit)


@dataclass
class ByHand:
    """BasinCMA over z as one plain loop, Adam inside over both tensors."""

    valley: Valley
    outer: CmaEs
    lr: float
    inner_steps: int
    last_steps: int
    told: str
    limit: float = math.inf
    best: list[Tensor] = field(default_factory=list)
    judged: list[Tensor] = field(default_factory=list)
    search: Any = None

    def run(self, generations: int) -> list[Tensor]:
        valley, images = self.valley, self.valley.images
        rule = CMA(active=self.outer.active, clip_injected=self.outer.clip_injected)
        mean = valley.start["z"].flatten(1)
        self.search = rule.start(mean, self.outer.sigma)
        lowest = torch.full((images,), torch.inf, dtype=torch.float64)
        self.best, step = [start.clone() for start in valley.start.values()], 0
        for generation in range(generations + (self.last_steps > 0)):
            last = generation == generations
            size = rule.size(SIZE)
            randomness = Randomness(valley.seeds)
            normals = randomness.normal("population", (size, SIZE), step=step).double()
            drawn = rule.ask(self.search, normals)
            z = drawn.reshape(-1, *SEARCHED).clone().clamp_(-self.limit, self.limit)
            c = self.best[1].repeat_interleave(size, 0)
            if self.inner_steps:
                draws = randomness.candidates(size, f"generation{generation}")
                c = 0.1 * draws.normal("c", (BESIDE,)).double()
            inner = self.last_steps if last else self.inner_steps
            z.requires_grad_(), c.requires_grad_()
            adam = torch.optim.Adam([z, c], lr=self.lr, fused=True)
            for _ in range(inner):
                adam.zero_grad()
                valley.losses({"z": z, "c": c}).sum().backward()
                adam.step()
                with torch.no_grad():
                    z.clamp_(-self.limit, self.limit)
            step += max(1, inner)
            z, c = z.detach(), c.detach()
            losses = valley.losses({"z": z, "c": c}).reshape(images, size)
            self.judged.append(losses)
            for i in range(images):
                at = int(losses[i].argmin())
                if losses[i, at] < lowest[i]:
                    lowest[i] = losses[i, at]
                    self.best[0][i], self.best[1][i] = z[i * size + at], c[i * size + at]
            if not last:
                refined = self.told == "refined" and self.inner_steps > 0
                points = z.reshape(images, size, -1) if refined else drawn
                which = torch.full(losses.shape, refined)
                rule.tell(self.search, points, losses, injected=which)
        return self.best
