"""Words that somebody wrote, held against those that are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TypeVar

from invertkit.errors import InputError

T = TypeVar("T")


def did_you_mean(word: object, known: Iterable[object], *, cutoff: float = 0.6) -> str:
    """A question to append to a message, with a space before it; empty if nothing is near.

    Args:
        word: What somebody wrote.
        known: What would have been right.
        cutoff: How alike they must be, from 0 to 1.

    Example:
        >>> did_you_mean("adma", ["adam", "lbfgs"])
        " Did you mean 'adam'?"
        >>> did_you_mean("sgd", ["adam", "lbfgs"])
        ''
    """
    near = get_close_matches(str(word), [str(each) for each in known], n=1, cutoff=cutoff)
    return f" Did you mean {near[0]!r}?" if near else ""


def one_of(name: str, value: object, known: Sequence[T]) -> T:
    """The one of `known` that somebody wrote.

    Args:
        name: Of the option, for the message.
        value: What was written.
        known: What it may be.

    Raises:
        InputError: None of them.

    Example:
        >>> one_of("precision", "bf16", ("float32", "bf16"))
        'bf16'
    """
    for each in known:
        if value == each:
            return each
    raise InputError(
        f"{name}: expected {', '.join(map(str, known))}, got {value!r}.{did_you_mean(value, known)}"
    )


def listed(words: Sequence[str], *, most: int = 12) -> str:
    """The first of the words with commas, and an ellipsis where there are more.

    Args:
        words: In order.
        most: How many are shown.

    Example:
        >>> listed(["cat", "dog", "frog"], most=2)
        'cat, dog, …'
    """
    return ", ".join(words[:most]) + (", …" if len(words) > most else "")


def conjoined(words: Sequence[str]) -> str:
    """The words with commas, and `and` before the last.

    Example:
        >>> conjoined(["image", "mask", "target"])
        'image, mask and target'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
