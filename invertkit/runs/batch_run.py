"""One batch on its way, with what is recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from invertkit.core.images.resize import resize_image
from invertkit.core.signals import Stopping
from invertkit.engine.problem import Status
from invertkit.engine.run import Run
from invertkit.runs.history import History
from invertkit.runs.observers import STOP, Observer

FRAMES = 36


FRAME_SIDE = 160


@final
class _Going:
    """One batch on its way, with what is recorded of it.

    Args:
        run: Of the batch.
        of: The number of each image's photograph.
        state: To go on from.
    """

    def __init__(self, run: Run, of: Sequence[int], state: Mapping[str, Any] | None) -> None:
        self.run, self.of = run, tuple(of)
        self._firsts = [self.of.index(number) for number in dict.fromkeys(self.of)]
        self.history = History(state["rows"] if state else ())
        self.frames: list[list[Tensor]] = (
            [list(frames) for frames in state["frames"]] if state else [[] for _ in self._firsts]
        )
        self._every = max(1, run.problem.total_steps // FRAMES)
        if state:
            run.restore(state["run"])

    def go(
        self,
        observers: Sequence[Observer],
        stopping: Stopping,
        after: Callable[[Callable[[], dict[str, Any]]], object],
    ) -> Status:
        for report in self.run.steps():
            self.history.add(report)
            if report.step % self._every == 0 or report.step == report.total:
                images = self.run.last_images()
                for frames, first in zip(self.frames, self._firsts, strict=True):
                    frames.append(_frame(images[first]))
            if any([observer(report) == STOP for observer in observers]):
                self.run.status = Status.STOPPED
            if stopping.asked:
                self.run.status = Status.INTERRUPTED
            after(self.state)
        return self.run.status

    def state(self) -> dict[str, Any]:
        """All that is needed to go on, as tensors, numbers, strings, lists and dicts."""
        return {"run": self.run.save(), "rows": self.history.rows, "frames": self.frames}

    def outcome(self) -> dict[str, Any]:
        """All that is needed of it once it has ended, likewise."""
        return {
            "of": list(self.of),
            "seeds": list(self.run.problem.seeds),
            "step": self.run.step,
            "seconds": self.run.seconds,
            "lost": list(self.run.lost),
            "rows": self.history.rows,
            "frames": self.frames,
            "best": self.run.best_images(),
            "last": self.run.last_images(),
            "best_steps": self.run.best_steps(),
            "best_losses": self.run.best_losses(),
            "tensors": self.run.best_tensors(),
            "status": self.run.status.name,
        }


def _frame(image: Tensor) -> Tensor:
    """A small copy as bytes, for the animation."""
    height, width = image.shape[-2:]
    scale = min(1.0, FRAME_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return (resize_image(image[None], size)[0].clamp(0, 1) * 255).round().to("cpu", torch.uint8)
