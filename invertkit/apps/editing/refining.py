"""Latents that make a moved picture: a descent from where a walk has led."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.apps.editing.directions import Steering, edited
from invertkit.core.params import Params
from invertkit.core.recording.fused_adam import FusedAdam
from invertkit.errors import InputError
from invertkit.models.generators.generator import Generator

RATE: Final = 0.05
"""Adam's, in deviations of the leading latent, and of what the classes' embeddings differ by."""


@final
@dataclass(frozen=True)
class Refined:
    """Latents after a descent to the moved pictures.

    Args:
        latents: All of the generator's, by name.
        losses: Mean squared distance to the moved pictures, where these show what the pictures
            showed.
        still: The same for the latents that were moved from.
    """

    latents: Params
    losses: Float[Tensor, " n"]
    still: Float[Tensor, " n"]


def refined(
    generator: Generator,
    start: Mapping[str, Float[Tensor, "n ..."]],
    walked: Mapping[str, Float[Tensor, "n ..."]],
    moves: Mapping[Steering, Float[Tensor, " n"]],
    *,
    steps: int = 60,
    weights: Float[Tensor, "#n p"] | None = None,
) -> Refined:
    """Descend to latents whose pictures are those of `start`, shifted and zoomed.

    A straight walk moves every latent alike, and of most generators no such line moves every
    picture as asked. Here each goes on by itself: Adam on its leading latent and its class
    embeddings, from the end of the walk. What the moves bring in from beyond the picture's edge
    does not count. Pictures that are moved by nothing keep their latents to the bit, and of all
    points on the way each keeps its lowest.

    Args:
        generator: Whose latents.
        start: Of the pictures to be moved.
        walked: Where the descent begins.
        moves: How far each picture is moved; see `edited`. Several follow one another.
        steps: Of Adam; none takes the lower of both ends of the walk.
        weights: Changes of the generator's weights, if they were tuned.

    Raises:
        InputError: Fewer steps than none.

    Source: ours. Jahanian et al. 2020 learn walks alone, straight or by a network.
    """
    if steps < 0:
        raise InputError(f"refine: expected steps ≥ 0, got {steps}.")
    with torch.no_grad():
        pictures = _made(generator, start, weights)
        wanted, counts = _moved(pictures, moves)
        still = _distances(pictures, wanted, counts)
    free = _free(generator, walked)
    best = {name: start[name].detach().clone() for name in free}
    lowest, moving = still.clone(), torch.stack(list(moves.values())).ne(0).any(0)
    optimizer = FusedAdam(free.values(), lr=RATE, factors=_factors(generator, free))
    for step in range(steps + 1):
        losses = _distances(_made(generator, {**walked, **free}, weights), wanted, counts)
        with torch.no_grad():
            better = moving & (losses < lowest)
            lowest = torch.where(better, losses.detach(), lowest)
            for name, row in free.items():
                best[name] = torch.where(_beside(better, row), row, best[name])
        if step == steps:
            break
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        _confine(generator, free)
    return Refined({**start, **best}, lowest, still)


def _made(
    generator: Generator, latents: Mapping[str, Tensor], weights: Tensor | None
) -> Float[Tensor, "n 3 h w"]:
    rows = {name: latents[name] for name in generator.latents}
    if weights is None:
        return generator.generate(**rows)
    count = len(next(iter(rows.values())))
    return generator.generate_with(weights.expand(count, -1), **rows)


def _moved(
    pictures: Float[Tensor, "n 3 h w"], moves: Mapping[Steering, Float[Tensor, " n"]]
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 1 h w"]]:
    """The pictures moved, and 1 where they show what was in the picture before."""
    counts = torch.ones_like(pictures)
    for move, amounts in moves.items():
        pictures, within = edited(pictures, move, amounts)
        counts = (edited(counts, move, amounts)[0] > 0.999).to(pictures) * within
    return pictures, counts[:, :1]


def _distances(
    pictures: Float[Tensor, "n 3 h w"],
    wanted: Float[Tensor, "n 3 h w"],
    counts: Float[Tensor, "n 1 h w"],
) -> Float[Tensor, " n"]:
    sums: Tensor = (counts * (pictures - wanted).square()).sum((1, 2, 3))
    return sums / (3 * counts.sum((1, 2, 3))).clamp(min=1)


def _free(generator: Generator, walked: Mapping[str, Tensor]) -> Params:
    """Leaves: the leading latent and the class embeddings."""
    names = (generator.leading, *generator.tables)
    return {name: walked[name].detach().clone().requires_grad_() for name in names}


def _factors(generator: Generator, free: Params) -> list[float]:
    """The unit of each tensor: its deviation, or that of its table over the classes."""
    units = []
    for name in free:
        table = generator.tables.get(name)
        if table is None:
            units.append(float(torch.as_tensor(generator.latents[name].deviation).mean()))
        else:
            units.append(float(table.std(0, correction=0).mean()))
    return units


def _confine(generator: Generator, free: Params) -> None:
    with torch.no_grad():
        spec = generator.latents[generator.leading]
        if spec.limit:
            spec.confine(free[generator.leading], spec.limit)


def _beside(which: Tensor, row: Tensor) -> Tensor:
    return which.reshape(-1, *[1] * (row.ndim - 1))
