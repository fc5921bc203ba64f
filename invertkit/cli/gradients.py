"""`invertkit gradients`: input gradients of classifiers side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from invertkit.cli.common import Device, new_run_folder, say, show_log


def add_to(app: typer.Typer) -> None:
    """Make the command of `app`."""
    app.command()(gradients)


def gradients(
    images: Annotated[
        list[Path], typer.Option("--image", help="Photograph; repeatable.", show_default=False)
    ] = [],
    classifiers: Annotated[
        list[str],
        typer.Option(
            "--classifier",
            help="Word of the catalogue or file, perhaps LABEL=WORD; repeatable.",
            show_default="embedded",
        ),
    ] = [],
    label: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="Name, number, or predicted. By default the photograph's folder in --data, "
            "otherwise predicted.",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side in pixels; by default each classifier's own.")
    ] = None,
    fit: Annotated[
        Literal["crop", "stretch", "keep"], typer.Option(help="How photographs meet that side.")
    ] = "crop",
    data: Annotated[
        Path | None, typer.Option(help="Folder or zip of photographs, CLASS/NAME.jpg.")
    ] = None,
    every: Annotated[int, typer.Option(help="Take every so-many-th of --data.")] = 1,
    limit: Annotated[
        int | None, typer.Option(help="At most so many of --data, evenly spread.")
    ] = None,
    show: Annotated[int, typer.Option(help="How many photographs the sheet shows.")] = 8,
    cutoff: Annotated[
        float, typer.Option(help="Low frequencies end here, in units of Nyquist's.")
    ] = 0.25,
    blur: Annotated[float, typer.Option(help="Of edges and gradients, in pixels.")] = 1.0,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder to make.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the sheet's name.")] = False,
) -> None:
    """Show input gradients of classifiers side by side, with their edges in numbers."""
    from invertkit.apps.gradients.run import gradients as measured

    if not quiet:
        show_log()
    place = out or new_run_folder("gradients")
    result = measured(
        images or None,
        classifiers or ["embedded"],
        label=label,
        size=size,
        fit=fit,
        data=data,
        every=every,
        limit=limit,
        show=show,
        cutoff=cutoff,
        blur=blur,
        device=device,
        progress=False if quiet else None,
        out=place,
    )
    if not quiet:
        say(result.table())
    typer.echo(str(place / "sheet.png"))
