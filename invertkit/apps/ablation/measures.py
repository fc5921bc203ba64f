"""Numbers about the results of an ablation, with a judge for every photograph and size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

import torch
from safetensors.torch import save_file
from torch import Tensor

from invertkit.apps.ablation.cells import Cell
from invertkit.apps.ablation.table import AblationRow, State
from invertkit.apps.labels import slug
from invertkit.core.files import whole_file
from invertkit.core.images.inputs import Inputs
from invertkit.core.images.save import to_picture
from invertkit.core.log import log
from invertkit.core.regions import SOURCE_MASK, TARGET_MASK
from invertkit.engine.problem import Status
from invertkit.errors import InvertkitError
from invertkit.metrics.judge import Judge, train_judge
from invertkit.metrics.mask_iou import mask_iou
from invertkit.metrics.patch_similarity import bidirectional_similarity
from invertkit.models.loading.safetensors_file import metadata
from invertkit.models.loading.weights_file import load_into, read_weights
from invertkit.runs.result import Result

_STATES: Final[Mapping[Status, State]] = {
    Status.FINISHED: "finished",
    Status.STOPPED: "finished",
    Status.NON_FINITE: "non_finite",
    Status.INTERRUPTED: "interrupted",
}


@final
class Measures:
    """Compares results with what was wanted.

    Args:
        judges: Folder to keep the judges in, or None.
        judge: Whether to train segmenters that judge.
    """

    def __init__(self, judges: Path | None, *, judge: bool) -> None:
        self._folder, self._judge = judges, judge
        self._judges: dict[tuple[Any, ...], tuple[Judge, float]] = {}

    def rows(self, cell: Cell, result: Result) -> list[AblationRow]:
        """One for each seed; the pictures of an interrupted run are not compared."""
        state = _STATES[result.status]
        error = f"the run {result.status.value}" if state == "non_finite" else ""
        height, width = result.images.shape[-2:]
        inputs = result.inputs.at((height, width), cell.job.page.fit)
        history = result.history
        rows = []
        for seed in cell.job.seeds:
            if seed not in result.seeds:
                rows += [AblationRow(cell.case.name, cell.variant.name, seed, state, error=error)]
                continue
            i = result.seeds.index(seed)
            step = result.best_steps[i] if result.result == "best" else -1
            values = {name: _at(column[i], step) for name, column in history.items()}
            losses = {name: v for name, v in values.items() if name != "total" and v is not None}
            total = values["total"]
            numbers = {"loss": math.nan if total is None else total}
            if state != "interrupted":
                numbers = {**self._compared(cell, result.images[i : i + 1], inputs), **numbers}
            numbers["seconds"] = result.seconds / len(result.seeds)
            numbers["steps"] = result.steps
            picture = to_picture(result.images[i])
            rows.append(
                AblationRow(
                    cell.case.name, cell.variant.name, seed, state, numbers, losses, picture, error
                )
            )
        return rows

    def _compared(self, cell: Cell, image: Tensor, inputs: Inputs) -> dict[str, float]:
        """What the judge and the patches say of a picture."""
        numbers: dict[str, float] = {}
        source = inputs.reference
        mask, target = inputs.find(SOURCE_MASK), inputs.find(TARGET_MASK)
        if source is None:
            return numbers
        if self._judge and mask is not None and target is not None:
            judge, ceiling = self._judge_of(cell, source, mask)
            numbers["mask_iou"] = mask_iou(image, target, source, mask, judge=judge).item()
            numbers["ceiling"] = ceiling
        numbers["patch_distance"] = bidirectional_similarity(image, source).item()
        return numbers

    def _judge_of(self, cell: Cell, image: Tensor, mask: Tensor) -> tuple[Judge, float]:
        """Trained once for every photograph and size, and kept beside the runs."""
        height, width = image.shape[-2:]
        sums = cell.settings["inputs"]
        photograph = sums[cell.job.photographs[0].lead]
        key = (photograph, sums[SOURCE_MASK], cell.job.page.fit, height, width)
        if key in self._judges:
            return self._judges[key]
        path = None
        if self._folder is not None:
            name = f"{slug(cell.case.photograph)}-{width}x{height}.safetensors"
            path = self._folder / name
        judge = _kept_judge(path, str(key))
        if judge is None:
            log.info(f"Training the judge of {cell.case.photograph} at {width}×{height}.")
            judge = train_judge(image, mask)
            _keep(judge, path, str(key))
        ceiling = mask_iou(image, mask, image, mask, judge=judge).item()
        self._judges[key] = judge, ceiling
        return self._judges[key]


def _at(column: Tensor, step: int) -> float | None:
    """The value at a step; None where the term did not count."""
    if not len(column):
        return None
    value = column[step].item()
    return None if math.isnan(value) else value


def _kept_judge(path: Path | None, key: str) -> Judge | None:
    """The judge of an earlier call, if it was trained on the same photograph and mask."""
    if path is None or not path.is_file():
        return None
    try:
        if metadata(path).get("trained_on") != key:
            return None
        with torch.random.fork_rng(devices=[]):
            judge = Judge()
        load_into(judge, read_weights(path), name=str(path))
    except InvertkitError:
        return None
    return judge.eval().requires_grad_(False)


def _keep(judge: Judge, path: Path | None, key: str) -> None:
    if path is None:
        return
    tensors = {name: value.cpu().contiguous() for name, value in judge.state_dict().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            save_file(tensors, partial, metadata={"trained_on": key})
    except OSError as error:
        log.info(f"{path}: cannot be written ({error.strerror or error}), so it is not kept.")
