"""The tables of `projection.py`: averages and the best of seeds, with paired intervals.

Intervals are 95 % bootstraps that draw photographs, and of each photograph its seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Row = dict[str, str]
Values = dict[str, list[float]]
"""Of every photograph, a number for each seed (of the best of seeds, one)."""

SHOWN: Final = ("loss", "l1", "l2", "perceptual", "other", "discriminator")
_DRAWS: Final = 4000


def tables(rows: Sequence[Row]) -> str:
    """Everything that can be said of the rows, in Markdown."""
    lines: list[str] = []
    for centred, where in (("1", "centred"), ("0", "off-centre")):
        for counted, how in (("run", "a seed is a run"), ("member", "a seed is a member")):
            mine = [r for r in rows if r["centred"] == centred and r["counted"] == counted]
            if mine:
                lines += [f"### {where}, {how}", "", *_means(mine), "", *_differences(mine), ""]
    return "\n".join(lines)


def _means(rows: Sequence[Row]) -> Iterator[str]:
    yield (
        "| method | photographs | seeds | of seeds | " + " | ".join(SHOWN)
        + " | evaluations | gradients | seconds |"
    )  # fmt: skip
    yield "|---" * (len(SHOWN) + 7) + "|"
    for method in _names(rows):
        mine = [row for row in rows if row["method"] == method]
        photographs = {row["image"] for row in mine}
        seeds = len({(row["image"], row["seed"]) for row in mine}) / len(photographs)
        cost = [
            np.mean([float(r[key]) for r in mine])
            for key in ("evaluations", "gradients", "seconds")
        ]
        for how in ("average", "best"):
            cells = [f"{_mean(_values(mine, name, how)):.3f}" for name in SHOWN]
            yield (
                f"| {method} | {len(photographs)} | {seeds:g} | {how} | " + " | ".join(cells)
                + f" | {cost[0]:.0f} | {cost[1]:.0f} | {cost[2]:.0f} |"
            )  # fmt: skip


def _differences(rows: Sequence[Row]) -> Iterator[str]:
    """Each method's loss less that of each before it in the order of the study."""
    yield "| less | photographs | loss, average of seeds | best of seeds |"
    yield "|---" * 4 + "|"
    names = _names(rows)
    for base in names[:1] + (["basincma"] if "basincma" in names[1:] else []):
        for method in names:
            if method == base:
                continue
            cells, count = [], 0
            for how in ("average", "best"):
                ours, theirs = (
                    _values([r for r in rows if r["method"] == name], "loss", how)
                    for name in (method, base)
                )
                pairs = paired(ours, theirs)
                count = len(pairs)
                if pairs:
                    low, high = interval(pairs)
                    cells.append(f"{_mean(pairs):+.4f} [{low:+.4f}, {high:+.4f}]")
            if cells:
                yield f"| {method} less {base} | {count} | " + " | ".join(cells) + " |"


def paired(ours: Values, theirs: Values) -> Values:
    """Differences of what both have, photograph by photograph and seed by seed."""
    found = {}
    for image in ours:
        if image in theirs:
            count = min(len(ours[image]), len(theirs[image]))
            found[image] = [
                a - b for a, b in zip(ours[image][:count], theirs[image][:count], strict=True)
            ]
    return found


def interval(values: Values) -> tuple[float, float]:
    """95 % of the mean: photographs are drawn, and of each its seeds."""
    draws = np.random.default_rng(0)
    images: list[NDArray[np.float64]] = [np.asarray(each) for each in values.values()]
    means = []
    for _ in range(_DRAWS):
        chosen = draws.integers(len(images), size=len(images))
        means.append(np.mean([draws.choice(images[i], len(images[i])).mean() for i in chosen]))
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def _values(rows: Sequence[Row], name: str, how: str) -> Values:
    """Of each photograph the numbers of its seeds.

    Of members, the average or the best of each run; of runs, each or the best of all.
    """
    by_run: dict[str, dict[int, list[Row]]] = {}
    for row in rows:
        by_run.setdefault(row["image"], {}).setdefault(int(row["seed"]), []).append(row)
    found: Values = {}
    for image, runs in by_run.items():
        groups = [runs[seed] for seed in sorted(runs)]
        if how == "best" and all(len(group) == 1 for group in groups):
            groups = [[row for group in groups for row in group]]
        found[image] = [_of(group, name, how) for group in groups]
    return found


def _of(group: Sequence[Row], name: str, how: str) -> float:
    if how == "average":
        return float(np.mean([float(row[name]) for row in group]))
    return float(min(group, key=lambda row: float(row["loss"]))[name])


def _mean(values: Values) -> float:
    return float(np.mean([np.mean(each) for each in values.values()]))


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["method"] for row in rows))
