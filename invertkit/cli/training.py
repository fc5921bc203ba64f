"""`invertkit train`: the models that the package carries, or others like them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from invertkit.cli.common import Device, say

NETWORK, ATTACK, DESCENT = "Network", "Attack", "Descent"
MACHINE, TELLING = "Data and machines", "Checkpoints and reports"

app = typer.Typer(help="Train the models that the package carries.", no_args_is_help=True)


@app.command("classifier")
def train_classifier(
    data: Annotated[Path, typer.Option(help="Folder or zip of CLASS/NAME.jpg to train on.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, weights and model card.")],
    test: Annotated[Path | None, typer.Option(help="The same, to measure on at the end.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="kitnet or timm:NAME.", show_default="kitnet", rich_help_panel=NETWORK),
    ] = None,
    pretrained: Annotated[
        bool,
        typer.Option(
            help="Start a timm model from its published weights.", rich_help_panel=NETWORK
        ),
    ] = True,
    init: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: a classifier.safetensors, raw ones, or embedded.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    widths: Annotated[
        tuple[int, int, int, int],
        typer.Option(help="Channels of a new kitnet's four parts.", rich_help_panel=NETWORK),
    ] = (24, 48, 96, 192),
    size: Annotated[
        int | None,
        typer.Option(
            help="Side of the network's input; eps is measured there.",
            show_default="its own, 64 for kitnet",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    label_free: Annotated[
        bool,
        typer.Option(
            "--label-free",
            help="Train against the starting network's clean predictions; no labels are read.",
            rich_help_panel=NETWORK,
        ),
    ] = False,
    norm: Annotated[str, typer.Option(help="l2 or linf.", rich_help_panel=ATTACK)] = "l2",
    eps: Annotated[
        float, typer.Option(help="Radius of the attack; 0 for none.", rich_help_panel=ATTACK)
    ] = 0.05,
    attack_steps: Annotated[int, typer.Option(help="PGD steps.", rich_help_panel=ATTACK)] = 3,
    step_size: Annotated[
        float | None,
        typer.Option(help="Length of a step.", show_default="2/3 of eps", rich_help_panel=ATTACK),
    ] = None,
    random_start: Annotated[
        bool | None,
        typer.Option(
            "--random-start/--no-random-start",
            help="Start the attack at a random point.",
            show_default="only with --label-free",
            rich_help_panel=ATTACK,
        ),
    ] = None,
    restarts: Annotated[
        int, typer.Option(help="Further attacks from random points.", rich_help_panel=ATTACK)
    ] = 0,
    best: Annotated[
        bool,
        typer.Option(
            "--best/--last",
            help="Keep the attack's best iterate, or its last.",
            rich_help_panel=ATTACK,
        ),
    ] = True,
    eps_schedule: Annotated[
        str,
        typer.Option(
            help="constant, ramp:EPOCHS, or EPOCH=MULTIPLIER,… joined by lines.",
            rich_help_panel=ATTACK,
        ),
    ] = "constant",
    clean_epochs: Annotated[
        int, typer.Option(help="Passes before the attack begins.", rich_help_panel=ATTACK)
    ] = 0,
    epochs: Annotated[
        int, typer.Option(help="Passes over the data.", rich_help_panel=DESCENT)
    ] = 16,
    low_epochs: Annotated[
        int,
        typer.Option(help="Passes at --low-size before those at --size.", rich_help_panel=DESCENT),
    ] = 0,
    low_size: Annotated[
        int, typer.Option(help="Side of the input in these.", rich_help_panel=DESCENT)
    ] = 48,
    batch: Annotated[
        int,
        typer.Option(
            help="Photographs a step, of all processes together.", rich_help_panel=DESCENT
        ),
    ] = 256,
    lr: Annotated[float, typer.Option(help="Peak learning rate.", rich_help_panel=DESCENT)] = 0.4,
    lr_schedule: Annotated[
        str,
        typer.Option(
            help="triangle, step, cyclic, constant, or EPOCH=MULTIPLIER,…", rich_help_panel=DESCENT
        ),
    ] = "triangle",
    rise: Annotated[
        float,
        typer.Option(
            help="Share of the steps over which the triangle rises.", rich_help_panel=DESCENT
        ),
    ] = 0.2,
    drop: Annotated[
        float, typer.Option(help="Factor of the step schedule.", rich_help_panel=DESCENT)
    ] = 0.1,
    drop_every: Annotated[
        int, typer.Option(help="Epochs between its drops.", rich_help_panel=DESCENT)
    ] = 30,
    momentum: Annotated[float, typer.Option(help="Of SGD.", rich_help_panel=DESCENT)] = 0.9,
    nesterov: Annotated[
        bool, typer.Option(help="Nesterov's form of it.", rich_help_panel=DESCENT)
    ] = True,
    weight_decay: Annotated[
        float,
        typer.Option(help="On weights of convolutions and linear layers.", rich_help_panel=DESCENT),
    ] = 5e-4,
    smoothing: Annotated[
        float, typer.Option(help="Label smoothing.", rich_help_panel=DESCENT)
    ] = 0.1,
    ema: Annotated[
        float,
        typer.Option(
            help="Decay per step of the weights' average that is kept; 0 for none.",
            rich_help_panel=DESCENT,
        ),
    ] = 0.0,
    seed: Annotated[
        int,
        typer.Option(
            help="Of weights, order, augmentation, random starts.", rich_help_panel=DESCENT
        ),
    ] = 0,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Train in bfloat16.", rich_help_panel=MACHINE)
    ] = False,
    resolution: Annotated[
        int | None,
        typer.Option(
            help="Side at which photographs are kept in memory; from 128 on they are streamed.",
            show_default="32, or --size if above 64",
            rich_help_panel=MACHINE,
        ),
    ] = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Read photographs from the disk as training goes.",
            rich_help_panel=MACHINE,
        ),
    ] = False,
    workers: Annotated[
        int,
        typer.Option(
            help="Processes that read them, for each that trains.", rich_help_panel=MACHINE
        ),
    ] = 4,
    devices: Annotated[
        int,
        typer.Option(
            help="GPUs, or CPU processes, of this machine to train on.", rich_help_panel=MACHINE
        ),
    ] = 1,
    nodes: Annotated[int, typer.Option(help="Machines.", rich_help_panel=MACHINE)] = 1,
    device: Device = "auto",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on from the checkpoint in --out.", rich_help_panel=TELLING
        ),
    ] = False,
    save_every: Annotated[
        float, typer.Option(help="Seconds between checkpoints.", rich_help_panel=TELLING)
    ] = 300.0,
    log_every: Annotated[
        int, typer.Option(help="Steps per row of history.csv.", rich_help_panel=TELLING)
    ] = 50,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard", help="Write TensorBoard event files too.", rich_help_panel=TELLING
        ),
    ] = False,
    radii: Annotated[
        list[float],
        typer.Option(
            "--radius",
            help="Radius to measure at; repeatable.",
            show_default="0 and ½, 1, 2, 5 times eps",
            rich_help_panel=TELLING,
        ),
    ] = [],
    attacks: Annotated[
        list[str],
        typer.Option("--measure", help="pgd-N or autoattack; repeatable.", rich_help_panel=TELLING),
    ] = ["pgd-20"],
) -> None:
    """Train a quasi-robust classifier (MAGIC Eq. 3): PGD inside, SGD outside."""
    from invertkit.core.devices import pick_device
    from invertkit.core.live_bar import somebody_looks
    from invertkit.training.classifier import plan as plans
    from invertkit.training.classifier.command import Machines, Sources, Telling, train_and_measure
    from invertkit.training.robustness.attack import Attack

    rates = plans.read_lr_schedule(lr_schedule)
    plan = plans.TrainingPlan(
        attack=Attack(
            norm=cast(Any, norm),
            eps=eps,
            steps=attack_steps,
            step_size=step_size,
            keep_best=best,
            random_start=label_free or bool(restarts) if random_start is None else random_start,
            restarts=restarts,
        ),
        epochs=epochs,
        clean_epochs=clean_epochs,
        eps_points=plans.read_eps_schedule(eps_schedule),
        low_epochs=low_epochs,
        low_size=low_size,
        size=size or plans.TrainingPlan.size,
        batch=batch,
        lr=lr,
        lr_schedule=rates[0],
        lr_points=rates[1],
        rise=rise,
        drop=drop,
        drop_every=drop_every,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        smoothing=smoothing,
        ema=ema,
        label_free=label_free,
        widths=widths,
        seed=seed,
        bf16=bf16,
    )
    weights = train_and_measure(
        sources=Sources(
            data=data,
            test=test,
            model=model,
            pretrained=pretrained,
            init=init,
            resolution=resolution,
            stream=stream,
            workers=workers,
        ),
        out=out,
        plan=plan,
        size=size,
        resume=resume,
        machines=Machines(str(pick_device(device)), devices, nodes),
        telling=Telling(
            report=say,
            bar=somebody_looks(),
            tensorboard=tensorboard,
            log_every=log_every,
            save_every=save_every,
            radii=tuple(radii),
            attacks=tuple(attacks),
            command=shlex.join(["invertkit", *sys.argv[1:]]),
        ),
    )
    if weights is not None:
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
    from invertkit.core.devices import pick_device
    from invertkit.training.generator.command import train_and_measure_generator
    from invertkit.training.generator.plan import GeneratorPlan

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
