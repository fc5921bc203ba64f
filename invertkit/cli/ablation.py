"""`invertkit ablate`: a recipe over several classifiers, or any key's values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from invertkit.cli.common import (
    Budget,
    Choose,
    Device,
    Given,
    Image,
    Mask,
    Parts,
    Sets,
    Target,
    choices,
    given_inputs,
    new_run_folder,
    say,
    show_log,
)


def add_to(app: typer.Typer) -> None:
    """Make the command of `app`."""
    app.command()(ablate)


def ablate(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or path of a page.")] = "magic",
    over: Annotated[
        list[str],
        typer.Option(help="KEY=VALUE,VALUE such as classifier=A,B.safetensors; repeatable."),
    ] = [],
    variant: Annotated[
        list[str], typer.Option(help="NAME:KEY=VALUE;KEY=null beside the recipe; repeatable.")
    ] = [],
    image: Image = None,
    mask: Mask = None,
    target: Target = None,
    given: Given = [],
    data: Annotated[
        Path | None, typer.Option(help="Folder of photographs with masks and targets.")
    ] = None,
    only: Annotated[
        list[str], typer.Option(help="Of --data: NAME, or NAME:VERSION; repeatable.")
    ] = [],
    seed: Annotated[int, typer.Option(help="Of the first image.")] = 0,
    seeds: Annotated[int, typer.Option(help="Images per run.")] = 1,
    device: Device = "auto",
    budget: Budget = None,
    choose: Choose = [],
    sets: Sets = [],
    parts: Parts = [],
    judge: Annotated[
        bool, typer.Option(help="Measure IoU with the target (15 s a photograph).")
    ] = True,
    out: Annotated[Path | None, typer.Option(help="Folder to make, or one to go on with.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the sheet's name.")] = False,
) -> None:
    """Run a recipe over several classifiers, or any key's values: one sheet, one table."""
    from invertkit.apps.ablation.plan import read_over, read_variant
    from invertkit.apps.ablation.run import ablate as carried_out
    from invertkit.errors import InputError

    # A mapping keeps the last of two without a word, so they are counted.
    keys = dict(map(read_over, over))
    variants = dict(map(read_variant, variant))
    if len(keys) < len(over) or len(variants) < len(variant):
        raise InputError("--over and --variant: a key or a name is given twice; give it once.")
    if not quiet:
        show_log()
    inputs: dict[str, Any] = {**given_inputs(given, image=image, mask=mask, target=target)}
    place = out or new_run_folder(f"ablation-{Path(recipe).stem}")
    result = carried_out(
        recipe,
        over=keys,
        variants=variants,
        **inputs,
        data=data,
        only=only,
        seed=seed,
        seeds=seeds,
        device=device,
        choices=choices(choose, budget),
        overrides=sets,
        parts=parts,
        judge=judge,
        out=place,
        progress=False if quiet else None,
    )
    if not quiet:
        say(result.table())
    for row in result.failed:
        say(f"{row.edit}, {row.variant}: {row.state.replace('_', '-')}: {row.error}")
    if result.interrupted:
        say("Interrupted. The same command, with `--out`, goes on: " + str(place))
    typer.echo(str(place / "sheet.png"))
    raise typer.Exit(130 if result.interrupted else 1 if result.failed else 0)
