"""Ctrl-C and `kill` wait until a step is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import final


@final
class Stopping:
    """While the block runs, an interrupt or a request to end is noted, not raised.

    The second one raises `KeyboardInterrupt` at once, and breaks the step. Outside the main thread
    nothing is changed: Python delivers signals to that one alone.

    Attributes:
        asked: Whether a signal came.

    Example:
        >>> with Stopping() as stopping:
        ...     signal.raise_signal(signal.SIGINT)
        ...     stopping.asked
        True
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
