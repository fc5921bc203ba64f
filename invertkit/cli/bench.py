"""`invertkit bench`: how fast the recipes are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invertkit.cli.common import Budget, Device, say


def add_to(app: typer.Typer) -> None:
    """Make the command of `app`."""
    app.command()(bench)


def bench(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="[RECIPE]...", help="Names or paths of pages.", show_default="all"),
    ] = [],
    budget: Budget = None,
    device: Device = "auto",
    batch: Annotated[list[int], typer.Option(help="Images side by side, on a GPU; repeatable.")] = [
        1,
        4,
        16,
    ],
    seconds: Annotated[float, typer.Option(help="For all of it.")] = 120.0,
    threads: Annotated[
        int | None, typer.Option(help="Of the CPU.", show_default="torch's own number")
    ] = None,
    precision: Annotated[str, typer.Option(help="Of networks: float32, tf32 or bf16.")] = "tf32",
    compile: Annotated[str, typer.Option(help="How steps are replayed: graph or inductor.")] = (
        "graph"
    ),
    out: Annotated[Path, typer.Option(help="JSON file to write.")] = Path("invertkit-bench.json"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the table.")] = False,
) -> None:
    """Time the recipes on this machine: seconds a step and a run, share of its limits, memory."""
    from invertkit.apps.bench.run import bench as measured
    from invertkit.apps.bench.table import check_place, write_bench

    check_place(out)
    result = measured(
        recipes,
        budget=budget,
        device=device,
        batches=batch,
        seconds=seconds,
        threads=threads,
        precision=precision,
        compile=compile,
        tell=None if quiet else say,
    )
    write_bench(result, out)
    typer.echo(result.table())
    if not quiet:
        say(f"Written to {out}.")
    failed = any(row.state == "failed" for row in result.rows)
    raise typer.Exit(130 if result.interrupted else 1 if failed else 0)
