"""Checkpoints that survive being killed at any moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch

from invertkit.core.files import whole_file
from invertkit.core.images.inputs import Inputs
from invertkit.errors import InputError, WriteError

_BEGUN, _STATE, _DONE = "begun.pt", "state.pt", "batch-{}.pt"
_FORMAT = 4


@final
class Saver:
    """Writes the checkpoint of one run's folder, whole or not at all.

    Args:
        folder: Of the run.
        every: Seconds between checkpoints.
        done: How many batches are finished.
        split: Batches that were taken apart, by their places at that time, in order; it may grow.
        run: The folder that can be resumed, for messages; by default `folder`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every: float,
        done: int = 0,
        split: Sequence[int] = (),
        run: Path | None = None,
    ) -> None:
        self.folder, self.every, self.done = folder / "checkpoint", every, done
        self.split, self.run = split, run or folder
        self._last = time.monotonic()

    def begin(
        self,
        recipe: Mapping[str, Any],
        photographs: Sequence[Inputs],
        *,
        seeds: tuple[int, ...],
        device: str,
        parts: Sequence[str],
        models: Sequence[str] = (),
        compile: str = "auto",
        precision: str = "tf32",
        batch: int | None = None,
    ) -> None:
        """Write what never changes, and an empty state: from now on the run can be resumed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"{self.folder}: cannot be made ({error}).") from None
        begun = {
            "format": _FORMAT,
            "recipe": json.dumps(recipe),
            "photographs": [photograph.save() for photograph in photographs],
            "seeds": list(seeds),
            "device": device,
            "parts": list(parts),
            "models": list(models),
            "compile": compile,
            "precision": precision,
            "batch": batch,
        }
        self._write(begun, _BEGUN)
        self.save(None)

    def save_if_due(self, now: Callable[[], Mapping[str, Any]]) -> None:
        """`save`, if the last one is long enough ago."""
        if time.monotonic() - self._last >= self.every:
            self.save(now())

    def save(self, now: Mapping[str, Any] | None) -> None:
        """Write the batch under way.

        Raises:
            WriteError: The disk is full or the folder gone; the checkpoint before is untouched.
        """
        self._write({"done": self.done, "split": list(self.split), "now": now}, _STATE)
        self._last = time.monotonic()

    def add(self, batch: Mapping[str, Any]) -> None:
        """Write a finished batch, once and for all.

        Raises:
            WriteError: As `save`.
        """
        self._write(batch, _DONE.format(self.done))
        self.done += 1
        self.save(None)

    def _write(self, data: Mapping[str, Any], name: str) -> None:
        """To a file beside it first, forced to the disk, then renamed: never half a file."""
        path = self.folder / name
        try:
            with whole_file(path, forced=True) as partial:
                torch.save(dict(data), partial)
        except (OSError, RuntimeError) as error:
            raise WriteError(
                f"{path}: the checkpoint cannot be written ({error}). The one before is whole: "
                f"make room, then `invertkit resume {self.run}`."
            ) from None


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `begin` wrote, and every finished batch with the one under way.

    Raises:
        InputError: There is no readable checkpoint.
    """
    place = folder / "checkpoint"
    if not (place / _BEGUN).is_file() or not (place / _STATE).is_file():
        raise InputError(
            f"{folder}: holds no checkpoint; expected the folder of a run that was begun with "
            "`invertkit run`, such as runs/magic-…"
        )
    begun = _read(place / _BEGUN)
    if begun.get("format") != _FORMAT:
        raise InputError(
            f"{folder}: its checkpoint has format {begun.get('format')}, this version reads "
            f"{_FORMAT}."
        )
    state = _read(place / _STATE)
    try:
        state["done"] = [_read(place / _DONE.format(i)) for i in range(state["done"])]
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder}: its checkpoint cannot be read ({error}).") from None
    begun["recipe"] = json.loads(begun["recipe"])
    return begun, state


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged pickle may raise anything
        folder = path.parents[1]
        raise InputError(f"{folder}: its checkpoint cannot be read ({error}).") from None


def is_finished(folder: Path, *, batches: int) -> bool:
    """Whether so many batches are finished there."""
    return (folder / "checkpoint" / _DONE.format(batches - 1)).is_file()
