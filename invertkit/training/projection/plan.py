"""The plans of the two trainings: everything that decides the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, final

from invertkit.core.flags import NO_FLAG


@dataclass(frozen=True)
class DescentPlan:
    """What both trainings share.

    Args:
        steps: Updates, at least 1. The rate falls linearly to 0 over the last ninth of them.
        batch: Photographs a step, at least 1.
        lr: Adam's rate, 0 to 1.
        seed: Of weights and order, from 0.
        betas: Adam's moments.
        decay: Of the weights, added to their slopes, from 0.
        clip: Largest norm of all slopes together; 0 for none.
    """

    steps: int = 10_000
    batch: int = 16
    lr: float = 5e-5
    seed: int = 0
    betas: Annotated[tuple[float, float], NO_FLAG] = (0.0, 0.9)
    decay: Annotated[float, NO_FLAG] = 0.0
    clip: Annotated[float, NO_FLAG] = 0.0


@final
@dataclass(frozen=True)
class EncoderPlan(DescentPlan):
    """Everything that decides an encoder's weights.

    Published: 450,000 steps of 16 at 5e-5, for CUB at 2e-4; Adam (0, 0.9).

    Args:
        pixels: Weight of the mean squared difference of pixels on [-1, 1], from 0.

    The others are as in `DescentPlan`.
    """

    lr: float = 2e-4
    pixels: float = 0.0


@final
@dataclass(frozen=True)
class ZetaPlan(DescentPlan):
    """Everything that decides auxiliary networks' weights.

    Published: 450,000 steps of 8 at 5e-5; Adam (0, 0.9).

    Args:
        zeta: Numbers of ζ, at least 1.
        hidden: Numbers of the layers between, at least 1.
        rate: Of the inner loop: `frozen` at 2e-4, as released, or `learned` with the rest, as the
            text has it.
        inner_weights: Of the losses before, between and after the inner steps.
        reconstruction: Weight of the mean squared difference of z and B(A(z)).
        pixels: Weight of the mean squared difference of pixels on [-1, 1], from 0.
        warm_steps: Steps before the first in which z shall come back alone, without the generator,
            from 0.
    """

    batch: int = 8
    decay: Annotated[float, NO_FLAG] = 1e-4
    clip: Annotated[float, NO_FLAG] = 100.0
    zeta: int = 10_000
    hidden: int = 1_000
    rate: Literal["frozen", "learned"] = "frozen"
    inner_weights: Annotated[tuple[float, ...], NO_FLAG] = (20.0, 2.0, 1.0)
    reconstruction: Annotated[float, NO_FLAG] = 100.0
    pixels: float = 0.05
    warm_steps: int = 0


@dataclass(frozen=True)
class DescentOrders:
    """What both trainings are told beside their plans; an encoder's no more than that.

    Args:
        data: Folder or zip of CLASS/NAME.png, of the generator's classes.
        out: Folder for checkpoint and weights.
        generator: A generator.safetensors, or the folder or file of SNGAN's .npz; by default the
            embedded one.
        discriminator: Its discriminator's file, where it lies elsewhere.
        resume: A checkpoint.pt to go on from.
        device: auto, cpu, cuda or cuda:N.
        save_every: Steps between checkpoints.
    """

    data: Path
    out: Path
    generator: Path | None = None
    discriminator: Path | None = None
    resume: Path | None = None
    device: str = "auto"
    save_every: int = 500


@final
@dataclass(frozen=True)
class ZetaOrders(DescentOrders):
    """What the training of an auxiliary space is told beside its plan.

    Args:
        encoder: An encoder.safetensors or SNGAN's .npz, where it is not the generator's own.
    """

    encoder: Path | None = None
