"""What a part of a step says of it, so that steps that do the same work can be replayed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple


class Phase(NamedTuple):
    """What a part does on a step: steps of equal phases do the same operations.

    Attributes:
        key: Tells one kind of work from another; None where all steps are alike.
        replayable: Whether the work can be recorded and replayed at all. Where it cannot, the
            step is taken by Python.

    Example:
        >>> [Phase(step % 3 == 0) for step in range(2)]
        [Phase(key=True, replayable=True), Phase(key=False, replayable=True)]
    """

    key: Hashable = None
    replayable: bool = True


def unsaid(part: object, what: str) -> str:
    """The obstacle of a part that says nothing about it.

    Args:
        part: Of the run.
        what: Which of its doings may differ from step to step.

    Example:
        >>> unsaid(object(), "steps")
        'object does not say that its steps are alike'
    """
    return f"{type(part).__name__} does not say that its {what} are alike"
