"""What may be wrong with a checkpoint, before a path and an advice are known."""

from __future__ import annotations

from typing import Any


class ForeignNameError(Exception):
    """The file names something that has no place in a checkpoint."""


class DamagedError(Exception):
    """The file is no whole PyTorch checkpoint."""


def not_whole(key: Any) -> DamagedError:
    """Of the storage of that key the file has more or fewer bytes than it says."""
    return DamagedError(f"the data of storage {shown(str(key))} are not whole")


def shown(origin: str) -> str:
    r"""A name of the file for a message: one short line, whatever is in it.

    Example:
        >>> shown("os\nsystem")
        'os\\nsystem'
    """
    return ascii(origin[:80])[1:-1]
