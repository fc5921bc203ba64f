"""What a notebook calls: `run` and `resume`, and the same for many photographs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from invertkit.core.files import new_folder
from invertkit.core.images.load import ImageLike
from invertkit.core.log import log
from invertkit.core.precision import Precision
from invertkit.core.recording.replay import Compile
from invertkit.errors import InputError
from invertkit.runs.carry_out import carry_out, carry_out_each
from invertkit.runs.collection import Photographs
from invertkit.runs.gather import Outcome
from invertkit.runs.job import Job
from invertkit.runs.observers import Observer
from invertkit.runs.prepare import prepare
from invertkit.runs.result import Result
from invertkit.runs.resume import restored


def run(
    recipe: str | Path = "magic",
    *,
    image: ImageLike | None = None,
    mask: ImageLike | None = None,
    target: ImageLike | None = None,
    seed: int = 0,
    seeds: int = 1,
    batch: int | None = None,
    device: str = "auto",
    budget: str | None = None,
    choices: Mapping[str, str] | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    models: Mapping[str, Any] | None = None,
    parts: Sequence[str | Path] = (),
    compile: Compile = "auto",
    precision: Precision = "tf32",
    out: str | Path | None = None,
    observers: Sequence[Observer] = (),
    progress: bool | None = None,
    checkpoint_every: float = 20.0,
) -> Result:
    """Carry out a recipe.

    Args:
        recipe: Name of a recipe, or the path of a page.
        image: Photograph: a path, PIL image, array or tensor; see
            `invertkit.core.images.load.ImageLike`. If the recipe needs inputs and none at all is
            given, the demonstration is used.
        mask: Where its object is: the same kinds, of the same size, white on the object.
        target: Where the object shall be.
        seed: Of the first image; the others count up from it.
        seeds: How many images. Each is the same alone or in company.
        batch: How many of them are made side by side at most; by default one on a CPU, which is as
            fast and rounds the same whatever the company, and 16 on an accelerator.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        budget: Option of the recipe's choice `budget`, such as `preview` or `full`.
        choices: Option of any other choice, such as `{"mode": "location"}`.
        overrides: `{"objective.control.weight": 20}`, or the same as `KEY=VALUE` texts.
        models: Networks by name, replacing the recipe's: any `nn.Module` that takes
            ImageNet-normalised images, or a `Classifier` for other normalisations.
        parts: Python files with parts of your own.
        compile: How steps are taken. `off`: by Python, operation by operation. `graph`: recorded
            and replayed, on CUDA as one graph; the picture is the same. `inductor`: compiled
            before that. `auto`: as `graph`. What cannot be replayed is said and taken by Python.
        precision: Of the networks: `float32`, `tf32` (rounds products on CUDA; nothing on a CPU)
            or `bf16`.
        out: Folder to write; without it nothing is written.
        observers: Called after every step.
        progress: Show a progress bar; by default on a terminal or in a notebook.
        checkpoint_every: Seconds between checkpoints, if there is a folder.

    Returns:
        The result; interrupted by Ctrl-C, the result so far.

    Raises:
        InvertkitError: Anything the caller can mend, in one sentence.
    """
    job = prepare(
        recipe,
        image=image,
        mask=mask,
        target=target,
        seed=seed,
        seeds=seeds,
        batch=batch,
        device=device,
        choices=_with_budget(choices, budget),
        overrides=overrides,
        models=models,
        parts=parts,
        compile=compile,
        precision=precision,
    )
    outcome = _begun(
        job, out, observers=observers, progress=progress, checkpoint_every=checkpoint_every
    )
    return outcome.results[0]


def run_each(
    recipe: str | Path,
    photographs: Photographs,
    *,
    image: str | None = None,
    mask: str | None = None,
    target: str | None = None,
    seed: int = 0,
    seeds: int = 1,
    batch: int | None = None,
    device: str = "auto",
    budget: str | None = None,
    choices: Mapping[str, str] | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    models: Mapping[str, Any] | None = None,
    parts: Sequence[str | Path] = (),
    compile: Compile = "auto",
    precision: Precision = "tf32",
    out: str | Path | None = None,
    observers: Sequence[Observer] = (),
    progress: bool | None = None,
    checkpoint_every: float = 20.0,
) -> list[Result]:
    """Carry out a recipe on many photographs, several side by side where the device allows it.

    Each comes out as it would alone.

    Args:
        recipe: Name of a recipe, or the path of a page.
        photographs: A folder with a sub-folder for each photograph, `NAME/{image,mask,target}.*`,
            or with pictures if the recipe needs no masks; or a list of
            `{"image": …, "mask": …, "target": …, "name": …}`, values as for `run`.
        image: What the photograph is called in every sub-folder, with or without its ending.
        mask: What its mask is called.
        target: What its target is called, such as `target_position`.
        seed: Of the first image of each photograph.
        seeds: How many images of each.
        batch: How many images are made side by side at most; by default one on a CPU and 16 on an
            accelerator. Photographs share a batch if their stages have equal sizes.
        device: As for `run`, and so are `budget`, `choices`, `overrides`, `models`, `parts`,
            `compile`, `precision`, `observers`, `progress` and `checkpoint_every`.
        budget: Option of the recipe's choice `budget`.
        choices: Option of any other choice.
        overrides: Changes of the recipe.
        models: Networks by name.
        parts: Python files with parts of your own.
        compile: How steps are taken.
        precision: Of the networks.
        out: Folder to write: a sub-folder for each photograph, as `run` would write it, and
            `index.html` and `results.csv` about all.
        observers: Called after every step of every batch.
        progress: Show a progress bar.
        checkpoint_every: Seconds between checkpoints, if there is a folder.

    Returns:
        A result for each photograph, in order; interrupted by Ctrl-C, of those that were begun. A
        photograph with which the recipe cannot go on is left out with a warning.

    Raises:
        InvertkitError: Anything the caller can mend, in one sentence.
    """
    job = prepare(
        recipe,
        photographs=photographs,
        files={"image": image, "mask": mask, "target": target},
        seed=seed,
        seeds=seeds,
        batch=batch,
        device=device,
        choices=_with_budget(choices, budget),
        overrides=overrides,
        models=models,
        parts=parts,
        compile=compile,
        precision=precision,
    )
    outcome = _begun(
        job, out, observers=observers, progress=progress, checkpoint_every=checkpoint_every
    )
    return _warned(outcome)


def _with_budget(choices: Mapping[str, str] | None, budget: str | None) -> dict[str, str]:
    return {**(choices or {}), **({"budget": budget} if budget else {})}


def _begun(
    job: Job,
    out: str | Path | None,
    *,
    observers: Sequence[Observer],
    progress: bool | None,
    checkpoint_every: float,
) -> Outcome:
    """Carry out a job that has not begun."""
    for sentence in job.said:
        log.info(sentence)
    folder = new_folder(Path(out)) if out is not None else None
    with progress_bar(job, wanted=progress) as bar:
        return carry_out_each(
            job, folder=folder, observers=(*observers, *bar), checkpoint_every=checkpoint_every
        )


def resume(
    folder: str | Path,
    *,
    models: Mapping[str, Any] | None = None,
    observers: Sequence[Observer] = (),
    progress: bool | None = None,
    checkpoint_every: float = 20.0,
) -> Result:
    """Go on with an interrupted run, to the same picture as if it had never stopped.

    Args:
        folder: Of the run.
        models: The networks that were given from Python, if any were.
        observers: Called after every step.
        progress: As in `run`.
        checkpoint_every: Seconds between checkpoints.

    Raises:
        InputError: The folder holds no checkpoint, or one of `run_each`.
    """
    job, state = restored(Path(folder), models=models)
    if job.each:
        raise InputError(
            f"{folder}: is a run over {len(job.photographs)} photographs; go on with "
            f"`invertkit.resume_each({str(folder)!r})`."
        )
    with progress_bar(job, wanted=progress, made=images_made(state)) as bar:
        return carry_out(
            job,
            folder=Path(folder),
            observers=(*observers, *bar),
            checkpoint_every=checkpoint_every,
            state=state,
        )


def resume_each(
    folder: str | Path,
    *,
    models: Mapping[str, Any] | None = None,
    observers: Sequence[Observer] = (),
    progress: bool | None = None,
    checkpoint_every: float = 20.0,
) -> list[Result]:
    """`resume` for a run over many photographs: a result for each.

    Args:
        folder: Of the run.
        models: The networks that were given from Python, if any were.
        observers: Called after every step.
        progress: As in `run`.
        checkpoint_every: Seconds between checkpoints.

    Raises:
        InputError: The folder holds no checkpoint.
    """
    path = Path(folder)
    job, state = restored(path, models=models)
    with progress_bar(job, wanted=progress, made=images_made(state)) as bar:
        outcome = carry_out_each(
            job,
            folder=path,
            observers=(*observers, *bar),
            checkpoint_every=checkpoint_every,
            state=state,
        )
    return _warned(outcome)


def _warned(outcome: Outcome) -> list[Result]:
    """The results; what was left out is told where nobody can miss it."""
    for name, reason in outcome.failed.items():
        warnings.warn(f"{name} was left out: {reason}", RuntimeWarning, stacklevel=3)
    return outcome.results


def images_made(state: Mapping[str, Any]) -> int:
    """How many images a checkpoint holds."""
    return sum(len(batch["of"]) for batch in state["done"])


@contextlib.contextmanager
def progress_bar(job: Job, *, wanted: bool | None, made: int = 0) -> Iterator[tuple[Observer, ...]]:
    """A progress bar as an observer, if it is wanted; `made` images are there already."""
    from invertkit.core.live_bar import somebody_looks
    from invertkit.runs import progress

    if not (somebody_looks() if wanted is None else wanted):
        yield ()
        return
    with progress.Bar(images=len(job.photographs) * len(job.seeds), made=made) as bar:
        yield (bar,)
