"""Source, mask, target and results side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from invertkit.core.images.save import to_picture

if TYPE_CHECKING:
    from invertkit.runs.result import Result

_LABEL = 18


def sheet(result: Result, *, height: int = 256) -> Image.Image:
    """Source, mask, target and every image side by side, labelled."""
    inputs = result.inputs
    tall, wide = result.images.shape[-2:]
    scale = height / tall
    size = (max(1, round(wide * scale)), height)
    panels: list[tuple[str, Image.Image]] = []
    if inputs.image is not None:
        fitted = inputs.at((size[1], size[0]), result.recipe.get("fit", "stretch"))
        for name in ("image", "mask", "target"):
            tensor: Tensor | None = getattr(fitted, name)
            if tensor is not None:
                label = "source" if name == "image" else name
                panels.append((label, to_picture(tensor[0].expand(3, -1, -1))))
    for seed, image in zip(result.seeds, result.images, strict=True):
        label = "result" if len(result.seeds) == 1 else f"seed {seed}"
        panels.append((label, to_picture(image).resize(size, Image.Resampling.LANCZOS)))
    gap = 4
    canvas = Image.new("RGB", (len(panels) * (size[0] + gap) - gap, height + _LABEL), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=13)
    for i, (label, picture) in enumerate(panels):
        left = i * (size[0] + gap)
        draw.text((left + 2, 1), label, fill="black", font=font)
        canvas.paste(picture, (left, _LABEL))
    return canvas
