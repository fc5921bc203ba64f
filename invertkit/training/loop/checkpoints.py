"""The checkpoint of a training: written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from invertkit.core.files import whole_file
from invertkit.errors import InputError

CHECKPOINT: Final = "checkpoint.pt"
FORMAT: Final = 2


def write_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """To a file beside it first, forced to the disk, then renamed: never half a file.

    Args:
        state: Tensors, numbers, strings, lists and dicts.
        path: Where.

    Raises:
        InputError: The disk is full or the folder gone; the checkpoint before is untouched.
    """
    # Forced, unlike pictures and tables: hours of training hang on this one file.
    try:
        with whole_file(path, forced=True) as partial:
            torch.save({**state, "format": FORMAT}, partial)
    except (OSError, RuntimeError) as error:
        first = str(error).strip().split("\n")[0]
        raise InputError(
            f"{path}: the checkpoint cannot be written ({first:.120}). The one before, if any, is "
            "whole: make room, then go on with --resume."
        ) from None


def read_checkpoint(path: Path, *, device: torch.device) -> dict[str, Any]:
    """What `write_checkpoint` wrote.

    Raises:
        InputError: There is none, or it is damaged, or another version's.
    """
    expect_begun(path)
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        version = state["format"]
    except Exception as error:  # a damaged pickle may raise anything
        first = str(error).strip().split("\n")[0]
        raise InputError(
            f"{path}: is not a whole checkpoint of a training ({first:.120})."
        ) from None
    if version != FORMAT:
        raise InputError(f"{path}: has format {version}, this version reads {FORMAT}.")
    return state


def expect_begun(path: Path) -> None:
    """Refuse to go on from nothing.

    Raises:
        InputError: There is no checkpoint.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint; there is nothing to go on from.")


def make_folder(folder: Path) -> None:
    """Make the folder of a training, if it is not there yet.

    Raises:
        InputError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be made a folder ({error.strerror}). Choose another --out."
        ) from None


def expect_new(folder: Path) -> None:
    """Refuse a folder that holds a training.

    Raises:
        InputError: It does.
    """
    for name in (CHECKPOINT, "classifier.safetensors"):
        if (folder / name).exists():
            raise InputError(
                f"{folder / name}: is of an earlier training. Go on with it by --resume, or choose "
                "another --out."
            )
