"""What a run gives back."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.inputs import Inputs
from invertkit.core.images.save import to_picture
from invertkit.engine.problem import Status

if TYPE_CHECKING:
    from PIL.Image import Image


@final
@dataclass(frozen=True)
class Result:
    """Pictures, history and facts of a finished, stopped or interrupted run.

    Args:
        best: Images of lowest loss since the last change of stage or terms, in [0, 1].
        last: Images after the last step, in [0, 1].
        result: `best` or `last`: which of them the recipe calls its result.
        seeds: One per image.
        best_steps: Step of each best image, from 0.
        best_losses: Loss of each best image.
        status: How it ended.
        steps: Steps taken by each image.
        seconds: Time spent in steps, all images together.
        rows: History, one list of rows per batch of images; see `History.rows`.
        batches: How many images each list of `rows` speaks of.
        recipe: The resolved page.
        inputs: Photograph and masks at full size.
        models: What each model of the recipe is and where its weights came from.
        device: Where it ran.
        frames: Pictures of the first image on the way, for the animation.
        tensors: What the best images were made of, by name, one row an image: a generator's
            `latent`, `embedding` and `transform`. Empty where pixels were optimised.
    """

    best: Float[Tensor, "b 3 h w"]
    last: Float[Tensor, "b 3 h w"]
    result: str
    seeds: tuple[int, ...]
    best_steps: tuple[int, ...]
    best_losses: tuple[float, ...]
    status: Status
    steps: int
    seconds: float
    rows: tuple[list[dict[str, Any]], ...]
    batches: tuple[int, ...]
    recipe: Mapping[str, Any]
    inputs: Inputs
    models: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    frames: tuple[Tensor, ...] = ()
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def images(self) -> Float[Tensor, "b 3 h w"]:
        """The pictures that the recipe calls its result, `(b, 3, h, w)` in [0, 1]."""
        return self.best if self.result == "best" else self.last

    @property
    def history(self) -> dict[str, Float[Tensor, "b steps"]]:
        """Raw value of every term, and `total`, by step; NaN where a term did not count."""
        names = dict.fromkeys(name for rows in self.rows for row in rows for name in row["values"])
        columns: dict[str, Tensor] = {}
        for name in (*names, "total"):
            parts = []
            for rows, count in zip(self.rows, self.batches, strict=True):
                missing = [float("nan")] * count
                values = [
                    row["losses"] if name == "total" else row["values"].get(name, missing)
                    for row in rows
                ]
                parts.append(torch.tensor(values).reshape(-1, count).T)
            longest = max((part.shape[1] for part in parts), default=0)
            columns[name] = torch.cat(
                [
                    torch.nn.functional.pad(part, (0, longest - part.shape[1]), value=float("nan"))
                    for part in parts
                ]
            )
        return columns

    def sheet(self, *, height: int = 256) -> Image:
        """Source, mask, target and every image side by side, labelled."""
        from invertkit.runs.folder.panels import sheet

        return sheet(self, height=height)

    def save(self, folder: str | Path, *, judge: bool = False) -> Path:
        """Write the run's folder: pictures, history, metrics, report, resolved recipe.

        Args:
            folder: A new or empty folder.
            judge: Also measure IoU with the target by a segmenter trained for it (seconds).

        Raises:
            InputError: The folder holds something or cannot be written.
        """
        from invertkit.core.files import new_folder
        from invertkit.runs.folder.write import write

        return write(self, new_folder(Path(folder)), judge=judge)

    def show(self) -> None:
        """Open the labelled pictures in a window, or draw them in a notebook."""
        try:
            from IPython import get_ipython
            from IPython.display import display
        except ImportError:
            self.sheet().show()
            return
        if get_ipython() is None:
            self.sheet().show()
        else:
            display(self)

    def __repr__(self) -> str:
        height, width = self.images.shape[-2:]
        count = len(self.seeds)
        name = self.recipe.get("name", "recipe")
        losses = ", ".join(f"{loss:.4g}" for loss in self.best_losses[:4])
        return (
            f"<Result of {name!r}: {count} image{'s' if count > 1 else ''} of {width}×{height}, "
            f"{self.steps} steps in {self.seconds:.1f} s on {self.device}, best loss {losses}; "
            f"the run {self.status.value}>"
        )

    def _repr_html_(self) -> str:
        buffer = io.BytesIO()
        self.sheet().save(buffer, format="PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        text = repr(self).strip("<>")
        return f'<img alt="result" src="data:image/png;base64,{data}"><div>{text}</div>'

    def pil(self) -> list[Image]:
        """The result's pictures as PIL images."""
        return [to_picture(image) for image in self.images]
