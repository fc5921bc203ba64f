"""What a notebook calls: `run` and `resume`, for one photograph or many; `prepare`, `steps`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from invertkit.core.modes import ordinary_modes
from invertkit.engine.run import StepReport
from invertkit.errors import InputError
from invertkit.recipe.overlay import RecipeLike
from invertkit.runs.carry_out import made, run_folder, single_job, tell
from invertkit.runs.collection import Photographs
from invertkit.runs.gather import Results
from invertkit.runs.inversion import Inversion
from invertkit.runs.keeping import Keeping
from invertkit.runs.observers import Observer
from invertkit.runs.prepare import prepare_job
from invertkit.runs.result import Result
from invertkit.runs.resume import restored
from invertkit.runs.settings import takes_objects, takes_settings


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
) -> Result:
    """Carry out a recipe.

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
        The result; interrupted by Ctrl-C, the result so far.

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
    with run_folder(out, judge=judge) as folder:
        keeping = Keeping(folder=folder, checkpoint_every=checkpoint_every, judge=judge)
        return made(job, observers, keeping, progress=progress)[0]


@takes_settings
@ordinary_modes()
def run_each(
    recipe: RecipeLike,
    photographs: Photographs,
    *,
    out: str | Path | None = None,
    observers: Sequence[Observer] = (),
    progress: bool | None = None,
    checkpoint_every: float = 20.0,
    judge: bool = False,
    **given: Any,
) -> Results:
    """Carry out a recipe on many photographs, several side by side where the device allows it.

    Each comes out as it would alone.

    Args:
        recipe: Name of a recipe, the path of a page, or a page as a mapping.
        photographs: A folder with a sub-folder for each photograph and in it a file for each input
            of the recipe, such as `NAME/{image,mask}.*`; or with pictures if the recipe needs one
            image; or a list of mappings such as `{"image": …, "mask": …, "name": …}`, values as
            for `run`.
        out: Folder to write: a sub-folder for each photograph, as `run` would write it, and
            `index.html` and `results.csv` about all.
        observers: Called after every step of every batch.
        progress: As in `run`.
        checkpoint_every: Seconds between checkpoints, if there is a folder.
        judge: As in `run`.
        **given: The settings below, by name; and by the name of an input what its file is called in
            every sub-folder, with or without its ending, such as `target="target_position"`.

    Returns:
        A result for each photograph, in order; interrupted by Ctrl-C, of those that were begun. A
        photograph with which the recipe cannot go on is left out with a warning, and is told of in
        `failed`.

    Raises:
        InvertkitError: Anything the caller can mend, in one sentence.

    Example:
        >>> import torch
        >>> page = {"inputs": ["image"], "variable": {"type": "pixels"},
        ...         "objective": {"match": {"type": "pixel_distance"}},
        ...         "optimizer": {"type": "adam"}, "stages": [{"size": 8, "steps": 1}]}
        >>> two = [{"image": torch.zeros(3, 16, 16)}, {"image": torch.ones(3, 16, 16)}]
        >>> results = run_each(page, two, device="cpu")
        >>> results
        <2 results>
        >>> [result.inputs.name for result in results]
        ['0', '1']
    """
    if out is not None and isinstance(photographs, str | Path):
        _check_apart(Path(out), Path(photographs))
    job = prepare_job(recipe, photographs=photographs, **given)
    with run_folder(out, judge=judge) as folder:
        keeping = Keeping(folder=folder, checkpoint_every=checkpoint_every, judge=judge)
        return _warned(made(job, observers, keeping, progress=progress))


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
) -> Result:
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

    Example:
        >>> import tempfile
        >>> page = {"variable": {"type": "pixels"}, "objective": {"size": {"type": "norm"}},
        ...         "optimizer": {"type": "adam"}, "stages": [{"size": 8, "steps": 3}]}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     part = run(page, device="cpu", out=folder,
        ...                observers=[lambda report: "stop" if report.step == 2 else None])
        ...     whole = resume(folder)
        >>> part.steps, whole.steps
        (2, 3)
    """
    job, state = restored(Path(folder), objects)
    if job.each:
        raise InputError(
            f"{folder}: is a run over {len(job.photographs)} photographs; go on with "
            f"`invertkit.resume_each({str(folder)!r})`."
        )
    keeping = Keeping(
        folder=Path(folder), checkpoint_every=checkpoint_every, judge=judge, state=state
    )
    return made(job, observers, keeping, progress=progress)[0]


@takes_objects
@ordinary_modes()
def resume_each(
    folder: str | Path,
    *,
    observers: Sequence[Observer] = (),
    progress: bool | None = None,
    checkpoint_every: float = 20.0,
    judge: bool = False,
    **objects: Any,
) -> Results:
    """`resume` for a run over many photographs, or over one: a result for each.

    Args:
        folder: Of the run.
        observers: Called after every step.
        progress: As in `run`.
        checkpoint_every: Seconds between checkpoints.
        judge: As in `run`.
        **objects: As in `resume`.

    Raises:
        InputError: The folder holds no checkpoint, or an object is missing.
    """
    job, state = restored(Path(folder), objects)
    keeping = Keeping(
        folder=Path(folder), checkpoint_every=checkpoint_every, judge=judge, state=state
    )
    return _warned(made(job, observers, keeping, progress=progress))


@takes_settings
@ordinary_modes()
def prepare(
    recipe: RecipeLike = "magic",
    *,
    out: str | Path | None = None,
    checkpoint_every: float = 20.0,
    judge: bool = False,
    **given: Any,
) -> Inversion:
    """A recipe with its inputs, to be run step by step with `steps`.

    Args:
        recipe: Name of a recipe, the path of a page, or a page as a mapping.
        out: Folder to write; without it nothing is written.
        checkpoint_every: Seconds between checkpoints, if there is a folder.
        judge: As in `run`.
        **given: The recipe's inputs and the settings below, by name, as in `run`.

    Returns:
        The inversion: `steps` takes its steps, `run.params` has its tensors, `result` its pictures.

    Raises:
        InvertkitError: Anything the caller can mend, in one sentence.
    """
    job = single_job(recipe, given)
    tell(job)
    with run_folder(out, judge=judge) as folder:
        keeping = Keeping(folder=folder, checkpoint_every=checkpoint_every, judge=judge)
        return Inversion(job, keeping)


def steps(inversion: Inversion) -> Iterator[StepReport]:
    """Take the steps that are left, one at a time.

    Between two of them the tensors may be looked at and changed in place, and the loop may be left
    and entered again.

    Args:
        inversion: From `prepare`.

    Yields:
        A report of every step; its `run.params` are the tensors, by name.

    Raises:
        InputError: It is no inversion.
        InvertkitError: A step cannot be taken.

    Example:
        >>> import torch
        >>> page = {"variable": {"type": "pixels"}, "objective": {"size": {"type": "norm"}},
        ...         "optimizer": {"type": "adam"}, "stages": [{"size": 8, "steps": 3}]}
        >>> inversion = prepare(page, device="cpu")
        >>> for report in steps(inversion):
        ...     print(report.step, report.losses.shape)
        1 torch.Size([1])
        2 torch.Size([1])
        3 torch.Size([1])
        >>> inversion.result().steps
        3
    """
    if not isinstance(inversion, Inversion):
        raise InputError(
            f"steps: expected what `invertkit.prepare` gives, got {type(inversion).__name__}."
        )
    return inversion.steps()


def _check_apart(out: Path, photographs: Path) -> None:
    """Whether the folder of results would be taken for one of the photographs."""
    if out.resolve().is_relative_to(photographs.expanduser().resolve()):
        raise InputError(
            f"{out}: lies in {photographs}, whose folders are photographs. Choose another `--out`."
        )


def _warned(results: Results) -> Results:
    """The results; what was left out is told where nobody can miss it."""
    for name, reason in results.failed.items():
        warnings.warn(f"{name} was left out: {reason}", RuntimeWarning, stacklevel=3)
    return results
