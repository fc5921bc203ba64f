"""The batches of a training: which photographs, how augmented, whose share of them.

Order and augmentation are functions of the seed, the epoch and the number of the photograph alone.
So any number of processes and of reading workers shows the same batches, and a training that goes
on in the middle of an epoch sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.training.data.photographs import PhotographSet, resized

_STRIDE: Final = 0x9E3779B97F4A7C15


class TrainingBatch(NamedTuple):
    """One process's share of a step's photographs.

    Attributes:
        images: In [0, 1].
        labels: Their classes.
        rows: Their numbers in the data.
    """

    images: Float[Tensor, "b 3 h w"]
    labels: Int[Tensor, " b"]
    rows: Int[Tensor, " b"]


@final
@dataclass(frozen=True)
class Share:
    """Which part of every batch a process takes.

    Args:
        rank: Number of the process.
        world: How many there are.
    """

    rank: int = 0
    world: int = 1

    def of(self, rows: Int[Tensor, "s b"]) -> Int[Tensor, "s c"]:
        """This process's columns of the rows of every batch."""
        each = rows.shape[1] // self.world
        return rows[:, self.rank * each : (self.rank + 1) * each]


class TrainingData(Protocol):
    """What a training asks of its photographs."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none where nobody labelled the photographs."""
        ...

    @property
    def source(self) -> str:
        """What to call them in a message and in the model card."""
        ...

    def __len__(self) -> int: ...

    def statistics(self) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]] | None:
        """Mean and standard deviation of each channel, where they are cheap to have."""
        ...

    def epoch(
        self, epoch: int, *, size: int, batch: int, seed: int, share: Share, first: int = 0
    ) -> Iterator[TrainingBatch]:
        """One shuffled epoch from batch number `first` on; an incomplete last batch is dropped.

        Args:
            epoch: Its number.
            size: Side of the images in pixels.
            batch: Images of all processes together.
            seed: Of order and augmentation.
            share: Which part of every batch to give.
            first: Batches to leave out.
        """
        ...


def mixed(*numbers: int) -> int:
    """A seed from several numbers, spread over 63 bits so that neighbours have nothing in common.

    Source: the finaliser of SplitMix64, Steele, Lea & Flood 2014.

    Example:
        >>> mixed(0, 1) != mixed(1, 0)
        True
    """
    state = 0
    # By turns, so that their order counts.
    for number in numbers:
        state = (state + number + 1) * _STRIDE % 2**64
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
        state ^= state >> 31
    return state >> 1


def rows_of_epoch(count: int, *, epoch: int, batch: int, seed: int) -> Int[Tensor, "s b"]:
    """Numbers of the photographs of every batch of an epoch.

    Raises:
        InputError: There are fewer photographs than a batch takes.

    Example:
        >>> rows_of_epoch(7, epoch=0, batch=3, seed=0).shape  # the seventh waits for another epoch
        torch.Size([2, 3])
    """
    if count < batch:
        raise InputError(
            f"expected at least a batch of {batch} photographs, got {count}. Use a smaller --batch."
        )
    # Not of the step: whoever goes on in the middle of an epoch draws the same order.
    generator = torch.Generator().manual_seed(mixed(seed, epoch))
    steps = count // batch
    order: Tensor = torch.randperm(count, generator=generator)
    return order[: steps * batch].reshape(steps, batch)


@final
@dataclass(frozen=True)
class InMemory:
    """Photographs held as bytes, augmented on the way: for small sets.

    Augmentation: reflected border of an eighth, random crop, random mirroring.

    Args:
        data: The photographs.
        source: What to call them.
    """

    data: PhotographSet
    source: str = "photographs"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.data.classes

    def __len__(self) -> int:
        return len(self.data)

    def statistics(self) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
        """Mean and standard deviation of each channel over all pixels."""
        pixels = self.data.images.float() / 255
        return pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))

    def epoch(
        self, epoch: int, *, size: int, batch: int, seed: int, share: Share, first: int = 0
    ) -> Iterator[TrainingBatch]:
        """One shuffled epoch; see `TrainingData`."""
        rows = rows_of_epoch(len(self), epoch=epoch, batch=batch, seed=seed)
        side = self.data.images.shape[-1]
        border = max(1, side // 8)
        generator = torch.Generator().manual_seed(mixed(seed, epoch, 1))
        # For all photographs, wanted here or not, so that no share depends on another.
        corners = torch.randint(0, 2 * border + 1, (len(self), 2), generator=generator)
        flips = torch.rand(len(self), generator=generator) < 0.5
        for mine in share.of(rows)[first:]:
            padded = F.pad(self.data.images[mine].float() / 255, (border,) * 4, mode="reflect")
            images = torch.stack(
                [
                    window.flip(-1) if flip else window
                    for picture, (top, left), flip in zip(
                        padded, corners[mine].tolist(), flips[mine].tolist(), strict=True
                    )
                    for window in [picture[:, top : top + side, left : left + side]]
                ]
            )
            yield TrainingBatch(resized(images, size), self.data.labels[mine], mine)
