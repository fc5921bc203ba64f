"""Live progress bars with numbers beside them."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_REFRESH: Final = 0.2


def somebody_looks() -> bool:
    """Whether somebody is looking: a terminal or a notebook."""
    # A notebook's streams are no terminals, but its kernel shows what is written to them.
    return sys.stderr.isatty() or "ipykernel" in sys.modules


class LiveBar:
    """A bar that is drawn at most five times a second, so that no step waits for it.

    Args:
        console: Where to draw; the terminal's error stream by default.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._drawn = 0.0
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=console or Console(stderr=True),
            # A thread that draws by itself would take turns with the steps on a small CPU.
            auto_refresh=False,
        )
        self._task = self.bar.add_task("starting", total=1, numbers="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.refresh()
        self.bar.stop()

    def due(self) -> bool:
        """Whether it was last drawn long enough ago."""
        return time.monotonic() - self._drawn >= _REFRESH

    def draw(self, step: int, total: int, description: str, numbers: str) -> None:
        """Draw it now, whether or not it is due.

        Args:
            step: How far it is.
            total: Where it ends.
            description: Before the bar.
            numbers: After it.
        """
        self._drawn = time.monotonic()
        self.bar.update(
            self._task, total=total, completed=step, description=description, numbers=numbers
        )
        self.bar.refresh()
