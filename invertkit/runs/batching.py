"""Which images are solved side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import torch

from invertkit.engine.problem import Problem

MOST: Final = 16
"""Images that an accelerator solves side by side, if nobody says how many."""


class Batch(NamedTuple):
    """Images that are solved side by side, those of one photograph next to each other.

    Attributes:
        seeds: One per image.
        of: The number of each image's photograph.
    """

    seeds: tuple[int, ...]
    of: tuple[int, ...]

    def apart(self) -> list[Batch]:
        """A batch for each photograph.

        Example:
            >>> Batch(seeds=(0, 1, 0, 1), of=(4, 4, 7, 7)).apart()
            [Batch(seeds=(0, 1), of=(4, 4)), Batch(seeds=(0, 1), of=(7, 7))]
        """
        rows = {
            number: [i for i, owner in enumerate(self.of) if owner == number] for number in self.of
        }
        return [
            Batch(tuple(self.seeds[i] for i in places), (number,) * len(places))
            for number, places in rows.items()
        ]


def most_images(problem: Problem, wanted: int | None, device: torch.device) -> int:
    """How many images are solved side by side at most.

    On a CPU one: it is as fast, takes less memory, and rounds the same whatever the company;
    unless a term asks for what images have in common. An optimizer that would mix images has them
    one by one.

    Args:
        problem: Of any of the images.
        wanted: What the user said, if anything.
        device: Where.
    """
    optimizers = [problem.optimizer_of(i) for i in range(len(problem.stages))]
    if any(optimizer.couples_images for optimizer in optimizers):
        return 1
    coupled = any(term.objective.couples_images for term in problem.terms)
    return wanted or (1 if device.type == "cpu" and not coupled else MOST)


def couples_photographs(problem: Problem) -> bool:
    """Whether a part mixes images of a batch, so that photographs cannot share one."""
    return any(player.couples_images for player in problem.players.values()) or any(
        term.objective.couples_images for term in problem.terms
    )


def batches(
    alike: Sequence[Sequence[int]], seeds: tuple[int, ...], *, most: int, mixed: bool
) -> Iterator[Batch]:
    """Every image in a batch.

    Args:
        alike: Numbers of photographs, those together whose stages have the same sizes.
        seeds: Of the images of each photograph.
        most: How many images share a batch.
        mixed: Whether photographs may share one.

    Example:
        >>> list(batches([[0, 1]], (5, 6), most=4, mixed=True))
        [Batch(seeds=(5, 6, 5, 6), of=(0, 0, 1, 1))]
        >>> [batch.of for batch in batches([[0, 1]], (5, 6), most=4, mixed=False)]
        [(0, 0), (1, 1)]
    """
    # A photograph's images stay in one batch, so that a batch has as many of each.
    together = most // len(seeds) if mixed else 1
    for numbers in alike:
        if together > 1:
            for first in range(0, len(numbers), together):
                some = numbers[first : first + together]
                yield Batch(seeds * len(some), tuple(n for n in some for _ in seeds))
            continue
        for number in numbers:
            for first in range(0, len(seeds), most):
                part = seeds[first : first + most]
                yield Batch(part, (number,) * len(part))
