"""`run`, `resume` and `edit`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from invertkit.cli.common import (
    Budget,
    Choose,
    Device,
    Image,
    Mask,
    Parts,
    Sets,
    Target,
    choices,
    say,
    show_log,
)
from invertkit.errors import InvertkitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from invertkit.job import Job
    from invertkit.result import Result


def add_to(app: typer.Typer) -> None:
    """Make these commands of `app`."""
    for command in (run, resume, edit):
        app.command()(command)


def run(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or path of a page.")] = "magic",
    image: Image = None,
    mask: Mask = None,
    target: Target = None,
    seed: Annotated[int, typer.Option(help="Of the first image.")] = 0,
    seeds: Annotated[int, typer.Option(help="How many images.")] = 1,
    each: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photographs: NAME/{image,mask,target}.*, or pictures alone. --image, "
            "--mask and --target then name a file in every sub-folder."
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
    judge: Annotated[
        bool, typer.Option("--judge", help="Also measure IoU with the target (15 s).")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the folder's name.")] = False,
) -> None:
    """Carry out a recipe and leave a folder with the result."""
    from invertkit import job as jobs
    from invertkit.report import new_folder, write, write_index

    name = Path(recipe).stem
    folder = new_folder(out or Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}")
    try:
        inputs: dict[str, Any] = {"image": image, "mask": mask, "target": target}
        if each is not None:
            files = {kind: name and str(name) for kind, name in inputs.items()}
            inputs = {"photographs": each, "files": files}
        job = jobs.prepare(
            recipe,
            **inputs,
            seed=seed,
            seeds=seeds,
            batch=batch,
            device=device,
            choices=choices(choose, budget),
            overrides=sets,
            parts=parts,
            compile=compile,
            precision=precision,
        )
        job.problem(job.seeds[:1])
    except InvertkitError:
        _remove_if_empty(folder)
        raise
    results = _carry_out(job, folder, quiet=quiet)
    if judge:
        for result in results:
            write(result, folder / result.inputs.name, judge=True)
        if each is not None:
            write_index(results, folder, of=len(job.photographs))
    _finish(results, folder, quiet=quiet)


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


def _carry_out(
    job: Job, folder: Path, *, quiet: bool, state: Mapping[str, Any] | None = None
) -> list[Result]:
    from invertkit import api, execution

    if not quiet:
        show_log()
        for sentence in job.said:
            say(sentence)
    with api.progress_bar(job, wanted=False if quiet else None) as observers:
        return execution.carry_out_each(job, folder=folder, observers=observers, state=state)


def _finish(results: list[Result], folder: Path, *, quiet: bool) -> NoReturn:
    from invertkit.problem import Status

    for result in results if not quiet else ():
        of = f"{result.inputs.name}: " if result.inputs.name else ""
        say(f"{of}The run {result.status.value}. {result.steps} steps, {result.seconds:.1f} s.")
    index = folder / "index.html"
    typer.echo(str(index if index.is_file() else folder / "result.png"))
    codes = {Status.INTERRUPTED: 130, Status.NON_FINITE: 1}
    raise typer.Exit(max(codes.get(result.status, 0) for result in results))


def resume(
    folder: Annotated[Path, typer.Argument(help="Folder of the interrupted run.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the folder's name.")] = False,
) -> None:
    """Go on with an interrupted run, to the same picture as if it had never stopped."""
    from invertkit.execution import restored

    job, state = restored(folder)
    _finish(_carry_out(job, folder, quiet=quiet, state=state), folder, quiet=quiet)


def edit(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished projection.")],
    label: Annotated[
        str | None, typer.Option("--class", help="Class to go to, by name or number.")
    ] = None,
    components: Annotated[
        list[str],
        typer.Option("--component", help="N or N:STEPS, a principal component from 0; repeatable."),
    ] = [],
    shift: Annotated[
        str | None, typer.Option(help="X,Y: right and down, in sides of the generator's picture.")
    ] = None,
    zoom: Annotated[float, typer.Option(help="How much larger; below 1, smaller.")] = 1.0,
    strength: Annotated[float | None, typer.Option(help="How far to go; 1 is all.")] = None,
    sweep: Annotated[
        str | None, typer.Option(help="FROM:TO:COUNT strengths, for an animation.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Which image; by default the best.")] = None,
    region: Annotated[str, typer.Option(help="mask, or box: where pixels may change.")] = "mask",
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Keep the photograph's stronger gradients.")
    ] = False,
    size: Annotated[int, typer.Option(help="Largest side of the pictures.")] = 512,
    steps: Annotated[int, typer.Option(help="To learn shift and zoom by.")] = 200,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder to make.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the sheet's name.")] = False,
) -> None:
    """Change a projected object's class, place or looks, and blend it into its photograph."""
    from invertkit import edits

    if not quiet:
        show_log()
    place = edits.edit_as_written(
        folder,
        label=label,
        components=components,
        shift=shift,
        zoom=zoom,
        strength=strength,
        sweep=sweep,
        seed=seed,
        region=region,
        mixed=mixed,
        size=size,
        steps=steps,
        device=device,
        out=out,
    )
    typer.echo(str(place / "sheet.png"))
