"""Images in [0, 1] as PIL pictures and PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image, PngImagePlugin
from torch import Tensor

from invertkit.core.files import whole_file
from invertkit.errors import WriteError


def to_picture(image: Float[Tensor, "3 h w"]) -> Image.Image:
    """An image in [0, 1] as a PIL picture, rounded to 8 bits."""
    values = (image.detach().cpu().clamp(0, 1) * 255 + 0.5).to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).numpy())


def save_png(
    image: Float[Tensor, "3 h w"], path: Path, *, text: Mapping[str, str] | None = None
) -> None:
    """Write a PNG, whole or not at all, with `text` in its text chunks.

    Raises:
        WriteError: The file cannot be written.
    """
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    try:
        with whole_file(path) as partial:
            to_picture(image).save(partial, format="PNG", pnginfo=info)
    except OSError as error:
        raise WriteError(f"{path}: cannot be written ({error}).") from None
