"""Measured input gradients: numbers, means, the sheet of pictures, and the files of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from invertkit.apps.labels import slug
from invertkit.apps.tables import columns_of_text, csv_of, finite, mean_and_error, with_error
from invertkit.core.files import new_folder
from invertkit.core.images.save import save_png
from invertkit.core.images.sheet import Panel, draw_sheet, plain
from invertkit.core.version import __version__
from invertkit.errors import InputError

PREDICTED: Final = "predicted"
"""The label that stands for each classifier's own most likely class."""

NUMBERS: Final = ("alignment", "orientation", "low_frequency")
"""What is measured of every gradient; see `invertkit.metrics.gradients`."""


@final
@dataclass(frozen=True)
class InputGradient:
    """One classifier's gradient on one photograph.

    Args:
        photograph: Its name.
        classifier: Its label.
        label: Index of the class whose cross-entropy was taken.
        class_name: Its name, or the index as text.
        predicted: Index of the most likely class.
        probability: Of `label`, in [0, 1].
        loss: Cross-entropy at `label`, in nats.
        norm: l2 norm of the gradient, in nats per unit of [0, 1] images.
        alignment: `edge_alignment`, in [-1, 1] or NaN.
        orientation: `orientation_agreement`, in [-1, 1] or NaN.
        low_frequency: `low_frequency_share`, in [0, 1] or NaN.
        image: What the classifier saw, `(3, h, w)` in [0, 1]; None beyond the photographs shown.
        gradient: `(3, h, w)`; None likewise.
    """

    photograph: str
    classifier: str
    label: int
    class_name: str
    predicted: int
    probability: float
    loss: float
    norm: float
    alignment: float
    orientation: float
    low_frequency: float
    image: Float[Tensor, "3 h w"] | None = None
    gradient: Float[Tensor, "3 h w"] | None = None


@final
@dataclass(frozen=True)
class Mean:
    """A classifier's numbers over the photographs, each a mean and its standard error.

    Args:
        classifier: Its label.
        count: Photographs whose gradient is defined.
        accuracy: Share predicted as the label; None where the labels are its own predictions.
        alignment: Mean and standard error; the error is NaN for fewer than two photographs.
        orientation: The same.
        low_frequency: The same.
    """

    classifier: str
    count: int
    accuracy: float | None
    alignment: tuple[float, float]
    orientation: tuple[float, float]
    low_frequency: tuple[float, float]


@final
@dataclass(frozen=True)
class Gradients:
    """Input gradients of several classifiers on several photographs.

    Args:
        cells: Photograph by photograph, in each classifier by classifier.
        photographs: Names, in order.
        classifiers: What each label stands for.
        facts: How it was measured.
    """

    cells: tuple[InputGradient, ...]
    photographs: tuple[str, ...]
    classifiers: Mapping[str, str]
    facts: Mapping[str, Any]

    def of(self, photograph: str, classifier: str) -> InputGradient:
        """One cell.

        Raises:
            KeyError: There is none.
        """
        for cell in self.cells:
            if (cell.photograph, cell.classifier) == (photograph, classifier):
                return cell
        raise KeyError((photograph, classifier))

    def means(self) -> list[Mean]:
        """One for each classifier, in order."""
        return [
            self._mean(name, [c for c in self.cells if c.classifier == name])
            for name in self.classifiers
        ]

    def _mean(self, name: str, cells: Sequence[InputGradient]) -> Mean:
        defined = [c for c in cells if all(math.isfinite(getattr(c, key)) for key in NUMBERS)]
        right = [cell.predicted == cell.label for cell in cells]
        # A classifier is always right about its own prediction.
        telling = right and self.facts["labels"] != PREDICTED
        return Mean(
            name,
            len(defined),
            sum(right) / len(right) if telling else None,
            *(mean_and_error([getattr(cell, key) for cell in defined]) for key in NUMBERS),
        )

    def table(self) -> str:
        """The means as text, a line for each classifier."""
        lines = [["classifier", "n", "edge alignment", "orientation", "low frequencies"]]
        for mean in self.means():
            numbers = (mean.alignment, mean.orientation, mean.low_frequency)
            cells = [with_error(*number) for number in numbers]
            lines.append([mean.classifier, str(mean.count), *cells])
            if mean.accuracy is not None:
                lines[-1].append(f"{mean.accuracy:.1%}")
        if any(len(line) > 5 for line in lines):
            lines[0].append("accuracy")
        return columns_of_text(lines)

    def sheet(self, *, height: int = 160) -> Image.Image:
        """Photographs in rows, classifiers in columns, the numbers beneath each gradient."""
        names, rows = list(self.classifiers), []
        for i, photograph in enumerate(self.photographs):
            cells = self.cells[i * len(names) : (i + 1) * len(names)]
            if cells[0].image is not None:
                rows.append([Panel(cells[0].image, (photograph,)), *map(_panel, cells)])
        return draw_sheet(
            rows, columns=["photograph", *names], title=str(self.facts["title"]), height=height
        )

    def save(self, folder: str | Path) -> Path:
        """Write `sheet.png`, single pictures, `gradients.csv`, `means.csv` and `gradients.json`.

        Args:
            folder: A new or empty folder.

        Raises:
            InputError: The folder holds something or cannot be written.
        """
        return self.write(new_folder(Path(folder)))

    def write(self, place: Path) -> Path:
        """`save` into a folder that exists, in place of what an earlier one wrote."""
        try:
            self.sheet().save(place / "sheet.png")
            (place / "pictures").mkdir(exist_ok=True)
            for stem, cell in zip(self._stems(), self.cells, strict=True):
                if cell.gradient is None or cell.image is None:
                    continue
                text = {
                    key: plain(getattr(cell, key))
                    for key in ("classifier", "photograph", "class_name")
                }
                text["software"] = f"invertkit {__version__}"
                save_png(shown(cell.gradient), place / "pictures" / f"{stem}.png", text=text)
            cells = [_facts_of(cell) for cell in self.cells]
            means = [_facts_of(mean) for mean in self.means()]
            for name, rows in (("gradients", cells), ("means", means)):
                (place / f"{name}.csv").write_text(csv_of(rows), encoding="utf-8", newline="")
            page = {
                **self.facts,
                "classifiers": dict(self.classifiers),
                "means": means,
                "gradients": cells,
            }
            (place / "gradients.json").write_text(
                json.dumps(page, indent=2, ensure_ascii=False), encoding="utf-8"
            )
        except OSError as error:
            raise InputError(f"{place}: cannot be written ({error.strerror or error}).") from None
        return place

    def _stems(self) -> list[str]:
        """A file name for each cell's picture."""
        numbers = {name: i for i, name in enumerate(self.photographs)}
        width = len(str(len(numbers)))
        return [
            f"{numbers[cell.photograph]:0{width}}-{slug(cell.photograph)}"
            f"_{list(self.classifiers).index(cell.classifier)}-{slug(cell.classifier)}"
            for cell in self.cells
        ]


def shown(gradient: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    """A gradient as a picture: [mean - 3σ, mean + 3σ] on [0, 1], what is beyond clipped.

    Mean and σ are over all pixels and channels of this gradient; the mean is mid-grey, and so is
    a gradient that is the same everywhere.

    Source: MAGIC, section 4, after Tsipras et al. 2019. They rescale what is left after clipping
    by its own minimum and maximum, which is the same where a value reaches either end.

    Example:
        >>> shown(torch.zeros(3, 1, 1)).flatten()
        tensor([0.5000, 0.5000, 0.5000])
    """
    # Gradients may be so small that their squares vanish; the picture does not depend on the scale.
    values = gradient.double()
    values = values / values.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
    spread = 6 * values.std(correction=0)
    if spread == 0:
        return torch.full_like(gradient, 0.5, dtype=torch.float32)
    return ((values - values.mean()) / spread + 0.5).clamp(0, 1).float()


def _panel(cell: InputGradient) -> Panel:
    lines = (
        f"{cell.class_name} {cell.probability:.2f}",
        f"alignment {cell.alignment:.2f}",
        f"low freq. {cell.low_frequency:.2f}",
    )
    return Panel(None if cell.gradient is None else shown(cell.gradient), lines, pixels=True)


def _facts_of(thing: InputGradient | Mean) -> dict[str, Any]:
    """Its fields without pictures; what is not a number becomes None."""
    pictures = ("image", "gradient")
    facts: dict[str, Any] = finite({k: v for k, v in vars(thing).items() if k not in pictures})
    return facts
