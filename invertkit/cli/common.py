"""What the commands share: their options, and how they speak."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from invertkit.errors import InvertkitWarning

Image = Annotated[Path | None, typer.Option(help="Photograph.")]
Mask = Annotated[Path | None, typer.Option(help="Mask of its object, white on black.")]
Target = Annotated[Path | None, typer.Option(help="Mask of where the object shall be.")]
Given = Annotated[
    list[str],
    typer.Option("--input", help="NAME=VALUE, any input of the recipe, such as style=a.jpg."),
]
Parts = Annotated[list[Path], typer.Option(help="Python file with parts of your own.")]
Sets = Annotated[
    list[str], typer.Option("--set", help="Override, such as objective.control.weight=20.")
]
Choose = Annotated[list[str], typer.Option(help="Option of a choice, such as mode=location.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Budget = Annotated[str | None, typer.Option(help="Such as preview or full.")]


def given_inputs(given: list[str], **short: Path | str | None) -> dict[str, str]:
    """The inputs that were given, by name.

    Args:
        given: `NAME=VALUE`.
        short: Those that have an option of their own.

    Raises:
        InputError: One is not NAME=VALUE, or is given twice, or can be no input.
    """
    from invertkit.errors import InputError
    from invertkit.runs.settings import is_argument

    inputs = {name: str(value) for name, value in short.items() if value is not None}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name or not value:
            raise InputError(f"--input {text}: expected NAME=VALUE, such as style=a.jpg.")
        if is_argument(name):
            raise InputError(
                f"--input {text}: {name} is an argument of every run, so no input is called so; "
                "`invertkit run --help` lists the options."
            )
        if name in inputs:
            raise InputError(f"--input {text}: {name} is given twice.")
        inputs[name] = value
    return inputs


def choices(choose: list[str], budget: str | None) -> dict[str, str]:
    """Options of the recipe's choices, by choice.

    Raises:
        RecipeError: One is not CHOICE=OPTION.
    """
    from invertkit.errors import RecipeError

    wanted = {"budget": budget} if budget else {}
    for choice in choose:
        group, equals, option = choice.partition("=")
        if not equals:
            raise RecipeError(f"--choose {choice}: expected CHOICE=OPTION, such as mode=location.")
        wanted[group.strip()] = option.strip()
    return wanted


def say(sentence: str) -> None:
    """Tell the user, beside what the command prints."""
    # On the error stream: what is printed, a path or a table, can then be piped on.
    typer.echo(sentence, err=True)


def seldom(tell: Callable[[str], None], seconds: float = 10.0) -> Callable[[str], None]:
    """`tell`, but silent for some seconds after each sentence; the first one is told."""
    told = time.monotonic() - seconds

    def maybe(sentence: str) -> None:
        nonlocal told
        if time.monotonic() - told >= seconds:
            told = time.monotonic()
            tell(sentence)

    return maybe


def show_log() -> None:
    """Show what the toolkit logs, a plain line each."""
    import logging

    # Plain lines, since a command's user wants sentences and no times or levels.
    log, handler = logging.getLogger("invertkit"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show the toolkit's warnings as sentences, without a place in its code."""
    usual = warnings.formatwarning

    def plain(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if issubclass(category, InvertkitWarning):
            return f"{message}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = usual


def new_run_folder(name: str) -> Path:
    """Where a command writes if `--out` does not say: `runs/NAME-` and the time."""
    from datetime import datetime

    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
