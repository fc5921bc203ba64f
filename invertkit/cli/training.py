"""`invertkit train`: the models that the package carries, or others like them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from invertkit.cli.common import Device, say

app = typer.Typer(help="Train the models that the package carries.", no_args_is_help=True)


@app.command("classifier")
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
        report=say,
    )
    typer.echo(str(weights))


@app.command("generator")
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
        report=say,
    )
    typer.echo(str(weights))
