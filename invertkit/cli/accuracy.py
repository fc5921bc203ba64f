"""`invertkit models accuracy`: how often classifiers are right, also under attack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invertkit.cli.common import Device, say, seldom


def add_to(app: typer.Typer) -> None:
    """Make the command of `app`."""
    app.command()(accuracy)


def accuracy(
    classifiers: Annotated[
        list[str], typer.Argument(metavar="CLASSIFIER...", help="Names or files.")
    ],
    data: Annotated[Path, typer.Option(help="Folder or zip of CLASS/NAME.jpg to measure on.")],
    norm: Annotated[str, typer.Option(help="l2 or linf.")] = "l2",
    eps: Annotated[
        list[float],
        typer.Option(help="Radius at the classifier's input size, 0 for clean; repeatable."),
    ] = [0.0, 0.05],
    attack: Annotated[str, typer.Option(help="pgd-N, such as pgd-20, or autoattack.")] = "pgd-20",
    every: Annotated[int, typer.Option(help="Take every so-many-th picture only.")] = 1,
    size: Annotated[
        int | None, typer.Option(help="Side of the input; by default each classifier's own.")
    ] = None,
    crop: Annotated[
        float | None,
        typer.Option(
            help="Share of the shorter side to show; by default 0.875 from 128 pixels on, else 1."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Pictures at once.")] = 100,
    seed: Annotated[int, typer.Option(help="Of AutoAttack.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write the numbers to this file.")
    ] = None,
    device: Device = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the table.")] = False,
) -> None:
    """Accuracy of classifiers, clean and under attack, with standard errors."""
    from typing import cast

    from invertkit.core.devices import pick_device
    from invertkit.errors import InputError
    from invertkit.training.robustness.accuracy import accuracy_table, as_json, measure_classifiers
    from invertkit.training.robustness.attack import Norm

    if json_file is not None and not json_file.resolve().parent.is_dir():
        raise InputError(f"{json_file}: cannot be written (there is no folder {json_file.parent}).")
    measured = measure_classifiers(
        classifiers,
        data,
        norm=cast(Norm, norm),
        radii=eps,
        attack=attack,
        stride=every,
        size=size,
        crop=crop,
        batch=batch,
        seed=seed,
        device=pick_device(device),
        report=None if quiet else seldom(say),
    )
    typer.echo(accuracy_table(measured))
    if json_file is not None:
        text = as_json(measured, data=str(data), every=every, seed=seed)
        try:
            json_file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise InputError(f"{json_file}: cannot be written ({error.strerror}).") from None
