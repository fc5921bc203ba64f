"""The command line: it reads arguments, calls the API, prints, and exits.

Exit codes: 0 done, 1 the run ended early (a loss was not finite), 2 something the user can mend,
130 interrupted.
"""

from __future__ import annotations

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from invertkit.errors import InvertkitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from invertkit.job import Job
    from invertkit.result import Result

app = typer.Typer(
    name="invertkit",
    help="Compose losses, variables and optimizers to invert any network.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
train = typer.Typer(help="Train the models that the package carries.", no_args_is_help=True)
app.add_typer(train, name="train")

Image = Annotated[Path | None, typer.Option(help="Photograph.")]
Mask = Annotated[Path | None, typer.Option(help="Mask of its object, white on black.")]
Target = Annotated[Path | None, typer.Option(help="Mask of where the object shall be.")]
Parts = Annotated[list[Path], typer.Option(help="Python file with parts of your own.")]
Sets = Annotated[
    list[str], typer.Option("--set", help="Override, such as objective.control.weight=20.")
]
Choose = Annotated[list[str], typer.Option(help="Option of a choice, such as mode=location.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Budget = Annotated[str | None, typer.Option(help="Such as preview or full.")]


def main() -> NoReturn:
    """Run the command line; mistakes of the user end in one sentence and exit code 2."""
    # Threads that wait by spinning make a busy machine several times slower; torch is not yet here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
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
        raise
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> NoReturn:
    print(f"invertkit: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


def _say(sentence: str) -> None:
    typer.echo(sentence, err=True)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from invertkit import __version__

        typer.echo(f"invertkit {__version__}")
        raise typer.Exit


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or path of a page.")] = "magic",
    image: Image = None,
    mask: Mask = None,
    target: Target = None,
    seed: Annotated[int, typer.Option(help="Of the first image.")] = 0,
    seeds: Annotated[int, typer.Option(help="How many images.")] = 1,
    device: Device = "auto",
    budget: Budget = None,
    choose: Choose = [],
    sets: Sets = [],
    parts: Parts = [],
    out: Annotated[Path | None, typer.Option(help="Folder to make.")] = None,
    judge: Annotated[
        bool, typer.Option("--judge", help="Also measure IoU with the target (15 s).")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the folder's name.")] = False,
) -> None:
    """Carry out a recipe and leave a folder with the result."""
    from invertkit import job as jobs
    from invertkit.report import new_folder, write

    name = Path(recipe).stem
    folder = new_folder(out or Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}")
    try:
        job = jobs.prepare(
            recipe,
            image=image,
            mask=mask,
            target=target,
            seed=seed,
            seeds=seeds,
            device=device,
            choices=_choices(choose, budget),
            overrides=sets,
            parts=parts,
        )
        job.problem(job.seeds[:1])
    except InvertkitError:
        _remove_if_empty(folder)
        raise
    result = _carry_out(job, folder, quiet=quiet)
    if judge:
        write(result, folder, judge=True)
    _finish(result, folder, quiet=quiet)


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


def _choices(choose: list[str], budget: str | None) -> dict[str, str]:
    from invertkit.errors import RecipeError

    wanted = {"budget": budget} if budget else {}
    for choice in choose:
        group, equals, option = choice.partition("=")
        if not equals:
            raise RecipeError(f"--choose {choice}: expected CHOICE=OPTION, such as mode=location.")
        wanted[group.strip()] = option.strip()
    return wanted


def _carry_out(
    job: Job, folder: Path, *, quiet: bool, state: Mapping[str, Any] | None = None
) -> Result:
    from invertkit import api, execution

    if not quiet:
        _show_log()
        for sentence in job.said:
            _say(sentence)
    with api.progress_bar(job, wanted=False if quiet else None) as observers:
        return execution.carry_out(job, folder=folder, observers=observers, state=state)


def _show_log() -> None:
    import logging

    log, handler = logging.getLogger("invertkit"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def _finish(result: Result, folder: Path, *, quiet: bool) -> NoReturn:
    from invertkit.problem import Status

    if not quiet:
        _say(f"The run {result.status.value}. {result.steps} steps, {result.seconds:.1f} s.")
    typer.echo(str(folder / "result.png"))
    codes = {Status.INTERRUPTED: 130, Status.NON_FINITE: 1}
    raise typer.Exit(codes.get(result.status, 0))


@app.command()
def resume(
    folder: Annotated[Path, typer.Argument(help="Folder of the interrupted run.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the folder's name.")] = False,
) -> None:
    """Go on with an interrupted run, to the same picture as if it had never stopped."""
    from invertkit.execution import restored

    job, state = restored(folder)
    _finish(_carry_out(job, folder, quiet=quiet, state=state), folder, quiet=quiet)


@app.command()
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
        _show_log()
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


@app.command()
def recipes() -> None:
    """List the recipes, a line each."""
    from invertkit.recipe.overlay import read_raw, recipe_names

    names = recipe_names()
    width = max(map(len, names))
    for name in names:
        typer.echo(f"{name:{width}}  {read_raw(name).get('summary', '')}")


@app.command()
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
    wanted = _choices(choose, budget)
    typer.echo(
        dump_yaml(overlay.override(overlay.choose(layers, wanted, device=device), sets)), nl=False
    )


@app.command()
def new(
    file: Annotated[Path, typer.Argument(help="Page to write, such as my.yaml.")],
    start: Annotated[str, typer.Option("--from", help="Recipe to start from.")] = "magic",
) -> None:
    """Write a page of your own that starts from a recipe."""
    from invertkit.errors import InputError
    from invertkit.recipe.overlay import find_page

    source = find_page(start)
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


@app.command()
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
    from invertkit.execution import dry_run
    from invertkit.job import prepare

    job = prepare(
        recipe, device=device, choices=_choices(choose, budget), overrides=sets, parts=parts
    )
    steps = dry_run(job)
    typer.echo(f"{recipe}: is a valid recipe; {steps} trial steps ran.")


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


@train.command("classifier")
def train_classifier(
    data: Annotated[Path, typer.Option(help="Folder or zip of CLASS/NAME.jpg to train on.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and the weights.")],
    test: Annotated[Path | None, typer.Option(help="The same, to measure accuracy on.")] = None,
    norm: Annotated[str, typer.Option(help="l2 or linf.")] = "l2",
    eps: Annotated[float, typer.Option(help="Radius of the attack; 0 for none.")] = 0.05,
    attack_steps: Annotated[int, typer.Option(help="PGD steps.")] = 3,
    step_size: Annotated[float | None, typer.Option(help="By default 2/3 of eps.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 16,
    clean_epochs: Annotated[int, typer.Option(help="Passes before the attack begins.")] = 0,
    resolution: Annotated[int, typer.Option(help="Side at which photographs are kept.")] = 32,
    size: Annotated[int, typer.Option(help="Side of the network's input.")] = 64,
    batch: Annotated[int, typer.Option(help="Photographs a step.")] = 256,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 0.4,
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
    bf16: Annotated[bool, typer.Option("--bf16", help="Train in bfloat16.")] = False,
    resume_from: Annotated[
        Path | None, typer.Option("--resume", help="A checkpoint epoch-NN.pt to go on from.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Train a quasi-robust classifier (MAGIC Eq. 3): PGD inside, SGD outside."""
    from invertkit.job import pick_device
    from invertkit.training.command import train_and_measure

    where = pick_device(device)
    weights = train_and_measure(
        data=data,
        test=test,
        out=out,
        norm=norm,
        eps=eps,
        attack_steps=attack_steps,
        step_size=step_size,
        epochs=epochs,
        clean_epochs=clean_epochs,
        resolution=resolution,
        size=size,
        batch=batch,
        lr=lr,
        seed=seed,
        bf16=bf16,
        resume=resume_from,
        device=str(where),
        report=_say,
    )
    typer.echo(str(weights))


@train.command("generator")
def train_generator(
    data: Annotated[Path, typer.Option(help="Folder or zip of CLASS/NAME.png to train on.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, weights and pictures.")],
    test: Annotated[
        Path | None, typer.Option(help="The same classes, unseen, to measure on (6 minutes).")
    ] = None,
    steps: Annotated[int, typer.Option(help="Updates of the generator, at least 1.")] = 8_000,
    batch: Annotated[int, typer.Option(help="Pictures a step, a multiple of 4.")] = 48,
    lr: Annotated[float, typer.Option(help="Adam's rate of the generator, 0 to 1.")] = 3e-4,
    critic_lr: Annotated[float, typer.Option(help="Of the discriminators, 0 to 1.")] = 6e-4,
    no_guide: Annotated[
        bool, typer.Option("--no-guide", help="Judge pixels alone, not a classifier's layers.")
    ] = False,
    guide_size: Annotated[
        int, typer.Option(help="Side in pixels at which that classifier looks, at least 16.")
    ] = 40,
    encoder_steps: Annotated[
        int, typer.Option(help="Updates of the encoder afterwards, at least 1.")
    ] = 4_000,
    seed: Annotated[int, typer.Option(help="Of weights, order and latents, from 0.")] = 0,
    bf16: Annotated[bool, typer.Option("--bf16", help="Train in bfloat16.")] = False,
    samples: Annotated[int, typer.Option(help="Pictures to write singly to OUT/samples.")] = 0,
    resume_from: Annotated[
        Path | None, typer.Option("--resume", help="A checkpoint.pt to go on from.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Train a class-conditional generator of 32×32 pictures, its discriminator and its encoder."""
    from invertkit.job import pick_device
    from invertkit.training.generator import GeneratorPlan
    from invertkit.training.generator_command import train_and_measure_generator

    where = pick_device(device)
    plan = GeneratorPlan(
        steps=steps,
        batch=batch,
        lr=lr,
        critic_lr=critic_lr,
        guide_layers=() if no_guide else GeneratorPlan.guide_layers,
        guide_size=guide_size,
        encoder_steps=encoder_steps,
        seed=seed,
        bf16=bf16,
    )
    weights = train_and_measure_generator(
        data=data,
        test=test,
        out=out,
        plan=plan,
        resume=resume_from,
        samples=samples,
        device=str(where),
        report=_say,
    )
    typer.echo(str(weights))
