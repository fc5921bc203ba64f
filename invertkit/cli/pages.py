"""`recipes`, `show`, `new` and `check`: what concerns recipe pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invertkit.cli.common import Budget, Choose, Device, Parts, Sets, choices


def add_to(app: typer.Typer) -> None:
    """Make these commands of `app`."""
    for command in (recipes, show, new, check):
        app.command()(command)


def recipes() -> None:
    """List the recipes, a line each."""
    from invertkit.recipe.overlay import read_raw, recipe_names

    names = recipe_names()
    width = max(map(len, names))
    for name in names:
        typer.echo(f"{name:{width}}  {read_raw(name).get('summary', '')}")


def show(
    recipe: Annotated[str, typer.Argument(help="Name or path.")],
    budget: Budget = None,
    choose: Choose = [],
    sets: Sets = [],
    device: Annotated[str, typer.Option(help="Whose defaults: cpu or cuda.")] = "cpu",
) -> None:
    """Print a recipe with everything it extends, chooses and overrides merged in."""
    from invertkit.recipe import overlay
    from invertkit.recipe.page import dump_yaml

    layers = overlay.read_layers(recipe)
    wanted = choices(choose, budget)
    typer.echo(
        dump_yaml(overlay.override(overlay.choose(layers, wanted, device=device), sets)), nl=False
    )


def new(
    file: Annotated[Path, typer.Argument(help="Page to write, such as my.yaml.")],
    start: Annotated[str, typer.Option("--from", help="Recipe to start from.")] = "magic",
) -> None:
    """Write a page of your own that starts from a recipe."""
    from invertkit.errors import InputError
    from invertkit.recipe.overlay import find_page

    source = find_page(start)
    if file.suffix not in (".yaml", ".yml"):
        raise InputError(f"{file}: a page's name ends in .yaml; write {file}.yaml.")
    if file.exists():
        raise InputError(
            f"{file}: exists already, and nothing is overwritten. Choose another name."
        )
    text = source.read_text(encoding="utf-8")
    text = text.replace(f"\nname: {source.stem}\n", f"\nname: {file.stem}\n", 1)
    try:
        file.write_text(
            f"# yaml-language-server: $schema=recipe.schema.json\n{text}", encoding="utf-8"
        )
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}).") from None
    typer.echo(
        f"{file}: written from {start}. Edit it, then `invertkit check {file}` and "
        f"`invertkit run {file}`. For completion in your editor: `invertkit check --schema > "
        "recipe.schema.json`."
    )


def check(
    recipe: Annotated[str | None, typer.Argument(help="Name or path.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of pages for editors.")
    ] = False,
    budget: Budget = None,
    choose: Choose = [],
    sets: Sets = [],
    parts: Parts = [],
    device: Device = "auto",
) -> None:
    """Validate a recipe and take two steps of every stage with it."""
    if schema:
        from invertkit.recipe.schema import shipped_schema

        typer.echo(shipped_schema(), nl=False)
        return
    if recipe is None:
        raise typer.BadParameter("give a recipe, or --schema")
    from invertkit.runs.dry_run import dry_run
    from invertkit.runs.prepare import prepare_job

    job = prepare_job(
        recipe, device=device, choices=choices(choose, budget), overrides=sets, parts=parts
    )
    steps = dry_run(job)
    typer.echo(f"{recipe}: is a valid recipe; {steps} trial steps ran.")
