"""Means with standard errors, and lines of text and of CSV: what the figures' tables share."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error, s/√n with Bessel's correction; NaN where undefined.

    Example:
        >>> mean_and_error([1.0, 3.0])
        (2.0, 1.0)
    """
    if not values:
        return math.nan, math.nan
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, math.nan
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def with_error(mean: float, error: float, *, form: str = ".3f") -> str:
    """The mean, and its error where there is one.

    Example:
        >>> with_error(2.0, 1.0, form=".1f")
        '2.0 ± 1.0'
    """
    return f"{mean:{form}}" + (f" ± {error:{form}}" if math.isfinite(error) else "")


def columns_of_text(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as text in columns; lines may differ in length.

    Example:
        >>> print(columns_of_text([["name", "n"], ["embedded", "12"]]))
        name      n
        embedded  12
    """
    count = max(map(len, lines))
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(count)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip()
        for line in lines
    )


def finite(value: Any) -> Any:
    """The value with None for what is no finite number: JSON has no NaN. Tuples become lists.

    Example:
        >>> finite({"mean": (0.5, math.nan)})
        {'mean': [0.5, None]}
    """
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def csv_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, with the columns of all of them; pairs of mean and error become two columns.

    Example:
        >>> print(csv_of([{"name": "a", "iou": (0.5, 0.1)}]).replace(chr(13), ""))
        name,iou,iou_error
        a,0.5,0.1
        <BLANKLINE>
    """
    flat = [_flat(finite(row)) for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(names))
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, list):
            flat[key], flat[f"{key}_error"] = value
        else:
            flat[key] = value
    return flat
