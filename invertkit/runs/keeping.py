"""What is kept of a job while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from invertkit.runs.checkpoint import Checkpoint


@final
@dataclass(frozen=True, kw_only=True)
class Keeping:
    """Where a job under way is kept, how often, and what it goes on from.

    Args:
        folder: An empty folder, or that of the interrupted run whose `state` is given; None to
            write nothing. With several photographs each has a sub-folder, which is written when
            its images are made.
        checkpoint_every: Seconds between checkpoints, if there is a folder.
        judge: Whether to measure IoU with the target by a segmenter trained for it.
        state: The checkpoint to go on from.

    Example:
        >>> Keeping(checkpoint_every=60.0).images_made
        0
    """

    folder: Path | None = None
    checkpoint_every: float = 20.0
    judge: bool = False
    state: Checkpoint | None = None

    @property
    def images_made(self) -> int:
        """How many images there are before the first step."""
        return 0 if self.state is None else self.state.images_made
