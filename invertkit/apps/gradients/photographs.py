"""Photographs for a figure: a few given ones, or many files that are read when needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast, final

from jaxtyping import Float
from torch import Tensor

from invertkit.apps.gradients.settings import check_least
from invertkit.core.images.demo import demo_inputs, find_picture
from invertkit.core.images.inputs import Inputs
from invertkit.core.images.load import Fit, load_image
from invertkit.core.log import log
from invertkit.errors import InputError
from invertkit.training.data.files import PictureFiles


class Photograph(NamedTuple):
    """One photograph of a figure.

    Attributes:
        name: Its own.
        folder: The class folder that it lies in; empty where there is none.
        image: In [0, 1], at full size.
        shown: Whether the sheet shows it, so that its pictures are kept.
    """

    name: str
    folder: str
    image: Float[Tensor, "1 3 h w"]
    shown: bool

    def fitted(self, side: int, fit: Fit) -> Float[Tensor, "1 3 i j"]:
        """At the size that a classifier of that side sees."""
        inputs = Inputs.of({"image": self.image})
        return cast(Tensor, inputs.at(inputs.size(side, fit), fit).reference)


@final
@dataclass(frozen=True)
class PhotographSource:
    """Photographs by number.

    Args:
        names: Of each, all different.
        folders: The class folder that each lies in; empty where there is none.
        load: The photograph of that number, `(1, 3, h, w)` in [0, 1].
    """

    names: tuple[str, ...]
    folders: tuple[str, ...]
    load: Callable[[int], Float[Tensor, "1 3 h w"]]

    def batches(self, step: int, *, show: int) -> Iterator[list[Photograph]]:
        """The photographs in order, each loaded when its batch is asked for.

        Args:
            step: Photographs a batch.
            show: How many of all are shown, evenly spread.
        """
        count = len(self.names)
        shown = {i * count // show for i in range(show)}
        for start in range(0, count, step):
            yield [
                Photograph(self.names[row], self.folders[row], self.load(row), row in shown)
                for row in range(start, min(start + step, count))
            ]


def photographs_of(
    images: Any, data: str | Path | None, *, every: int = 1, limit: int | None = None
) -> PhotographSource:
    """The photographs that were asked for; the demonstration if none were.

    Args:
        images: One `ImageLike`, several, several by name, or None.
        data: Folder or zip of photographs, or None.
        every: Take every so-many-th of `data`.
        limit: Take at most so many of what is left, evenly spread.

    Raises:
        InputError: One of `images` cannot be used or is given twice, `data` holds no pictures, or
            a number is below 1.

    Example:
        >>> import torch
        >>> source = photographs_of({"grey": torch.full((1, 3, 16, 16), 0.5)}, None)
        >>> source.names, source.load(0).shape
        (('grey',), torch.Size([1, 3, 16, 16]))
    """
    check_least(every=(every, 1), limit=(limit, 1))
    if data is not None:
        if images is not None:
            raise InputError("data: give either single photographs or a folder or zip, not both.")
        return _from_files(Path(data).expanduser(), every=every, limit=limit)
    if images is None:
        log.info(
            f"No photograph given: taking the demonstration ({find_picture('flower').credit})."
        )
        named = {"demonstration": demo_inputs().reference}
    elif isinstance(images, Mapping):
        named = {name: load_image(image, who=f"image {name}") for name, image in images.items()}
    else:
        several = list(images) if isinstance(images, list | tuple) else [images]
        loaded = [load_image(image) for image in several]
        named = dict(zip(_names(several), loaded, strict=True))
    if not named:
        raise InputError("images: expected at least one photograph, got none.")
    tensors: list[Any] = list(named.values())
    return PhotographSource(tuple(named), ("",) * len(named), tensors.__getitem__)


def _names(images: Sequence[Any]) -> list[str]:
    """Of files their names without ending, with the folder's where two are the same."""
    paths = [Path(image) if isinstance(image, str | Path) else None for image in images]
    resolved = [path.resolve() for path in paths if path is not None]
    for path in paths:
        if path is not None and resolved.count(path.resolve()) > 1:
            raise InputError(f"image {path}: is given twice.")
    stems = Counter(path.stem for path in paths if path is not None)
    names = [
        f"image {number}"
        if path is None
        else path.stem
        if stems[path.stem] == 1
        else f"{path.resolve().parent.name}/{path.stem}"
        for number, path in enumerate(paths, 1)
    ]
    return [
        name if names.count(name) == 1 else f"{name} {number}"
        for number, name in enumerate(names, 1)
    ]


def _from_files(data: Path, *, every: int, limit: int | None) -> PhotographSource:
    files = PictureFiles(data, labelled=False)
    parents = {str(Path(name).parent) for name in files.names}
    if "." not in parents and len(parents) > 1:
        files = PictureFiles(data, labelled=True)
    rows = list(range(0, len(files.names), every))
    if limit is not None and limit < len(rows):
        rows = [rows[i * len(rows) // limit] for i in range(limit)]
    stems = Counter(str(Path(name).with_suffix("")) for name in files.names)

    def name(row: int) -> str:
        stem = str(Path(files.names[row]).with_suffix(""))
        return stem if stems[stem] == 1 else files.names[row]

    return PhotographSource(
        tuple(name(row) for row in rows),
        tuple(files.classes[files.labels[row]] if files.classes else "" for row in rows),
        lambda number: load_image(files.picture(rows[number]), who=name(rows[number])),
    )
