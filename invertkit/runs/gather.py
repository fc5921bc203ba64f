"""What the batches of a job have come to: results, photograph by photograph, and their folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from invertkit.core.images.resize import resize_image
from invertkit.core.log import log
from invertkit.engine.problem import Status
from invertkit.errors import InputError, WriteError
from invertkit.runs import checkpoint
from invertkit.runs.batch_outcome import BatchFailure, BatchOutcome, EndedBatch
from invertkit.runs.folder.index import write_index
from invertkit.runs.folder.write import is_judged, is_written, write
from invertkit.runs.job import Job
from invertkit.runs.result import Result


@final
class Results(list[Result]):
    """The results of a run, in the order of its photographs.

    Args:
        results: Of every photograph that has an image.
        failed: What is wrong with those that could not be gone on with, by name.
        left: Names of those that were not begun.
        each: Whether the run goes over photographs with names, each in a folder of its own.

    Example:
        >>> Results([], left=["duck"])
        <0 results, 1 photograph left>
    """

    def __init__(
        self,
        results: Iterable[Result],
        *,
        failed: Mapping[str, str] | None = None,
        left: Sequence[str] = (),
        each: bool = True,
    ) -> None:
        super().__init__(results)
        self.failed, self.left, self.each = dict(failed or {}), tuple(left), each

    def __repr__(self) -> str:
        counts = [(len(self), "result", ""), (len(self.failed), "photograph", " left out"),
                  (len(self.left), "photograph", " left")]  # fmt: skip
        words = [
            f"{count} {noun}{'' if count == 1 else 's'}{what}"
            for count, noun, what in counts
            if count or noun == "result"
        ]
        return f"<{', '.join(words)}>"


@final
class PhotographResults:
    """What the batches of a job have come to, photograph by photograph.

    Args:
        job: That is carried out.
        models: What its networks are, by name.
        folder: Of the run, or None.
        judge: Whether to measure IoU with the target by a segmenter trained for it.
    """

    def __init__(
        self, job: Job, models: Mapping[str, str], folder: Path | None, *, judge: bool = False
    ) -> None:
        self.job, self.models, self.folder, self.judge = job, models, folder, judge
        self._parts: dict[int, list[BatchOutcome]] = {}
        self._whole: dict[int, Result] = {}
        self._failed: dict[str, str] = {}

    def add(self, batch: EndedBatch, *, again: bool = False) -> None:
        """Take in a batch; a photograph whose last image it holds is written.

        Args:
            batch: That has ended.
            again: It ended before the run was resumed, so what is there is not written again.
        """
        for number in dict.fromkeys(batch.of):
            if isinstance(batch, BatchFailure):
                name = self.job.photographs[number].name
                self._failed[name] = batch.reason
                log.info(f"{name}: {batch.reason}")
                continue
            parts = self._parts.setdefault(number, [])
            parts.append(batch.of_photograph(number))
            if self._is_whole(parts):
                self._whole[number] = self._result(number, parts)
                self._write(number, parts, again=again)

    def gathered(self, under_way: BatchOutcome | None = None) -> Results:
        """All that there is; what is not whole is written too, and the page about all.

        Args:
            under_way: A batch that has not ended.

        Raises:
            InputError: Nothing could be made of any photograph.
            WriteError: A file cannot be written.
        """
        parts = {number: list(before) for number, before in self._parts.items()}
        for number in dict.fromkeys(under_way.of) if under_way is not None else ():
            assert under_way is not None  # noqa: S101 # as it has photographs
            parts.setdefault(number, []).append(under_way.of_photograph(number))
        # The batch under way is not kept: it may go on, and come again with more steps.
        by_number = dict(self._whole)
        for number in parts.keys() - by_number.keys():
            by_number[number] = self._result(number, parts[number])
            self._write(number, parts[number], result=by_number[number])
        results = [by_number[number] for number in sorted(by_number)]
        if not results and self._failed:
            name, reason = next(iter(self._failed.items()))
            raise InputError(f"{name}: {reason}")
        names = [photograph.name for photograph in self.job.photographs]
        if self.folder is not None and self.job.each and results:
            write_index(results, self.folder, of=len(names), failed=self._failed)
        told = {names[number] for number in by_number} | self._failed.keys()
        left = [name for name in names if name not in told]
        return Results(results, failed=self._failed, left=left, each=self.job.each)

    def _is_whole(self, parts: Sequence[BatchOutcome]) -> bool:
        """Whether all images of a photograph are made, to the end."""
        ended = all(part.is_whole for part in parts)
        return ended and sum(len(part.seeds) for part in parts) == len(self.job.seeds)

    def _write(
        self,
        number: int,
        parts: Sequence[BatchOutcome],
        *,
        again: bool = False,
        result: Result | None = None,
    ) -> None:
        """The folder of a photograph.

        Pictures are written first, and a checkpoint last, of whole photographs only: a folder with
        one is whole, and can be resumed and edited by itself.
        """
        if self.folder is None:
            return
        result, photograph = result or self._whole[number], self.job.photographs[number]
        # Whoever interrupts a run does not want to wait for a segmenter to be trained.
        judge = self.judge and self._is_whole(parts)
        if not self.job.each:
            write(result, self.folder, judge=judge)
            return
        place = self.folder / photograph.name
        there = checkpoint.is_finished(place, batches=len(parts)) and is_written(result, place)
        if again and there and not (judge and not is_judged(place)):
            return
        try:
            place.mkdir(exist_ok=True)
        except OSError as error:
            raise WriteError(f"{place}: cannot be made ({error.strerror or error}).") from None
        write(result, place, judge=judge, run=self.folder)
        if self._is_whole(parts):
            saver = checkpoint.Saver(place, every=0, run=self.folder)
            saver.begin(self.job.raw, [replace(photograph, name="")], self.job.settings)
            for part in parts:
                saver.add(part)

    def _result(self, number: int, parts: Sequence[BatchOutcome]) -> Result:
        """The result of one photograph."""
        job, status = self.job, parts[-1].status
        if parts[-1].is_whole:  # one that is not finite may be of the company
            lost = any(any(part.lost) for part in parts)
            status = Status.NON_FINITE if lost else Status.FINISHED
        # A batch that was stopped in an early stage is smaller than those before it.
        height, width = parts[-1].best.shape[-2:]

        def gather(images: Iterable[Tensor]) -> Tensor:
            return torch.cat([resize_image(each.cpu(), (height, width)) for each in images])

        return Result(
            best=gather(part.best for part in parts).clamp(0, 1),
            last=gather(part.last for part in parts).clamp(0, 1),
            result=job.page.result,
            tensors=_tensors([part.tensors for part in parts]),
            seeds=job.seeds[: sum(len(part.seeds) for part in parts)],
            best_steps=tuple(step for part in parts for step in part.best_steps),
            best_losses=tuple(loss for part in parts for loss in part.best_losses),
            status=status,
            steps=max(part.step for part in parts),
            seconds=sum(part.seconds for part in parts),
            rows=tuple(part.rows for part in parts),
            batches=tuple(len(part.seeds) for part in parts),
            recipe=job.raw,
            inputs=job.photographs[number],
            models=self.models,
            device=str(job.device),
            frames=tuple(parts[0].frames[0]),
        )


def _tensors(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of all batches under one another; those that only some of them reached are cut.

    A run stopped in an early stage has no tensors of a later one.
    """
    shared = [name for name in parts[-1] if all(name in part for part in parts)]
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in shared}
