"""Numbers with a range, as a recipe's options and the plans of trainings take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from invertkit.errors import InputError

Positive = Annotated[float, Gt(0)]


NonNegative = Annotated[float, Ge(0)]


Count = Annotated[int, Ge(1)]


Index = Annotated[int, Ge(0)]


Decay = Annotated[float, Ge(0), Lt(1)]


Probability = Annotated[float, Ge(0), Le(1)]


def range_in_words(hint: Any) -> str:
    """Which numbers a type takes; empty where it does not say.

    Example:
        >>> range_in_words(Decay)
        'at least 0 and below 1'
        >>> range_in_words(float)
        ''
    """
    words = []
    for limit in getattr(hint, "__metadata__", ()):
        match limit:
            case Ge(low):
                words.append(f"at least {low:g}")
            case Gt(low):
                words.append(f"above {low:g}")
            case Le(high):
                words.append(f"at most {high:g}")
            case Lt(high):
                words.append(f"below {high:g}")
    return " and ".join(words)


def expect_in_range(record: Any) -> None:
    """Check every number of a dataclass against the range in its type.

    Raises:
        InputError: One is not in it, or not a number.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Plan:
        ...     steps: Count
        >>> expect_in_range(Plan(0))
        Traceback (most recent call last):
            ...
        invertkit.errors.InputError: steps: expected at least 1, got 0.
    """
    kind: Any = type(record)
    for name, hint in _ranges(kind).items():
        value = getattr(record, name)
        if not all(_inside(value, limit) for limit in hint.__metadata__):
            raise InputError(f"{name}: expected {range_in_words(hint)}, got {value:g}.")


def _inside(value: Any, limit: object) -> bool:
    match limit:
        case Ge(low):
            return bool(value >= low)
        case Gt(low):
            return bool(value > low)
        case Le(high):
            return bool(value <= high)
        case Lt(high):
            return bool(value < high)
    return True


@cache
def _ranges(record: Any) -> Mapping[str, Any]:
    """The fields that have a range. Reading the types anew each time would slow `replace` down."""
    hints = get_type_hints(record, include_extras=True)
    names = [field.name for field in fields(record)]
    return {name: hints[name] for name in names if range_in_words(hints[name])}
