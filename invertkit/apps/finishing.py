"""`run` and `resume` of recipes that make something of their result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from invertkit.apps.editing.finish import (
    Finish,
    Finished,
    Projected,
    generator_of,
    write_finished,
)
from invertkit.core.log import log
from invertkit.core.modes import ordinary_modes
from invertkit.core.suggestions import conjoined
from invertkit.engine.problem import Status
from invertkit.errors import InputError
from invertkit.models.generators.generator import Generator
from invertkit.recipe.build import build_model, build_part, check_inputs
from invertkit.recipe.overlay import RecipeLike
from invertkit.recipe.page import Page
from invertkit.recipe.registry import Registry
from invertkit.runs import api
from invertkit.runs.carry_out import made, run_folder, single_job
from invertkit.runs.gather import Results
from invertkit.runs.job import Job
from invertkit.runs.keeping import Keeping
from invertkit.runs.observers import Observer
from invertkit.runs.result import Result
from invertkit.runs.resume import restored
from invertkit.runs.settings import OBJECTS, settings_and_inputs, takes_objects, takes_settings


@takes_settings
@ordinary_modes()
def run(
    recipe: RecipeLike = "magic",
    *,
    out: str | Path | None = None,
    observers: Sequence[Observer] = (),
    progress: bool | None = None,
    checkpoint_every: float = 20.0,
    judge: bool = False,
    **given: Any,
) -> Result | Finished:
    """Carry out a recipe, and what its page makes of the result.

    Args:
        recipe: Name of a recipe, the path of a page, or a page as a mapping.
        out: Folder to write; without it nothing is written.
        observers: Called after every step.
        progress: Show a progress bar, and in a notebook the picture; by default on a terminal or
            in a notebook.
        checkpoint_every: Seconds between checkpoints, if there is a folder.
        judge: Also measure IoU with the target, by a segmenter that is trained for it (seconds),
            into the folder's `metrics.json`.
        **given: The recipe's inputs by name, such as `image="a.jpg"`: paths, PIL images, arrays or
            tensors; see `invertkit.core.images.load.ImageLike`. If it needs some and none at all is
            given, its demonstration is used. And the settings below, by name.

    Returns:
        The result; interrupted by Ctrl-C, the result so far. Of a page with `finish`, such as
        collage, what was made of it.

    Raises:
        InvertkitError: Anything the caller can mend, in one sentence.

    Example:
        >>> import torch
        >>> page = {"inputs": ["image"], "variable": {"type": "pixels"},
        ...         "objective": {"match": {"type": "pixel_distance"}},
        ...         "optimizer": {"type": "adam"}, "stages": [{"size": 8, "steps": 2}]}
        >>> result = run(page, image=torch.zeros(3, 16, 16), seeds=2, device="cpu")
        >>> result.images.shape, result.steps
        (torch.Size([2, 3, 8, 8]), 2)
    """
    job = single_job(recipe, given)
    if job.page.finish is None:
        with run_folder(out, judge=judge) as folder:
            keeping = Keeping(folder=folder, checkpoint_every=checkpoint_every, judge=judge)
            return made(job, observers, keeping, progress=progress)[0]
    finish = finish_of(job.page, job.registry)
    if not any(value is not None for value in settings_and_inputs(given)[1].values()):
        job = _demonstrated(job, finish, recipe, given)
    check_inputs(job.page, job.photographs[0])
    job = _opened(job, finish)
    finish.check(job.photographs[0], generator_of(job, finish.model), job.page.fit)
    job = replace(job, photographs=finish.cases(job.photographs[0]))
    with run_folder(out, judge=judge) as folder:
        keeping = Keeping(folder=folder, checkpoint_every=checkpoint_every, judge=judge)
        results = made(job, observers, keeping, progress=progress)
        return _finished(job, finish, results, folder)


@takes_objects
@ordinary_modes()
def resume(
    folder: str | Path,
    *,
    observers: Sequence[Observer] = (),
    progress: bool | None = None,
    checkpoint_every: float = 20.0,
    judge: bool = False,
    **objects: Any,
) -> Result | Finished:
    """Go on with an interrupted run, to the same picture as if it had never stopped.

    Args:
        folder: Of the run.
        observers: Called after every step.
        progress: As in `run`.
        checkpoint_every: Seconds between checkpoints.
        judge: As in `run`.
        **objects: Those that were given from Python, if any were, by name as below.

    Raises:
        InputError: The folder holds no checkpoint, or one of `run_each`; or an object is missing.
    """
    how: dict[str, Any] = {
        "observers": observers, "progress": progress, "checkpoint_every": checkpoint_every,
        "judge": judge, **objects,
    }  # fmt: skip
    job, _ = restored(Path(folder), objects)
    if job.page.finish is None:
        return api.resume(folder, **how)
    ended = resumed(folder, **how)
    return ended[0] if isinstance(ended, Results) else ended


@ordinary_modes()
def resumed(folder: str | Path, **how: Any) -> Result | Finished | Results:
    """Go on with an interrupted run of any kind, and with what its page makes of the result.

    Args:
        folder: Of the run.
        **how: As for `resume`.

    Raises:
        InputError: The folder holds no checkpoint, or an object is missing.
    """
    results = api.resume_each(folder, **how)
    objects = {name: value for name, value in how.items() if name in OBJECTS}
    job, _ = restored(Path(folder), objects)
    if job.page.finish is None:
        return results
    finish = finish_of(job.page, job.registry)
    return _finished(_opened(job, finish), finish, results, Path(folder))


def finish_of(page: Page, registry: Registry | None = None) -> Finish:
    """What a page makes of its result.

    Args:
        page: That has a `finish`.
        registry: The parts that exist.

    Raises:
        RecipeError: It is unknown, or an option is wrong.
    """
    finish: Finish = build_part("finish", page.finish, at="finish", registry=registry or Registry())
    return finish


def _opened(job: Job, finish: Finish) -> Job:
    """The job with its generator opened, so that it is opened once."""
    if finish.model in job.settings.models:
        return job
    node = job.page.models.get(finish.model)
    if node is None:
        raise InputError(f"finish.model: the recipe has no model {finish.model!r}.")
    generator = build_model(node, finish.model, job.registry).to(job.device)
    return job.using(models={**job.settings.models, finish.model: generator})


def _demonstrated(job: Job, finish: Finish, recipe: RecipeLike, given: dict[str, Any]) -> Job:
    """The job with the inputs of the finish's own demonstration."""
    generator = generator_of(_opened(job, finish), finish.model)
    shown = finish.demonstration(generator)
    settings = {name: value for name, value in given.items() if value is not None}
    job = single_job(recipe, {**settings, **shown})
    classes = conjoined([str(name) for name in shown.get("classes", ())])
    sentence = (
        f"No inputs given: taking a demonstration for {generator.description}, "
        f"{conjoined(list(shown))} ({classes})."
    )
    return replace(job, sentences=(*job.sentences, sentence))


def _finished(job: Job, finish: Finish, results: Results, folder: Path | None) -> Result | Finished:
    """What is made of the results, if all of them are whole."""
    ended = [result.status is Status.FINISHED for result in results]
    if not all(ended) or len(results) != len(job.photographs):
        log.info(
            f"The projection has not ended, so no {finish.noun} is made of it"
            f"{f'; `invertkit resume {folder}` goes on' if folder else ''}."
        )
        return results[0]
    generator: Generator = generator_of(job, finish.model)
    finished = finish.made([Projected.of(result, generator) for result in results])
    if folder is not None:
        write_finished(finished, folder)
    return finished
