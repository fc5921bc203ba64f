"""What the batches of a job have come to: results, photograph by photograph, and their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from invertkit.core.images.inputs import Inputs
from invertkit.core.images.resize import resize_image
from invertkit.core.log import log
from invertkit.engine.problem import Status
from invertkit.errors import InputError, WriteError
from invertkit.runs import checkpoint
from invertkit.runs.folder.index import write_index
from invertkit.runs.folder.write import is_written, write
from invertkit.runs.job import Job
from invertkit.runs.result import Result


class Outcome(NamedTuple):
    """What a job over photographs has come to.

    Attributes:
        results: Of every photograph that has an image, in the order of the job.
        failed: What is wrong with those that could not be gone on with, by name.
    """

    results: list[Result]
    failed: dict[str, str]


def begin(saver: checkpoint.Saver, job: Job, photographs: Sequence[Inputs]) -> None:
    """Write what never changes of a job over these photographs."""
    saver.begin(
        job.raw,
        photographs,
        seeds=job.seeds,
        device=str(job.device),
        parts=job.parts,
        models=tuple(job.models),
        compile=job.compile,
        precision=job.precision,
        batch=job.batch,
    )


@final
class Outcomes:
    """What the batches of a job have come to, photograph by photograph.

    Args:
        job: That is carried out.
        models: What its networks are.
        folder: Of the run, or None.
    """

    def __init__(self, job: Job, models: Mapping[str, str], folder: Path | None) -> None:
        self.job, self.models, self.folder = job, models, folder
        self._parts: dict[int, list[dict[str, Any]]] = {}
        self._made: dict[int, Result] = {}
        self._failed: dict[str, str] = {}

    def add(self, batch: Mapping[str, Any], *, again: bool = False) -> None:
        """Take in a batch; a photograph whose last image it holds is written.

        Args:
            batch: That has ended.
            again: It ended before the run was resumed, so what is there is not written again.
        """
        for number in dict.fromkeys(batch["of"]):
            if "failed" in batch:
                name = self.job.photographs[number].name
                self._failed[name] = batch["failed"]
                log.info(f"{name}: {batch['failed']}")
                continue
            parts = self._parts.setdefault(number, [])
            parts.append(_part(batch, number))
            if self._is_whole(number):
                self._make(number, again=again)

    def _is_whole(self, number: int) -> bool:
        """Whether all images of a photograph are made, to the end."""
        parts = self._parts[number]
        ended = all(Status[part["status"]] not in _UNFINISHED for part in parts)
        return ended and sum(len(part["seeds"]) for part in parts) == len(self.job.seeds)

    def finish(self) -> Outcome:
        """Write what is not whole, and the page about all.

        Raises:
            InputError: Nothing could be made of any photograph.
        """
        for number in self._parts:
            if number not in self._made:
                self._make(number)
        results = [self._made[number] for number in sorted(self._made)]
        if not results and self._failed:
            name, reason = next(iter(self._failed.items()))
            raise InputError(f"{name}: {reason}")
        if self.folder is not None and self.job.each:
            write_index(results, self.folder, of=len(self.job.photographs), failed=self._failed)
        return Outcome(results, self._failed)

    def _make(self, number: int, *, again: bool = False) -> None:
        """A photograph's result, and its folder.

        Pictures are written first, and a checkpoint last, of whole photographs only: a folder with
        one is whole, and can be resumed and edited by itself.
        """
        parts, photograph = self._parts[number], self.job.photographs[number]
        result = self._made[number] = _result(self.job, photograph, parts, self.models)
        if self.folder is None:
            return
        if not self.job.each:
            write(result, self.folder)
            return
        place = self.folder / photograph.name
        there = checkpoint.is_finished(place, batches=len(parts)) and is_written(result, place)
        if again and there:
            return
        try:
            place.mkdir(exist_ok=True)
        except OSError as error:
            raise WriteError(f"{place}: cannot be made ({error.strerror or error}).") from None
        write(result, place, run=self.folder)
        if self._is_whole(number):
            own = checkpoint.Saver(place, every=0, run=self.folder)
            begin(own, self.job, [replace(photograph, name="")])
            for part in parts:
                own.add(part)


_UNFINISHED = (Status.INTERRUPTED, Status.STOPPED)


def _part(outcome: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Of a batch that has ended, the images of one photograph."""
    of = outcome["of"]
    mine = [row for row, owner in enumerate(of) if owner == number]

    def some(values: Sequence[Any]) -> list[Any]:
        return [values[row] for row in mine]

    return {
        "of": [0] * len(mine),
        "step": outcome["step"],
        "seconds": outcome["seconds"] * len(mine) / len(of),
        "rows": [
            {
                **row,
                "values": {name: some(values) for name, values in row["values"].items()},
                "losses": some(row["losses"]),
            }
            for row in outcome["rows"]
        ],
        "frames": [outcome["frames"][list(dict.fromkeys(of)).index(number)]],
        "tensors": {name: value[mine] for name, value in outcome["tensors"].items()},
        "status": outcome["status"],
        **{name: outcome[name][mine] for name in ("best", "last")},
        **{name: some(outcome[name]) for name in ("seeds", "lost", "best_steps", "best_losses")},
    }


def _result(
    job: Job, photograph: Inputs, parts: Sequence[Mapping[str, Any]], models: Mapping[str, str]
) -> Result:
    """The result of one photograph."""
    status = Status[parts[-1]["status"]]
    if status not in _UNFINISHED:  # it may be of the company
        lost = any(any(part["lost"]) for part in parts)
        status = Status.NON_FINITE if lost else Status.FINISHED
    count = sum(len(part["seeds"]) for part in parts)
    final_size = parts[-1]["best"].shape[-2:]

    def gather(key: str) -> Tensor:
        return torch.cat([resize_image(part[key].cpu(), tuple(final_size)) for part in parts])

    return Result(
        best=gather("best").clamp(0, 1),
        last=gather("last").clamp(0, 1),
        result=job.page.result,
        tensors=_tensors([part["tensors"] for part in parts]),
        seeds=job.seeds[:count],
        best_steps=tuple(step for part in parts for step in part["best_steps"]),
        best_losses=tuple(loss for part in parts for loss in part["best_losses"]),
        status=status,
        steps=max(part["step"] for part in parts),
        seconds=sum(part["seconds"] for part in parts),
        rows=tuple(part["rows"] for part in parts),
        batches=tuple(len(part["seeds"]) for part in parts),
        recipe=job.raw,
        inputs=photograph,
        models=models,
        device=str(job.device),
        frames=tuple(parts[0]["frames"][0]),
    )


def _tensors(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of all batches under one another; those that only some of them reached are cut.

    A run stopped in an early stage has no tensors of a later one.
    """
    shared = [name for name in parts[-1] if all(name in part for part in parts)]
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in shared}
