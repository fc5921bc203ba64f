"""`edit`: change the object of a finished projection."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from invertkit.cli.common import Device, show_log
from invertkit.errors import InputError

if TYPE_CHECKING:
    from invertkit.apps.editing.change import Change

_STEPS: Final = 3
_MOST_FRAMES: Final = 99


def add_to(app: typer.Typer) -> None:
    """Make the command of `app`."""
    app.command()(edit)


def edit(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished projection.")],
    label: Annotated[
        str | None, typer.Option("--class", help="Class to go to, by name or number.")
    ] = None,
    components: Annotated[
        list[str],
        typer.Option("--component", help="N or N:STEPS, a principal component from 0; repeatable."),
    ] = [],
    shift: Annotated[
        str | None, typer.Option(help="X,Y: right and down, in sides of the generator's picture.")
    ] = None,
    zoom: Annotated[float, typer.Option(help="How much larger; below 1, smaller.")] = 1.0,
    strength: Annotated[float | None, typer.Option(help="How far to go; 1 is all.")] = None,
    sweep: Annotated[
        str | None, typer.Option(help="FROM:TO:COUNT strengths, for an animation.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which image; by default the best.")] = None,
    region: Annotated[
        Literal["mask", "box"], typer.Option(help="Where pixels may change.")
    ] = "mask",
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Keep the photograph's stronger gradients.")
    ] = False,
    size: Annotated[int, typer.Option(help="Largest side of the pictures.")] = 512,
    steps: Annotated[int, typer.Option(help="To learn shift and zoom by.")] = 200,
    refine: Annotated[
        int, typer.Option(help="Steps from there to the picture that they ask for.")
    ] = 60,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder to make.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the sheet's name.")] = False,
) -> None:
    """Change a projected object's class, place or looks, and blend it into its photograph."""
    from invertkit.apps.editing.change import Change
    from invertkit.apps.editing.edit import edit as carry_out

    if not quiet:
        show_log()
    change = Change(label, _components(components), _shift(shift), zoom)
    strengths = _strengths(strength, sweep)
    if out is None:
        name = _folder_name(change, strengths, region=region, mixed=mixed)
        out = folder / "edits" / (name if seed is None else f"seed={seed}_{name}")
    carry_out(
        folder,
        label=change.label,
        components=change.components,
        shift=change.shift,
        zoom=change.zoom,
        strength=strengths,
        seed=seed,
        region=region,
        mixed=mixed,
        size=size,
        steps=steps,
        refine=refine,
        device=device,
        out=out,
    )
    typer.echo(str(out / "sheet.png"))


def _components(texts: Sequence[str]) -> dict[int, float]:
    """Steps along principal components, by number."""
    components: dict[int, float] = {}
    for text in texts:
        number, amount = _numbers(
            "--component", text if ":" in text else f"{text}:{_STEPS}", ":", 2,
            "N or N:STEPS, such as 2 or 2:-1.5",
        )  # fmt: skip
        if number != int(number):
            raise InputError(f"--component: expected a whole number, got {number:g}.")
        components[int(number)] = amount
    return components


def _shift(text: str | None) -> tuple[float, float]:
    if text is None:
        return 0.0, 0.0
    right, down = _numbers("--shift", text, ",", 2, "RIGHT,DOWN, such as 0.1,0")
    return right, down


def _strengths(strength: float | None, sweep: str | None) -> list[float]:
    """One strength, or those of a sweep, from the first to the last in equal steps."""
    if sweep is None:
        return [1.0 if strength is None else strength]
    if strength is not None:
        raise InputError("--sweep: has strengths of its own; leave out --strength.")
    first, last, count = _numbers("--sweep", sweep, ":", 3, "FROM:TO:COUNT, such as 0:1:9")
    if count < 2 or count > _MOST_FRAMES or count != int(count):
        raise InputError(f"--sweep: expected 2 to {_MOST_FRAMES} strengths, got {count:g}.")
    rises = int(count) - 1
    # Not by adding steps: the last strength is the one that was written, to the bit.
    return [(first * (rises - i) + last * i) / rises for i in range(rises + 1)]


def _numbers(option: str, text: str, separator: str, count: int, form: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(separator)]
    except ValueError:
        values = []
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise InputError(f"{option}: expected {form}, got {text!r}.")
    return values


def _folder_name(change: Change, strengths: Sequence[float], *, region: str, mixed: bool) -> str:
    """What a folder is called after what was changed."""
    words = change.words or ["blend"]
    if len(strengths) > 1:
        words.append(f"sweep {strengths[0]:g},{strengths[-1]:g},{len(strengths)}")
    elif strengths[0] != 1:
        words.append(f"strength {strengths[0]:g}")
    words += [region] * (region != "mask") + ["mixed"] * mixed
    # Names that any file system takes, and that need no quotes in a shell.
    plain = (word.replace(" ", "=", 1).replace(":", ",") for word in words)
    return "_".join(re.sub(r"[^\w.,+=-]+", "-", word) for word in plain)
