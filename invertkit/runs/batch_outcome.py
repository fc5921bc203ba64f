"""What a batch has come to, as data that a checkpoint holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar, final

from jaxtyping import Float, UInt8
from torch import Tensor

from invertkit.engine.problem import Status

T = TypeVar("T")

UNFINISHED = (Status.INTERRUPTED, Status.STOPPED, Status.RUNNING)
"""How a batch ends of which not every step was taken."""


@final
@dataclass(frozen=True)
class BatchOutcome:
    """Pictures, history and facts of the images of one batch.

    Args:
        of: The number of each image's photograph.
        seeds: One per image.
        step: Steps taken.
        seconds: Time spent in them.
        lost: Whether each image met a loss that is not finite.
        rows: History; see `History.rows`.
        frames: Pictures on the way of the first image of each photograph, for animations.
        best: Images of lowest loss since the last change of stage or terms, in [0, 1].
        last: Images after the last step, in [0, 1].
        best_steps: Step of each best image, from 0.
        best_losses: Loss of each best image.
        tensors: What the best images were made of, by name, one row an image.
        status: How it ended.
    """

    of: tuple[int, ...]
    seeds: tuple[int, ...]
    step: int
    seconds: float
    lost: tuple[bool, ...]
    rows: list[dict[str, Any]]
    frames: list[list[UInt8[Tensor, "3 _ _"]]]
    best: Float[Tensor, "b 3 h w"]
    last: Float[Tensor, "b 3 h w"]
    best_steps: tuple[int, ...]
    best_losses: tuple[float, ...]
    tensors: dict[str, Tensor]
    status: Status

    @property
    def is_whole(self) -> bool:
        """Whether every step was taken that could be."""
        return self.status not in UNFINISHED

    def of_photograph(self, number: int) -> BatchOutcome:
        """The images of one photograph, as an outcome of its own, of photograph 0."""
        places = [row for row, owner in enumerate(self.of) if owner == number]

        def some(values: Sequence[T]) -> list[T]:
            return [values[row] for row in places]

        return replace(
            self,
            of=(0,) * len(places),
            seeds=tuple(some(self.seeds)),
            seconds=self.seconds * len(places) / len(self.of),
            lost=tuple(some(self.lost)),
            rows=[
                {
                    **row,
                    "values": {name: some(values) for name, values in row["values"].items()},
                    "losses": some(row["losses"]),
                }
                for row in self.rows
            ],
            frames=[self.frames[list(dict.fromkeys(self.of)).index(number)]],
            best=self.best[places],
            last=self.last[places],
            best_steps=tuple(some(self.best_steps)),
            best_losses=tuple(some(self.best_losses)),
            tensors={name: value[places] for name, value in self.tensors.items()},
        )

    def save(self) -> dict[str, Any]:
        """All of it as tensors, numbers, strings, lists and dicts; see `load_batch`."""
        return {
            **{each.name: getattr(self, each.name) for each in fields(self)},
            "status": self.status.name,
        }


@final
@dataclass(frozen=True)
class BatchFailure:
    """A batch of one photograph with which the recipe cannot go on.

    Args:
        of: The number of each image's photograph.
        reason: A sentence for the user.
    """

    of: tuple[int, ...]
    reason: str

    def save(self) -> dict[str, Any]:
        """All of it as plain data; see `load_batch`."""
        return {"of": self.of, "reason": self.reason}


EndedBatch = BatchOutcome | BatchFailure


def load_batch(saved: Mapping[str, Any]) -> EndedBatch:
    """What `save` of either saw.

    Example:
        >>> load_batch(BatchFailure((0,), "It has no mask.").save())
        BatchFailure(of=(0,), reason='It has no mask.')
    """
    if "reason" in saved:
        return BatchFailure(**saved)
    return BatchOutcome(**{**saved, "status": Status[saved["status"]]})
