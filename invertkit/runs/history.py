"""Rows of losses and values, by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, final

import torch

from invertkit.engine.run import StepReport

if TYPE_CHECKING:
    pass

_FLUSH = 64


@final
class History:
    """Every term's value on every step, for every image of one batch.

    Values stay on the device until some are waiting, so that no step waits for the device.

    Args:
        rows: Earlier rows, as `rows` gave them.
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        self._rows = [dict(row) for row in rows]
        self._waiting: list[StepReport] = []

    def add(self, report: StepReport) -> None:
        """Take in a step."""
        self._waiting.append(report)
        if len(self._waiting) >= _FLUSH:
            self._flush()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict a step: step, stage, size, weights, and lists over images of values, losses."""
        self._flush()
        return self._rows

    def _flush(self) -> None:
        # Reports of one shape are read in one transfer, and none is read while its step waits.
        for _, group in groupby(self._waiting, key=lambda report: report.readings.shape):
            reports = list(group)
            numbers = torch.stack([report.readings for report in reports]).tolist()  # read at once
            for report, (losses, *values) in zip(reports, numbers, strict=True):
                self._rows.append(
                    {
                        "step": report.step,
                        "stage": report.stage,
                        "size": list(report.size),
                        "values": dict(zip(report.weights, values, strict=True)),
                        "weights": dict(report.weights),
                        "losses": losses,
                    }
                )
        self._waiting.clear()
