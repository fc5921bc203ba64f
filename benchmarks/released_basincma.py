"""The released BasinCMA loop of pix2latent, with the work it does twice or throws away.

Written from a description of that loop in numbers (master, latent and class embedding without a
transform), in plain PyTorch and `cma` and without a line of invertkit, so that the two can be
compared: `step.py --loop basincma` compares their speed,
`tests/engine/test_released_basincma.py` their numbers.

What it does needlessly, and is kept here on purpose: the generator is never frozen, so its weights
and the heads of the perceptual distance take gradients at every step, which are never cleared;
the perceptual features of the target are computed again for every candidate at every step; every
candidate has tensors and parameter groups of its own, stacked anew for each chunk, with its own
copies of target and mask, which are made again for each generation, as the Adam object is; latents
and embeddings are copied to the CPU at every step to be tracked, and the losses of every chunk;
chunks share one optimizer, which is asked to step for each of them; the judging of the candidates
builds a graph, since it goes through the optimizer's step.

Where the paper and the code differ, this is the code: CMA is told of the points it drew (the
paper, and the older branch, of where they have descended to: `told="refined"`); maps of perceptual
distances are enlarged to the image and weighed there (the paper shrinks the mask); the embedding
moves at 0.01 (the paper: 1e-4); and the long descent has a population of its own (in the paper it
is the last of the generations). It is the code under PyTorch 2, where clearing gradients leaves
none, so that a chunk's step does not move the candidates of the other chunks.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it misses matplotlib
    import cma


@dataclass(frozen=True)
class Settings:
    """The numbers of the released examples."""

    inner_steps: int = 30
    last_steps: int = 300
    lr: float = 0.05
    embedding_lr: float = 0.01
    limit: float = 2.0
    sigma: float = 1.0
    beta: float = 10.0
    outside: float = 0.3
    population: int | None = None
    chunk: int = 9
    told: Literal["sampled", "refined"] = "sampled"


class Perceptual(nn.Module):
    """LPIPS: a frozen trunk, and a head for every one of its layers that is not frozen.

    Args:
        parts: The trunk, cut where it is read.
        heads: `(c,)` for every part.
        mean: Of the trunk's normalisation of images in [0, 1].
        std: Likewise.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        parts: Sequence[nn.Module],
        heads: Sequence[Tensor],
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts).requires_grad_(False)
        self.heads = nn.ModuleList(nn.Conv2d(len(head), 1, 1, bias=False) for head in heads)
        with torch.no_grad():
            for module, head in zip(self.heads.parameters(), heads, strict=True):
                module.copy_(head[None, :, None, None])
        shift, scale = (torch.tensor(x, dtype=torch.float64)[:, None, None] for x in (mean, std))
        self.register_buffer("shift", 2 * shift - 1)
        self.register_buffer("scale", 2 * scale)
        self.eval()

    def forward(self, image: Tensor, other: Tensor) -> Tensor:
        """Map of distances of images in [-1, 1], at their size."""
        here, there = self._features(image), self._features(other)
        maps = []
        for head, a, b in zip(self.heads, here, there, strict=True):
            distance = head((_unit(a) - _unit(b)) ** 2)
            maps.append(
                F.interpolate(distance, image.shape[2:], mode="bilinear", align_corners=False)
            )
        return torch.stack(maps).sum(0)

    def _features(self, image: Tensor) -> list[Tensor]:
        features, found = (image - self.shift) / self.scale, []
        for part in self.parts:
            features = part(features)
            found.append(features)
        return found


def _unit(features: Tensor) -> Tensor:
    return features / (torch.sqrt(torch.sum(features**2, dim=1, keepdim=True)) + 1e-10)


@dataclass
class ReleasedBasinCMA:
    """The loop.

    Args:
        generator: From `(b, z)` and `(b, e)` to pictures in [-1, 1]; not frozen.
        perceptual: Distance of pictures.
        target: The photograph, `(3, h, w)` in [-1, 1].
        mask: Of the object in it, `(3, h, w)` in [0, 1].
        embedding: Of the class, `(e,)`.
        latent: Length of z.
        settings: The numbers.
        cma_options: For `cma.CMAEvolutionStrategy`, beyond its defaults.
    """

    generator: nn.Module
    perceptual: Perceptual
    target: Tensor
    mask: Tensor
    embedding: Tensor
    latent: int
    settings: Settings = Settings()
    cma_options: Mapping[str, Any] = field(default_factory=dict)
    tracked: list[tuple[list[Tensor], list[Tensor]]] = field(default_factory=list)
    losses: Tensor = field(default_factory=lambda: torch.empty(0))

    def __post_init__(self) -> None:
        options = {"verbose": -9} | dict(self.cma_options)
        if self.settings.population is not None:
            options["popsize"] = self.settings.population
        self.generator.eval()
        self.search = cma.CMAEvolutionStrategy([0.0] * self.latent, self.settings.sigma, options)
        self.latents: list[Tensor] = []
        self.embeddings: list[Tensor] = []

    def generation(self) -> None:
        """Draw, descend, judge, tell; `losses` are then those that were told."""
        drawn = self.search.ask()
        self.populate(drawn)
        for _ in range(self.settings.inner_steps):
            self.descend()
        self.losses = self.judge()
        refined = [latent.detach().cpu().double().numpy() for latent in self.latents]
        told = refined if self.settings.told == "refined" else drawn
        self.search.tell(told, self.losses.tolist())

    def finish(self) -> Tensor:
        """The long descent of a last population; the best candidate's picture."""
        self.populate(self.search.ask())
        for _ in range(self.settings.last_steps):
            self.descend()
        best = int(self.judge().argmin())
        picture: Tensor = self.generator(self.latents[best][None], self.embeddings[best][None])
        return picture.detach()

    def populate(self, points: Sequence[Any]) -> None:
        """Tensors, copies of the target and an optimizer for every candidate."""
        numbers, like = self.settings, self.embedding
        self.latents = [
            torch.tensor(point, dtype=like.dtype).to(like.device).requires_grad_()
            for point in points
        ]
        self.embeddings = [like.detach().clone().requires_grad_() for _ in points]
        weights = self.mask.clamp(numbers.outside, 1)
        self.targets = [self.target.clone().to(like.device) for _ in points]
        self.masks = [weights.clone().to(like.device) for _ in points]
        self.optimizer = torch.optim.Adam(
            [
                *({"params": [z], "lr": numbers.lr} for z in self.latents),
                *({"params": [c], "lr": numbers.embedding_lr} for c in self.embeddings),
            ]
        )

    def descend(self) -> Tensor:
        """One Adam step of all candidates, chunk by chunk; the losses before it."""
        losses = self._all(optimize=True)
        self.tracked.append(
            (
                [z.detach().cpu().clone() for z in self.latents],
                [c.detach().cpu().clone() for c in self.embeddings],
            )
        )
        return losses

    def judge(self) -> Tensor:
        """The losses of the candidates as they are."""
        return self._all(optimize=False)

    def _all(self, *, optimize: bool) -> Tensor:
        count, size = len(self.latents), self.settings.chunk
        chunks = [range(i, min(i + size, count)) for i in range(0, count, size)]
        return torch.cat([self._chunk(rows, optimize=optimize) for rows in chunks])

    def _chunk(self, rows: range, *, optimize: bool) -> Tensor:
        found: list[Tensor] = []

        def closure() -> float:
            self.optimizer.zero_grad()
            for i in rows:
                self.latents[i].data.clamp_(-self.settings.limit, self.settings.limit)
            z = torch.stack([self.latents[i] for i in rows])
            c = torch.stack([self.embeddings[i] for i in rows])
            target = torch.stack([self.targets[i] for i in rows])
            mask = torch.stack([self.masks[i] for i in rows])
            losses = self._losses(self.generator(z, c), target, mask)
            if optimize:
                losses.mean().backward()
            found.append(losses.detach().cpu())
            return 0.0

        self.optimizer.step(closure)
        return found[0]

    def _losses(self, image: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        total = mask.sum((1, 2, 3))
        pixels = ((image - target).abs() * mask).sum((1, 2, 3)) / total
        distances: Tensor = (self.perceptual(image, target) * mask).sum((1, 2, 3)) / total
        return pixels + self.settings.beta * distances
