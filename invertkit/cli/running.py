"""`run` and `resume`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

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

if TYPE_CHECKING:
    from invertkit.apps.editing.finish import Finished
    from invertkit.runs.gather import Results
    from invertkit.runs.result import Result

Judge = Annotated[bool, typer.Option("--judge", help="Also measure IoU with the target (15 s).")]


def add_to(app: typer.Typer) -> None:
    """Make these commands of `app`."""
    for command in (run, resume):
        app.command()(command)


def run(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or path of a page.")] = "magic",
    image: Image = None,
    mask: Mask = None,
    target: Target = None,
    given: Given = [],
    seed: Annotated[int, typer.Option(help="Of the first image.")] = 0,
    seeds: Annotated[int, typer.Option(help="How many images.")] = 1,
    each: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photographs: NAME/{image,mask,target}.*, or pictures alone. --image, "
            "--mask, --target and --input then name a file in every sub-folder."
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Images side by side at most; by default 1 on a CPU, else 16."),
    ] = None,
    device: Device = "auto",
    budget: Budget = None,
    choose: Choose = [],
    sets: Sets = [],
    parts: Parts = [],
    compile: Annotated[
        str,
        typer.Option(help="How steps are taken: auto, off, graph (replayed) or inductor."),
    ] = "auto",
    precision: Annotated[str, typer.Option(help="Of networks: float32, tf32 or bf16.")] = "tf32",
    out: Annotated[Path | None, typer.Option(help="Folder to make.")] = None,
    judge: Judge = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the folder's name.")] = False,
) -> None:
    """Carry out a recipe and leave a folder with the result."""
    from invertkit.apps import finishing
    from invertkit.runs import api

    if not quiet:
        show_log()
    place = out or new_run_folder(Path(recipe).stem)
    inputs: dict[str, Any] = {**given_inputs(given, image=image, mask=mask, target=target)}
    settings: dict[str, Any] = {
        "seed": seed,
        "seeds": seeds,
        "batch": batch,
        "device": device,
        "choices": choices(choose, budget),
        "overrides": sets,
        "parts": parts,
        "compile": compile,
        "precision": precision,
        "out": place,
        "judge": judge,
        # None leaves it to the API, which looks whether anybody watches.
        "progress": False if quiet else None,
    }
    # `_finish` ends the process, so what follows is of many photographs.
    if each is None:
        _end(finishing.run(recipe, **inputs, **settings), place, quiet=quiet)
    with _told_at_the_end():
        results = api.run_each(recipe, each, **settings, **inputs)
    _finish(results, place, quiet=quiet)


def resume(
    folder: Annotated[Path, typer.Argument(help="Folder of the interrupted run.")],
    judge: Judge = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the folder's name.")] = False,
) -> None:
    """Go on with an interrupted run, to the same picture as if it had never stopped."""
    from invertkit.apps.finishing import resumed

    if not quiet:
        show_log()
    with _told_at_the_end():
        ended = resumed(folder, judge=judge, progress=False if quiet else None)
    _end(ended, folder, quiet=quiet)


@contextlib.contextmanager
def _told_at_the_end() -> Iterator[None]:
    """Photographs that are left out are said by `_finish`, not by a warning of Python too."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* was left out: ", category=RuntimeWarning)
        yield


def _end(ended: Result | Finished | Results, folder: Path, *, quiet: bool) -> NoReturn:
    """Say how a run ended, or what was made of it, and exit."""
    from invertkit.apps.editing.finish import Finished
    from invertkit.runs.result import Result

    if isinstance(ended, Finished):
        if not quiet:
            say(f"{ended!r}".strip("<>") + ".")
        typer.echo(str(folder / "sheet.png"))
        raise typer.Exit(0)
    _finish([ended] if isinstance(ended, Result) else ended, folder, quiet=quiet)


def _finish(results: Sequence[Result], folder: Path, *, quiet: bool) -> NoReturn:
    """Say how it ended, print what to open, and exit."""
    from invertkit.engine.problem import Status
    from invertkit.runs.gather import Results

    everything = results if isinstance(results, Results) else Results(results, each=False)
    for result in everything if not quiet else ():
        of = f"{result.inputs.name}: " if result.inputs.name else ""
        say(f"{of}The run {result.status.value}. {result.steps} steps, {result.seconds:.1f} s.")
    for name, reason in everything.failed.items():
        say(f"{name} was left out: {reason}")
    if everything.left and not quiet:
        count = len(everything) + len(everything.failed) + len(everything.left)
        left = len(everything.left)
        say(f"{left} of {count} photographs are left: `invertkit resume {folder}`.")
    typer.echo(str(folder / ("index.html" if everything.each else "result.png")))
    # As a shell has it: 130 is 128 and the number of Ctrl-C's signal.
    codes = {Status.INTERRUPTED: 130, Status.NON_FINITE: 1}
    ends = [codes.get(result.status, 0) for result in everything]
    raise typer.Exit(max([*ends, 2 if everything.failed else 0]))
