"""`invertkit models accuracy`: how often classifiers are right, also under attack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invertkit.cli.common import Device, say, seldom
from invertkit.cli.flags import with_flags
from invertkit.training.robustness.accuracy_plan import AccuracyPlan


def add_to(app: typer.Typer) -> None:
    """Make the command of `app`."""
    app.command()(accuracy)


@with_flags()
def accuracy(
    classifiers: Annotated[
        list[str], typer.Argument(metavar="CLASSIFIER...", help="Names or files.")
    ],
    data: Annotated[Path, typer.Option(help="Folder or zip of CLASS/NAME.jpg to measure on.")],
    plan: AccuracyPlan,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the numbers to this file.")
    ] = None,
    device: Device = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the table.")] = False,
) -> None:
    """Accuracy of classifiers, clean and under attack, with standard errors."""
    from invertkit.core.devices import pick_device
    from invertkit.errors import InputError
    from invertkit.training.robustness.accuracy import accuracy_table, as_json, measure_classifiers

    if json_file is not None and not json_file.resolve().parent.is_dir():
        raise InputError(f"{json_file}: cannot be written (there is no folder {json_file.parent}).")
    measured = measure_classifiers(
        classifiers,
        data,
        plan,
        device=pick_device(device),
        report=None if quiet else seldom(say),
    )
    typer.echo(accuracy_table(measured))
    if json_file is not None:
        text = as_json(measured, data=str(data), every=plan.stride, seed=plan.seed)
        try:
            json_file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"{json_file}: cannot be written ({error.strerror}).") from None
