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
from invertkit.errors import InputError, InvertkitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from invertkit.runs.gather import Outcome
    from invertkit.runs.job import Job


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
    from invertkit.core.files import new_folder
    from invertkit.runs.folder.index import write_index
    from invertkit.runs.folder.write import write
    from invertkit.runs.prepare import prepare

    name = Path(recipe).stem
    place = out or Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    inputs: dict[str, Any] = {"image": image, "mask": mask, "target": target}
    if each is not None:
        files = {kind: name and str(name) for kind, name in inputs.items()}
        inputs = {"photographs": each, "files": files}
        if out is not None and out.resolve().is_relative_to(each.resolve()):
            raise InputError(
                f"{out}: lies in {each}, whose folders are photographs. Choose another `--out`."
            )
    folder = new_folder(place)
    try:
        job = prepare(
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
    outcome = _carry_out(job, folder, quiet=quiet)
    if judge:
        for result in outcome.results:
            write(result, folder / result.inputs.name, judge=True, run=folder)
        if each is not None:
            write_index(outcome.results, folder, of=len(job.photographs), failed=outcome.failed)
    _finish(job, outcome, folder, quiet=quiet)


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


def _carry_out(
    job: Job, folder: Path, *, quiet: bool, state: Mapping[str, Any] | None = None
) -> Outcome:
    from invertkit.runs import api
    from invertkit.runs import carry_out as execution

    if not quiet:
        show_log()
        for sentence in job.said:
            say(sentence)
    made = api.images_made(state) if state is not None else 0
    with api.progress_bar(job, wanted=False if quiet else None, made=made) as observers:
        return execution.carry_out_each(job, folder=folder, observers=observers, state=state)


def _finish(job: Job, outcome: Outcome, folder: Path, *, quiet: bool) -> NoReturn:
    from invertkit.engine.problem import Status

    for result in outcome.results if not quiet else ():
        of = f"{result.inputs.name}: " if result.inputs.name else ""
        say(f"{of}The run {result.status.value}. {result.steps} steps, {result.seconds:.1f} s.")
    for name, reason in outcome.failed.items():
        say(f"{name} was left out: {reason}")
    told = {result.inputs.name for result in outcome.results} | outcome.failed.keys()
    left = sum(photograph.name not in told for photograph in job.photographs)
    if left and not quiet:
        say(f"{left} of {len(job.photographs)} photographs are left: `invertkit resume {folder}`.")
    typer.echo(str(folder / ("index.html" if job.each else "result.png")))
    codes = {Status.INTERRUPTED: 130, Status.NON_FINITE: 1}
    found = [codes.get(result.status, 0) for result in outcome.results]
    raise typer.Exit(max([*found, 2 if outcome.failed else 0]))


def resume(
    folder: Annotated[Path, typer.Argument(help="Folder of the interrupted run.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the folder's name.")] = False,
) -> None:
    """Go on with an interrupted run, to the same picture as if it had never stopped."""
    from invertkit.runs.resume import restored

    job, state = restored(folder)
    _finish(job, _carry_out(job, folder, quiet=quiet, state=state), folder, quiet=quiet)


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
    from invertkit.cli.editing import edit_as_written

    if not quiet:
        show_log()
    place = edit_as_written(
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
