"""The command line: it reads arguments, calls the API, prints, and exits.

Exit codes: 0 done, 1 the run ended early (a loss was not finite), 2 something the user can mend,
130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from invertkit.cli import (
    ablation,
    accuracy,
    bench,
    editing,
    gradients,
    models,
    pages,
    running,
    training,
)
from invertkit.cli.common import plain_warnings
from invertkit.errors import InvertkitError

app = typer.Typer(
    name="invertkit",
    help="Compose losses, variables and optimizers to invert any network.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
running.add_to(app)
editing.add_to(app)
pages.add_to(app)
gradients.add_to(app)
ablation.add_to(app)
bench.add_to(app)
accuracy.add_to(models.app)
app.add_typer(models.app, name="models")
app.add_typer(training.app, name="train")


def main() -> NoReturn:
    """Run the command line; mistakes of the user end in one sentence and exit code 2."""
    # Threads that wait by spinning make a busy machine several times slower; torch is not yet here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with plain_warnings():
            code = app(standalone_mode=False)
    except InvertkitError as error:
        _fail(str(error))
    except typer.Exit as exit_:
        sys.exit(exit_.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # click's own
            _fail(error.format_message())
        if _is_out_of_memory(error):
            what = str(error).split(". ")[0].rstrip(".") or "Out of memory"
            _fail(
                f"{what}. Make fewer images side by side (`--batch 1`) or smaller ones "
                "(`--budget preview`, or fewer pixels in `stages`); a run's folder keeps the "
                "checkpoint before."
            )
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # whoever has not imported it has not filled its memory
    return isinstance(error, MemoryError) or (
        torch is not None and isinstance(error, torch.OutOfMemoryError)
    )


def _fail(message: str) -> NoReturn:
    print(f"invertkit: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from invertkit.core.version import __version__

        typer.echo(f"invertkit {__version__}")
        raise typer.Exit
