"""An edit as the command line writes it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from invertkit.apps.editing.change import Change
from invertkit.apps.editing.edit import edit
from invertkit.errors import InputError

_STEPS = 3


_MOST_FRAMES = 99


def edit_as_written(
    run: Path,
    *,
    label: str | None,
    components: Sequence[str],
    shift: str | None,
    zoom: float,
    strength: float | None,
    sweep: str | None,
    seed: int | None,
    region: str,
    mixed: bool,
    size: int,
    steps: int,
    device: str,
    out: Path | None,
) -> Path:
    """`edit` with its options as texts; the folder it wrote, by default one in `RUN/edits`.

    Raises:
        InputError: An option cannot be read, or as `edit`.
    """
    if region not in ("mask", "box"):
        raise InputError(f"--region: expected mask or box, got {region!r}.")
    if strength is not None and sweep is not None:
        raise InputError("--sweep: has strengths of its own; leave out --strength.")
    strengths: Sequence[float] = (1.0 if strength is None else strength,)
    if sweep is not None:
        first, last, count = _numbers("--sweep", sweep, ":", 3, "FROM:TO:COUNT, such as 0:1:9")
        if count < 2 or count > _MOST_FRAMES or count != int(count):
            raise InputError(f"--sweep: expected 2 to {_MOST_FRAMES} strengths, got {count:g}.")
        steps_up = int(count) - 1
        strengths = [(first * (steps_up - i) + last * i) / steps_up for i in range(steps_up + 1)]
    moves: dict[int, float] = {}
    for text in components:
        number, amount = _numbers(
            "--component", text if ":" in text else f"{text}:{_STEPS}", ":", 2,
            "N or N:STEPS, such as 2 or 2:-1.5",
        )  # fmt: skip
        if number != int(number):
            raise InputError(f"--component: expected a whole number, got {number:g}.")
        moves[int(number)] = amount
    right, down = (
        (0.0, 0.0)
        if shift is None
        else _numbers("--shift", shift, ",", 2, "RIGHT,DOWN, such as 0.1,0")
    )
    change = Change(label, moves, (right, down), zoom)
    name = _name(change, strengths, region=region, mixed=mixed)
    folder = out or run / "edits" / (name if seed is None else f"seed={seed}_{name}")
    edit(
        run,
        label=label,
        components=moves,
        shift=(right, down),
        zoom=zoom,
        strength=strengths,
        seed=seed,
        region="box" if region == "box" else "mask",
        mixed=mixed,
        size=size,
        steps=steps,
        device=device,
        out=folder,
    )
    return folder


def _numbers(option: str, text: str, separator: str, count: int, form: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(separator)]
    except ValueError:
        values = []
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise InputError(f"{option}: expected {form}, got {text!r}.")
    return values


def _name(change: Change, strengths: Sequence[float], *, region: str, mixed: bool) -> str:
    """What a folder is called after what was changed."""
    words = change.words or ["blend"]
    if len(strengths) > 1:
        words.append(f"sweep {strengths[0]:g},{strengths[-1]:g},{len(strengths)}")
    elif strengths[0] != 1:
        words.append(f"strength {strengths[0]:g}")
    words += [region] * (region != "mask") + ["mixed"] * mixed
    plain = (word.replace(" ", "=", 1).replace(":", ",") for word in words)
    return "_".join(re.sub(r"[^\w.,+=-]+", "-", word) for word in plain)
