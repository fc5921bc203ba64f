"""One of the words that are known, or a sentence with the nearest."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TypeVar

from invertkit.errors import InputError

T = TypeVar("T")


def one_of(name: str, value: str, known: Sequence[T]) -> T:
    """The one of `known` that somebody wrote.

    Raises:
        InputError: None of them.
    """
    for each in known:
        if value == each:
            return each
    near = get_close_matches(value, map(str, known), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"{name}: expected {', '.join(map(str, known))}, got {value!r}.{hint}")
