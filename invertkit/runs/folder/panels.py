"""The inputs and the results side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from invertkit.core.images.sheet import Panel, draw_sheet

if TYPE_CHECKING:
    from invertkit.runs.result import Result


def sheet(result: Result, *, height: int = 256) -> Image.Image:
    """Source, masks, whatever else was given, and every image side by side, labelled."""
    tall, wide = result.images.shape[-2:]
    size = (max(1, round(wide * height / tall)), height)
    fitted = result.inputs.at((size[1], size[0]), result.recipe.get("fit", "stretch"))
    panels = [Panel(picture, heading=label) for label, picture in fitted.shown()]
    for seed, image in zip(result.seeds, result.images, strict=True):
        label = "result" if len(result.seeds) == 1 else f"seed {seed}"
        panels.append(Panel(image, heading=label))
    return draw_sheet([panels], height=height)
