"""One batch on its way, with what is recorded of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, final

import torch
from torch import Tensor

from invertkit.core.images.resize import resize_image
from invertkit.engine.problem import Status
from invertkit.engine.run import Run, StepReport
from invertkit.runs.batch_outcome import BatchOutcome
from invertkit.runs.history import History

FRAMES: Final = 36
"""Pictures of an animation."""

FRAME_SIDE: Final = 160
"""Largest side of one, in pixels."""


@final
class BatchRun:
    """One batch on its way, with what is recorded of it.

    Args:
        run: Of the batch.
        of: The number of each image's photograph.
        state: To go on from.
    """

    def __init__(self, run: Run, of: Sequence[int], state: Mapping[str, Any] | None = None) -> None:
        self.run, self.of = run, tuple(of)
        self._firsts = [self.of.index(number) for number in dict.fromkeys(self.of)]
        self.history = History(state["rows"] if state else ())
        self.frames: list[list[Tensor]] = (
            [list(frames) for frames in state["frames"]] if state else [[] for _ in self._firsts]
        )
        self._every = max(1, run.problem.total_steps // FRAMES)
        if state:
            run.restore(state["run"])

    def steps(self) -> Iterator[StepReport]:
        """Take the steps that are left, one at a time, and record them."""
        for report in self.run.steps():
            self.history.add(report)
            # Bytes of a small picture now and then: an animation must not fill the memory.
            if report.step % self._every == 0 or report.step == report.total:
                images = self.run.last_images()
                for frames, first in zip(self.frames, self._firsts, strict=True):
                    frames.append(_frame(images[first]))
            yield report

    @property
    def status(self) -> Status:
        """How it ended, or that it has not; whoever breaks off after the last step has them all."""
        taken = self.run.step == self.run.problem.total_steps
        if self.run.status is Status.RUNNING and taken:
            return Status.NON_FINITE if any(self.run.lost) else Status.FINISHED
        return self.run.status

    def state(self) -> dict[str, Any]:
        """All that is needed to go on, as tensors, numbers, strings, lists and dicts."""
        return {"run": self.run.save(), "rows": self.history.rows, "frames": self.frames}

    def outcome(self) -> BatchOutcome:
        """What it has come to."""
        run = self.run
        return BatchOutcome(
            of=self.of,
            seeds=run.problem.seeds,
            step=run.step,
            seconds=run.seconds,
            lost=run.lost,
            rows=self.history.rows,
            frames=self.frames,
            best=run.best_images(),
            last=run.last_images(),
            best_steps=tuple(run.best_steps()),
            best_losses=tuple(run.best_losses()),
            tensors=run.best_tensors(),
            status=self.status,
        )


def _frame(image: Tensor) -> Tensor:
    """A small copy as bytes, for the animation."""
    height, width = image.shape[-2:]
    scale = min(1.0, FRAME_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return (resize_image(image[None], size)[0].clamp(0, 1) * 255).round().to("cpu", torch.uint8)
