"""The job of an interrupted run, from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invertkit.core.devices import pick_device
from invertkit.core.images.inputs import Inputs
from invertkit.errors import InputError
from invertkit.recipe.page import validate
from invertkit.recipe.registry import Registry
from invertkit.runs import checkpoint
from invertkit.runs.job import Job


def restored(
    folder: Path, *, models: Mapping[str, Any] | None = None
) -> tuple[Job, dict[str, Any]]:
    """The job of an interrupted run and its checkpoint.

    Raises:
        InputError: The folder holds no checkpoint, or this machine lacks its device.
    """
    begun, state = checkpoint.load(folder)
    lacking = [name for name in begun["models"] if name not in (models or {})]
    if lacking:
        way = "resume_each" if begun["photographs"][0]["name"] else "resume"
        raise InputError(
            f"{folder}: was begun with networks given from Python ({', '.join(lacking)}); go on "
            f"from there: `invertkit.{way}({str(folder)!r}, models={{{lacking[0]!r}: …}})`."
        )
    registry = Registry()
    for path in begun["parts"]:
        registry = registry.with_parts(Path(path))
    job = Job(
        page=validate(begun["recipe"]),
        raw=begun["recipe"],
        photographs=tuple(Inputs.load(saved) for saved in begun["photographs"]),
        seeds=tuple(begun["seeds"]),
        device=pick_device(begun["device"]),
        registry=registry,
        models=dict(models or {}),
        parts=tuple(begun["parts"]),
        compile=begun["compile"],
        precision=begun["precision"],
        batch=begun["batch"],
        said=(f"Going on with {folder}.",),
    )
    return job, state
