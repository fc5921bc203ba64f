"""What a notebook calls: `run` and `resume`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from invertkit.execution import Observer, carry_out, log, restored
from invertkit.images import ImageLike
from invertkit.job import Job, prepare
from invertkit.precision import Precision
from invertkit.replay import Compile
from invertkit.report import new_folder
from invertkit.result import Result


def run(
    recipe: str | Path = "magic",
    *,
    image: ImageLike | None = None,
    mask: ImageLike | None = None,
    target: ImageLike | None = None,
    seed: int = 0,
    seeds: int = 1,
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
        image: Photograph: a path, PIL image, array or tensor; see `invertkit.images.ImageLike`.
            If the recipe needs inputs and none at all is given, the demonstration is used.
        mask: Where its object is: the same kinds, of the same size, white on the object.
        target: Where the object shall be.
        seed: Of the first image; the others count up from it.
        seeds: How many images. Each is the same alone or in company.
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
        device=device,
        choices={**(choices or {}), **({"budget": budget} if budget else {})},
        overrides=overrides,
        models=models,
        parts=parts,
        compile=compile,
        precision=precision,
    )
    for sentence in job.said:
        log.info(sentence)
    folder = new_folder(Path(out)) if out is not None else None
    with progress_bar(job, wanted=progress) as bar:
        return carry_out(
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
        InputError: The folder holds no checkpoint.
    """
    path = Path(folder)
    job, state = restored(path, models=models)
    with progress_bar(job, wanted=progress) as bar:
        return carry_out(
            job,
            folder=path,
            observers=(*observers, *bar),
            checkpoint_every=checkpoint_every,
            state=state,
        )


@contextlib.contextmanager
def progress_bar(job: Job, *, wanted: bool | None) -> Iterator[tuple[Observer, ...]]:
    """A progress bar as an observer, if it is wanted."""
    from invertkit import progress

    if not (progress.somebody_looks() if wanted is None else wanted):
        yield ()
        return
    with progress.Bar(images=len(job.seeds), one_by_one=job.device.type == "cpu") as bar:
        yield (bar,)
