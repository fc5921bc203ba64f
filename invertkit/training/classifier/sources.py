"""Where the photographs and the starting weights of a classifier's training come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, final

from invertkit.core.flags import Flag
from invertkit.training.loop.options import DATA, NETWORK


@final
@dataclass(frozen=True)
class Sources:
    """Where photographs and starting weights come from.

    Args:
        data: Folder or zip of CLASS/NAME.jpg to train on.
        test: The same, to measure on at the end. None to measure nothing.
        model: kitnet or timm:NAME. None for what `init` says, else `kitnet`.
        pretrained: Start a timm model from its published weights.
        init: Weights to start from: a classifier.safetensors, raw ones, or embedded.
        size: Side of the network's input; ε is measured there. None for the network's own, 64 for
            `kitnet`.
        resolution: Side at which photographs are kept in memory; from 128 on they are streamed.
            None for 32 or, for networks that look at more than 64 pixels, the network's own.
        stream: Read photographs from the disk as training goes.
        workers: Processes that read them, for each that trains. None for as many as the machine
            has processors to spare.
    """

    data: Annotated[Path, Flag(panel="Options")]
    test: Annotated[Path | None, Flag(panel="Options")] = None
    model: Annotated[str | None, Flag(panel=NETWORK, shown="kitnet")] = None
    pretrained: Annotated[bool, Flag(panel=NETWORK)] = True
    init: Annotated[str | None, Flag(panel=NETWORK)] = None
    size: Annotated[int | None, Flag(panel=NETWORK, shown="its own, 64 for kitnet")] = None
    resolution: Annotated[int | None, Flag(panel=DATA, shown="32, or --size if above 64")] = None
    stream: Annotated[bool, Flag(panel=DATA)] = False
    workers: Annotated[int | None, Flag(panel=DATA, shown="by the machine's processors")] = None
