"""A live progress bar with the loss by term."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from invertkit.engine import Report

_REFRESH = 0.2


def somebody_looks() -> bool:
    """Whether somebody is looking: a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@final
class Bar:
    """An observer that draws at most five times a second, so that no step waits for it.

    Args:
        images: How many images the job makes.
        one_by_one: They are made one after the other, not side by side.
        console: Where to draw; the terminal's error stream by default.
    """

    def __init__(
        self, *, images: int = 1, one_by_one: bool = True, console: Console | None = None
    ) -> None:
        self._images = images if one_by_one else 1
        self._image = 0
        self._last_step, self._drawn = 0, 0.0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=console or Console(stderr=True),
            auto_refresh=False,
        )
        self._task = self._progress.add_task("starting", total=1, losses="")

    def __enter__(self) -> Bar:
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

    def __call__(self, report: Report) -> None:
        """Take in a step."""
        if report.step < self._last_step:
            self._image += 1
        self._last_step = report.step
        now = time.monotonic()
        if now - self._drawn < _REFRESH and report.step < report.total:
            return
        self._drawn = now
        terms = (
            f"{name} {report.weights[name] * value.mean().item():.3g}"
            for name, value in report.values.items()
        )
        which = f"image {self._image + 1}/{self._images} " if self._images > 1 else ""
        self._progress.update(
            self._task,
            total=report.total,
            completed=report.step,
            description=f"{which}{report.size[1]}×{report.size[0]}",
            losses=f"loss {report.losses.mean().item():.4g} = " + " + ".join(terms),
        )
        self._progress.refresh()
