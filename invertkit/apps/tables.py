"""Means with errors and intervals, and lines of text and of CSV: what the figures' tables share."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.special import stdtrit


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


def mean_and_interval(
    values: Sequence[float], *, level: float = 0.95
) -> tuple[float, float, float]:
    """Mean with the lower and upper end of Student's interval for it.

    Of differences between pairs it is the interval of the paired t-test, which leaves out what the
    members of a pair have in common. It supposes that the values are nearly normal.

    Args:
        values: One number a pair.
        level: Share of such intervals that hold the true mean, in (0, 1).

    Returns:
        Mean, lower end, upper end; NaN where undefined, the ends for fewer than two values.

    Source: Student 1908, "The Probable Error of a Mean".

    Example:
        >>> mean, low, high = mean_and_interval([1.0, 2.0, 3.0])
        >>> print(f"{mean:.3f} {low:.3f} {high:.3f}")
        2.000 -0.484 4.484
    """
    mean, error = mean_and_error(values)
    if not math.isfinite(error):
        return mean, math.nan, math.nan
    # Of scipy.special, not scipy.stats, which takes half a second to import.
    reach = float(stdtrit(len(values) - 1, (1 + level) / 2)) * error
    return mean, mean - reach, mean + reach


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
    """Rows as CSV, with the columns of all of them.

    A mean with its error becomes two columns, a mean with the ends of its interval three.

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
        if isinstance(value, list) and len(value) == 3:
            flat[key], flat[f"{key}_low"], flat[f"{key}_high"] = value
        elif isinstance(value, list):
            flat[key], flat[f"{key}_error"] = value
        else:
            flat[key] = value
    return flat
