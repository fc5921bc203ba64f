"""The progress bar of a training."""

from __future__ import annotations

from typing import final

from rich.console import Console

from invertkit.core.live_bar import LiveBar
from invertkit.training.loop.history import TrainingMoment


@final
class TrainingBar(LiveBar):
    """An observer of a training.

    Args:
        console: Where to draw; the terminal's error stream by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._epoch, self._said = "starting", ""

    def say(self, sentence: str) -> None:
        """A line above the bar."""
        self.bar.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def __call__(self, moment: TrainingMoment) -> None:
        """Take in a step."""
        if moment.row is not None:
            self._epoch = f"epoch {moment.row.epoch}"
            self._said = (
                f"loss {moment.row.loss:.3f} accuracy {moment.row.accuracy:.3f} "
                f"{moment.row.images_per_second:.0f} images/s"
            )
        elif not self.due() and moment.step < moment.total:
            return
        self.draw(moment.step, moment.total, self._epoch, self._said)
