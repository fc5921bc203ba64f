"""`invertkit train`: the models that the package carries, or others like them."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from invertkit.cli.common import say
from invertkit.cli.flags import with_flags
from invertkit.core.flags import Flag
from invertkit.training.classifier.plan import TrainingPlan
from invertkit.training.classifier.sources import Sources
from invertkit.training.generator.plan import GeneratorOrders, GeneratorPlan
from invertkit.training.loop.options import (
    ATTACK,
    DATA,
    DESCENT,
    NETWORK,
    TELLING,
    Machines,
    Telling,
)
from invertkit.training.projection.plan import (
    DescentOrders,
    EncoderPlan,
    ZetaOrders,
    ZetaPlan,
)

app = typer.Typer(help="Train the models that the package carries.", no_args_is_help=True)


@app.command("classifier")
@with_flags(panels=(NETWORK, ATTACK, DESCENT, DATA, TELLING))
def train_classifier(
    sources: Sources,
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, weights and model card.")],
    plan: Annotated[TrainingPlan, Flag(panel=DESCENT)],
    machines: Annotated[Machines, Flag(panel=DATA)],
    telling: Annotated[Telling, Flag(panel=TELLING)],
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on from the checkpoint in --out.", rich_help_panel=TELLING
        ),
    ] = False,
) -> None:
    """Train a quasi-robust classifier (MAGIC Eq. 3): PGD inside, SGD outside."""
    from invertkit.core.live_bar import somebody_looks
    from invertkit.training.classifier.command import train_and_measure

    weights = train_and_measure(
        sources=sources,
        out=out,
        plan=plan,
        machines=machines,
        telling=replace(
            telling,
            report=say,
            bar=somebody_looks(),
            command=shlex.join(["invertkit", *sys.argv[1:]]),
        ),
        resume=resume,
    )
    if weights is not None:
        typer.echo(str(weights))


@app.command("generator")
@with_flags()
def train_generator(orders: GeneratorOrders, plan: GeneratorPlan) -> None:
    """Train a class-conditional generator, its discriminator and its encoder."""
    from invertkit.training.generator.command import train_and_measure_generator

    typer.echo(str(train_and_measure_generator(plan=plan, orders=orders, report=say)))


@app.command("encoder")
@with_flags()
def train_encoder(orders: DescentOrders, plan: EncoderPlan) -> None:
    """Train an encoder that says where a projection into a generator begins."""
    from invertkit.training.projection.command import train_and_write_encoder

    typer.echo(str(train_and_write_encoder(plan=plan, orders=orders, report=say)))


@app.command("zeta")
@with_flags()
def train_zeta(orders: ZetaOrders, plan: ZetaPlan) -> None:
    """Train an auxiliary space in which projections into a generator take fewer steps."""
    from invertkit.training.projection.command import train_and_write_zeta

    typer.echo(str(train_and_write_zeta(plan=plan, orders=orders, report=say)))
