"""The progress bar of a training."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from invertkit.training.history import Moment

_REFRESH: Final = 0.2


@final
class TrainingBar:
    """An observer that draws at most five times a second.

    Args:
        console: Where to draw; the terminal's error stream by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._drawn, self._said = 0.0, ""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=console or Console(stderr=True),
            auto_refresh=False,
        )
        self._task = self._progress.add_task("starting", total=1, numbers="")

    def __enter__(self) -> TrainingBar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.refresh()
        self._progress.stop()

    def say(self, sentence: str) -> None:
        """A line above the bar."""
        self._progress.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def __call__(self, moment: Moment) -> None:
        """Take in a step."""
        now = time.monotonic()
        if moment.row is not None:
            self._said = (
                f"loss {moment.row.loss:.3f} accuracy {moment.row.accuracy:.3f} "
                f"{moment.row.images_per_second:.0f} images/s"
            )
            self._progress.update(self._task, description=f"epoch {moment.row.epoch}")
        elif now - self._drawn < _REFRESH and moment.step < moment.total:
            return
        self._drawn = now
        self._progress.update(
            self._task, total=moment.total, completed=moment.step, numbers=self._said
        )
        self._progress.refresh()
