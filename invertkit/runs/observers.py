"""What is called after every step."""

from __future__ import annotations

from collections.abc import Callable

from invertkit.engine.run import StepReport

Observer = Callable[[StepReport], object]
"""Called after every step. Returning `STOP` ends the run."""


STOP = "stop"
