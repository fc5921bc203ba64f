"""What a training tells on its way: rows of numbers, kept as CSV and for TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, final

from invertkit.errors import InputError


@final
@dataclass(frozen=True)
class TrainingRow:
    """Means over the steps since the row before, of all processes.

    Args:
        step: Steps done.
        epoch: The epoch, counted from 1.
        size: Side of the input in pixels.
        eps: Radius of the attack in the last of these steps, at that size; 0 for none.
        lr: Learning rate of the last of these steps.
        loss: Training loss, on attacked and augmented photographs.
        accuracy: Share of them that were labelled rightly; in label-free training, as the starting
            network labels them clean.
        images_per_second: Of all processes together.
    """

    step: int
    epoch: int
    size: int
    eps: float
    lr: float
    loss: float
    accuracy: float
    images_per_second: float


class TrainingMoment(NamedTuple):
    """What an observer sees after a step.

    Attributes:
        step: Steps done.
        total: Steps of the whole training.
        row: The newest row, if this step ended one.
    """

    step: int
    total: int
    row: TrainingRow | None


TrainingObserver = Callable[[TrainingMoment], None]


@final
class TrainingHistory:
    """An observer that appends the rows to a CSV file.

    Args:
        path: The file.
        step: Rows beyond this step are dropped: they will come again.

    Raises:
        InputError: When called: the file cannot be read or written.
    """

    def __init__(self, path: Path, *, step: int = 0) -> None:
        self.path, self._step, self._begun = path, step, False

    def _begin(self) -> None:
        """Keep the rows up to the step; done when the first new row comes."""
        names = [field.name for field in fields(TrainingRow)]
        rows: list[list[str]] = []
        if self._step and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if row[:1] != ["step"]]
            rows = [row for row in rows if row and int(row[0]) <= self._step]
        # A training that is gone on with repeats the steps since its checkpoint, and their rows.
        with self.path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([names, *rows])
        self._begun = True

    def __call__(self, moment: TrainingMoment) -> None:
        """Append the row, if there is one."""
        if moment.row is None:
            return
        try:
            if not self._begun:
                self._begin()
            # Opened for each row, so that whoever looks into the file sees it whole.
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow([*asdict(moment.row).values()])
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.path}: cannot be written ({error}). The last checkpoint is whole: "
                "make room, then go on with --resume."
            ) from None


@final
class TensorBoard:
    """An observer that writes the rows as TensorBoard scalars.

    Args:
        folder: Of the event files.
        step: What an earlier run wrote beyond this step is hidden.

    Raises:
        InputError: The extra is missing.
    """

    def __init__(self, folder: Path, *, step: int = 0) -> None:
        if find_spec("tensorboard") is None:
            raise InputError(
                "--tensorboard needs TensorBoard: `pip install 'invertkit[train]'`, or leave it "
                "out; history.csv holds the same numbers."
            )
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def __call__(self, moment: TrainingMoment) -> None:
        """Write the row, if there is one."""
        if moment.row is not None:
            numbers = asdict(moment.row)
            self.add({f"train/{name}": numbers[name] for name in numbers if name != "step"}, moment)

    def add(self, numbers: Mapping[str, float], moment: TrainingMoment) -> None:
        """Write scalars of a step."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, moment.step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
