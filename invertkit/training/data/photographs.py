"""Photographs in memory as bytes, read from a folder or a zip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.images.crop import central_box
from invertkit.core.suggestions import listed
from invertkit.errors import InputError
from invertkit.models.classifiers.class_names import class_place
from invertkit.training.data.files import PictureFiles


@final
@dataclass(frozen=True)
class PhotographSet:
    """A labelled set held as bytes: 50,000 photographs of 32×32 take 154 MB.

    Args:
        images: `(n, 3, s, s)`, 0–255.
        labels: `(n,)`, indices into `classes`; all 0 where nobody labelled them.
        classes: Names in alphabetical order; none where nobody labelled them.
    """

    images: UInt8[Tensor, "n 3 s s"]
    labels: Int[Tensor, " n"]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


def load_photographs(
    source: Path, *, resolution: int, labelled: bool = True, only: Sequence[str] = ()
) -> PhotographSet:
    """Read every picture of a folder or zip laid out as `class/name.jpg`.

    Args:
        source: Folder or zip file.
        resolution: Side in pixels at which pictures are kept; each is cut to its central square
            and resized (Lanczos) if it is not that size already.
        labelled: False to take pictures at any depth and give them no class.
        only: Classes to read; all if empty.

    Raises:
        InputError: Nothing is there, or fewer than two classes are, or a class of `only` is not, or
            a picture is damaged.
    """
    files = PictureFiles(source, labelled=labelled, only=only)
    # Filled picture by picture: a list to stack would need the memory twice.
    images = torch.empty(len(files), 3, resolution, resolution, dtype=torch.uint8)
    for i in range(len(files)):
        images[i] = _square(files.picture(i), resolution)
    return PhotographSet(images, torch.tensor(files.labels), files.classes)


def as_labelled(data: PhotographSet, classes: tuple[str, ...]) -> PhotographSet:
    """The same photographs with labels that are indices into other names.

    Raises:
        InputError: A class of `data` is not among them.
    """
    places = torch.tensor(places_of(data.classes, classes))
    return PhotographSet(data.images, places[data.labels], classes)


def places_of(names: tuple[str, ...], classes: tuple[str, ...]) -> list[int]:
    """Where each of `names` is among `classes`.

    Raises:
        InputError: One is not.
    """
    places = [class_place(name, classes) for name in names]
    unknown = [name for name, place in zip(names, places, strict=True) if place is None]
    if unknown:
        raise InputError(
            f"expected photographs of the classes trained on ({listed(classes)}), got "
            f"{listed(unknown)} too."
        )
    return [place for place in places if place is not None]


def _square(picture: Image.Image, resolution: int) -> Tensor:
    top, left, side = central_box(picture.height, picture.width)
    if picture.size != (resolution, resolution):
        picture = picture.crop((left, top, left + side, top + side))
        picture = picture.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def plain_batches(
    data: PhotographSet, *, batch: int, size: int
) -> Iterator[tuple[Float[Tensor, "b 3 h w"], Int[Tensor, " b"]]]:
    """Every photograph once, in order, resized to `size`; the last batch may be short."""
    for images, labels in zip(data.images.split(batch), data.labels.split(batch), strict=True):
        yield resized(images.float() / 255, size), labels


def resized(images: Float[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 s s"]:
    """Bilinear with a low-pass where it shrinks; unchanged where the size already fits.

    Example:
        >>> resized(torch.zeros(2, 3, 8, 8), 4).shape
        torch.Size([2, 3, 4, 4])
    """
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
