"""Checkpoints that survive being killed at any moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from invertkit.core.files import whole_file
from invertkit.core.images.inputs import Inputs
from invertkit.errors import InputError, WriteError
from invertkit.recipe.page import Node
from invertkit.runs.batch_outcome import BatchOutcome, EndedBatch, load_batch
from invertkit.runs.settings import Settings

_BEGUN, _STATE, _DONE = "begun.pt", "state.pt", "batch-{}.pt"
FORMAT = 5
"""Of the files: a checkpoint of another one is refused."""


@final
@dataclass(frozen=True)
class Checkpoint:
    """All that is needed to go on with a run.

    Args:
        recipe: The resolved page.
        photographs: That it goes over, or the one.
        settings: How it is run, without the objects made in Python.
        done: The batches that have ended.
        split: Batches that were taken apart, by their places at that time, in order.
        now: The batch under way, or None; see `BatchRun.state`.
    """

    recipe: Node
    photographs: tuple[Inputs, ...]
    settings: Settings
    done: tuple[EndedBatch, ...]
    split: tuple[int, ...]
    now: Mapping[str, Any] | None

    @property
    def images_made(self) -> int:
        """How many images have ended."""
        return sum(len(batch.of) for batch in self.done if isinstance(batch, BatchOutcome))


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

    def begin(self, recipe: Node, photographs: Sequence[Inputs], settings: Settings) -> None:
        """Write what never changes, and an empty state: from now on the run can be resumed.

        Raises:
            WriteError: The folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"{self.folder}: cannot be made ({error}).") from None
        begun = {
            "format": FORMAT,
            # As text, since a reader that runs no code takes few types; JSON keeps every number.
            "recipe": json.dumps(recipe),
            "photographs": [photograph.save() for photograph in photographs],
            "settings": settings.save(),
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

    def add(self, batch: EndedBatch) -> None:
        """Write a batch that has ended, once and for all.

        Raises:
            WriteError: As `save`.
        """
        # The batch first, then the state that counts it: killed in between, it is made again.
        self._write(batch.save(), _DONE.format(self.done))
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


def load(folder: Path) -> Checkpoint:
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
    if begun.get("format") != FORMAT:
        raise InputError(
            f"{folder}: its checkpoint has format {begun.get('format')}, this version reads "
            f"{FORMAT}."
        )
    state = _read(place / _STATE)
    try:
        return Checkpoint(
            recipe=json.loads(begun["recipe"]),
            photographs=tuple(Inputs.load(saved) for saved in begun["photographs"]),
            settings=Settings.load(begun["settings"]),
            done=tuple(load_batch(_read(place / _DONE.format(i))) for i in range(state["done"])),
            split=tuple(state["split"]),
            now=state["now"],
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder}: its checkpoint cannot be read ({error}).") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        # A damaged pickle may raise anything at all.
        folder = path.parents[1]
        raise InputError(f"{folder}: its checkpoint cannot be read ({error}).") from None


def is_finished(folder: Path, *, batches: int) -> bool:
    """Whether so many batches are finished there."""
    return (folder / "checkpoint" / _DONE.format(batches - 1)).is_file()
