"""What trainings are told beside their plan: where to run, and what to tell on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final, final

from invertkit.core.flags import NO_FLAG, Flag

Tell = Callable[[str], None]
"""Receives what is to be told, a line at a time."""

NETWORK: Final = "Network"
ATTACK: Final = "Attack"
DESCENT: Final = "Descent"
DATA: Final = "Data and machines"
TELLING: Final = "Checkpoints and reports"


@final
@dataclass(frozen=True)
class Machines:
    """Where to train.

    Args:
        device: auto, cpu, cuda or cuda:N.
        devices: GPUs, or CPU processes, of this machine to train on.
        nodes: Machines.
    """

    device: Annotated[str, Flag(panel="Options")] = "auto"
    devices: int = 1
    nodes: int = 1


@final
@dataclass(frozen=True)
class Telling:
    """What is said and written on the way, and measured at the end.

    Args:
        report: Receives what is to be told, a line at a time.
        bar: Draw a progress bar; lines then appear above it.
        tensorboard: Write TensorBoard event files too.
        log_every: Steps per row of history.csv.
        save_every: Seconds between checkpoints.
        radii: Radius to measure at; repeatable. None for 0 and ½, 1, 2 and 5 times ε.
        attacks: pgd-N or autoattack; repeatable.
        command: As it was typed, for the model card.
    """

    report: Annotated[Tell, NO_FLAG] = print
    bar: Annotated[bool, NO_FLAG] = False
    tensorboard: bool = False
    log_every: int = 50
    save_every: float = 300.0
    radii: Annotated[tuple[float, ...], Flag("--radius", shown="0 and ½, 1, 2, 5 times eps")] = ()
    attacks: Annotated[tuple[str, ...], Flag("--measure")] = ("pgd-20",)
    command: Annotated[str, NO_FLAG] = ""
