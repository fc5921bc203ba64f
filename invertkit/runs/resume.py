"""The job of an interrupted run, from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from invertkit.core.devices import pick_device
from invertkit.core.suggestions import did_you_mean
from invertkit.errors import InputError
from invertkit.recipe.page import validate
from invertkit.runs import checkpoint
from invertkit.runs.checkpoint import Checkpoint
from invertkit.runs.job import Job
from invertkit.runs.objects import checked, given_again, registry_of, same_again
from invertkit.runs.settings import OBJECTS


def restored(folder: Path, objects: Mapping[str, Any] | None = None) -> tuple[Job, Checkpoint]:
    """The job of an interrupted run and its checkpoint.

    Args:
        folder: Of the run.
        objects: Those that were made in Python, by argument of `run`.

    Raises:
        InputError: The folder holds no checkpoint, this machine lacks its device, or an object that
            was made in Python is missing, or another than it was.
    """
    given = {name: value for name, value in (objects or {}).items() if value is not None}
    if unknown := [name for name in given if name not in OBJECTS]:
        raise InputError(
            f"{unknown[0]}: expected an object made in Python, as one of {', '.join(OBJECTS)}; all "
            f"else is in the checkpoint.{did_you_mean(unknown[0], OBJECTS)}"
        )
    saved = checkpoint.load(folder)
    way = "resume_each" if saved.photographs[0].name else "resume"
    given_again(saved.recipe, given, folder=folder, way=way)
    # Another device would round otherwise, and the picture would not be the same.
    pick_device(saved.settings.device)
    settings = checked(replace(saved.settings, **given))
    same_again(saved.recipe, settings, given, folder=folder)
    job = Job(
        page=validate(saved.recipe),
        raw=saved.recipe,
        photographs=saved.photographs,
        settings=settings,
        registry=registry_of(settings),
        sentences=(f"Going on with {folder}.",),
    )
    return job, saved
