"""Labelled photographs in memory, read from a folder or a zip of `class/name.jpg`."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from invertkit.errors import InputError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


@final
@dataclass(frozen=True)
class Photographs:
    """A labelled set held as bytes: 50,000 photographs of 32×32 take 154 MB.

    Args:
        images: `(n, 3, s, s)`, 0–255.
        labels: `(n,)`, indices into `classes`.
        classes: Names in alphabetical order.
    """

    images: UInt8[Tensor, "n 3 s s"]
    labels: Int[Tensor, " n"]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


def load_photographs(source: Path, *, resolution: int) -> Photographs:
    """Read every picture of a folder or zip laid out as `class/name.jpg`.

    Args:
        source: Folder or zip file.
        resolution: Side in pixels at which pictures are kept; each is cut to its central square
            and resized (Lanczos) if it is not that size already.

    Raises:
        InputError: Nothing is there, or fewer than two classes are.
    """
    entries = sorted(_entries(source), key=lambda entry: entry[:2])
    classes = tuple(sorted({label for label, _, _ in entries}))
    if len(classes) < 2:
        raise InputError(
            f"{source}: expected at least two classes laid out as CLASS/NAME.jpg, found "
            f"{len(classes)}. Put the pictures of each class in a folder of its own."
        )
    index = {name: i for i, name in enumerate(classes)}
    images = torch.empty(len(entries), 3, resolution, resolution, dtype=torch.uint8)
    for i, (_, name, read) in enumerate(entries):
        try:
            with Image.open(io.BytesIO(read())) as picture:
                images[i] = _square(picture.convert("RGB"), resolution)
        except OSError as error:
            raise InputError(f"{source}: {name} is not a readable picture ({error}).") from None
    labels = torch.tensor([index[label] for label, _, _ in entries])
    return Photographs(images, labels, classes)


def _square(picture: Image.Image, resolution: int) -> Tensor:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    if picture.size != (resolution, resolution):
        picture = picture.crop((left, top, left + side, top + side))
        picture = picture.resize((resolution, resolution), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _entries(source: Path) -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """(class, name, read) for every picture."""
    if source.is_dir():
        for path in source.glob("*/*"):
            if path.suffix.lower() in _SUFFIXES:
                yield path.parent.name, path.name, path.read_bytes
        return
    try:
        archive = zipfile.ZipFile(source)
    except FileNotFoundError:
        raise InputError(f"{source}: no such folder or zip file.") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{source}: neither a folder nor a readable zip ({error}).") from None
    for name in archive.namelist():
        path_in_zip = PurePosixPath(name)
        if path_in_zip.suffix.lower() in _SUFFIXES and len(path_in_zip.parts) >= 2:
            yield path_in_zip.parts[-2], name, lambda name=name: archive.read(name)  # type: ignore[misc]


def augmented_batches(
    data: Photographs, *, batch: int, size: int, generator: torch.Generator
) -> Iterator[tuple[Float[Tensor, "b 3 h w"], Int[Tensor, " b"]]]:
    """One shuffled epoch: reflected border and random crop, random flip, resize to `size`.

    The last, incomplete batch is dropped.
    """
    order = torch.randperm(len(data), generator=generator)
    side = data.images.shape[-1]
    border = max(1, side // 8)
    for start in range(0, len(data) - batch + 1, batch):
        rows = order[start : start + batch]
        images = data.images[rows].float() / 255
        padded = F.pad(images, (border,) * 4, mode="reflect")
        corners = torch.randint(0, 2 * border + 1, (batch, 2), generator=generator).tolist()
        flips = (torch.rand(batch, generator=generator) < 0.5).tolist()
        images = torch.stack(
            [
                window.flip(-1) if flip else window
                for picture, (top, left), flip in zip(padded, corners, flips, strict=True)
                for window in [picture[:, top : top + side, left : left + side]]
            ]
        )
        yield resized(images, size), data.labels[rows]


def plain_batches(
    data: Photographs, *, batch: int, size: int
) -> Iterator[tuple[Float[Tensor, "b 3 h w"], Int[Tensor, " b"]]]:
    """Every photograph once, in order, resized to `size`; the last batch may be short."""
    for images, labels in zip(data.images.split(batch), data.labels.split(batch), strict=True):
        yield resized(images.float() / 255, size), labels


def resized(images: Float[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 s s"]:
    """Bilinear with a low-pass where it shrinks; unchanged where the size already fits."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
