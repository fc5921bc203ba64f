"""`invertkit models`: which classifiers there are, and their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Classifiers and their weights.", no_args_is_help=True)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A PyTorch checkpoint.")],
    destination: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    trust: Annotated[
        bool, typer.Option("--trust", help="Run the code in the file; only if you trust it.")
    ] = False,
) -> None:
    """Turn a checkpoint that needs code to be run into one that is only data."""
    from invertkit.models.weights_file import convert_weights

    count = convert_weights(source, destination, trust=trust)
    typer.echo(f"{destination}: {count} tensors.")
