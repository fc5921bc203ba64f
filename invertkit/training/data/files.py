"""The pictures of a folder or a zip: their names, their classes, and each decoded on demand."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import final

from PIL import Image

from invertkit.core.images.folder import is_picture
from invertkit.errors import InputError
from invertkit.models.classifiers.class_names import class_hint, class_place


@final
class PictureFiles:
    """Pictures by number, in the alphabetical order of class and name.

    It may be copied to other processes: each opens a zip for itself.

    Args:
        source: Folder or zip file.
        labelled: True for `class/name.jpg`, the class being the last folder of a zip's names and
            the first of a folder's; False for pictures at any depth, without classes.
        only: Classes to keep, by the names of their folders or by what follows a WordNet number
            in them (`tabby` of `n02123045_tabby`), as `class_place` reads them; all if empty.

    Attributes:
        source: As given.
        names: Path of each picture inside `source`.
        labels: Index into `classes` of each.
        classes: Names in alphabetical order; none if not `labelled`.

    Raises:
        InputError: Nothing is there, no pictures are, fewer than two classes are, or one of `only`
            is not.
    """

    def __init__(self, source: Path, *, labelled: bool = True, only: Sequence[str] = ()) -> None:
        self.source, self._zip = source, not source.is_dir()
        self._archive: tuple[int, zipfile.ZipFile] | None = None
        names = self._in_zip() if self._zip else self._in_folder(labelled=labelled)
        if labelled:
            # A zip of a data set often has a folder around its classes, so the last folder counts.
            parts = [(PurePosixPath(name).parts, name) for name in names]
            labelled_names = sorted((above[-2], name) for above, name in parts if len(above) >= 2)
            if only:
                kept = _chosen(source, {label for label, _ in labelled_names}, only)
                labelled_names = [pair for pair in labelled_names if pair[0] in kept]
        else:
            labelled_names = sorted(("", name) for name in names)
        self.classes = tuple(sorted({label for label, _ in labelled_names})) if labelled else ()
        if labelled and len(self.classes) < 2:
            raise InputError(
                f"{source}: expected at least two classes laid out as CLASS/NAME.jpg, found "
                f"{len(self.classes)}. Put the pictures of each class in a folder of its own."
            )
        if not labelled_names:
            raise InputError(f"{source}: holds no pictures (such as .jpg, .png and .webp).")
        index = {name: i for i, name in enumerate(self.classes)}
        self.names = [name for _, name in labelled_names]
        self.labels = [index.get(label, 0) for label, _ in labelled_names]

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_archive": None}

    def picture(self, index: int) -> Image.Image:
        """One of them, decoded, RGB.

        Raises:
            InputError: It is damaged; the message names it.
        """
        name = self.names[index]
        try:
            if self._zip:
                content: Path | io.BytesIO = io.BytesIO(self._opened().read(name))
            else:
                content = self.source / name
            with Image.open(content) as picture:
                return picture.convert("RGB")
        except Exception as error:  # a damaged file may raise anything
            what = str(error).strip().split("\n")[0]
            raise InputError(
                f"{self.source}: {name} is not a readable picture ({what:.120})."
            ) from None

    def _opened(self) -> zipfile.ZipFile:
        """This process's own handle: a shared one would mix the reads of several."""
        if self._archive is None or self._archive[0] != os.getpid():
            self._archive = os.getpid(), zipfile.ZipFile(self.source)
        return self._archive[1]

    def _in_folder(self, *, labelled: bool) -> list[str]:
        paths = self.source.glob("*/*") if labelled else self.source.rglob("*")
        return [
            path.relative_to(self.source).as_posix()
            for path in paths
            if is_picture(path) and path.is_file()
        ]

    def _in_zip(self) -> list[str]:
        try:
            names = self._opened().namelist()
        except FileNotFoundError:
            raise InputError(f"{self.source}: no such folder or zip file.") from None
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{self.source}: neither a folder nor a readable zip ({error})."
            ) from None
        return [name for name in names if is_picture(PurePosixPath(name))]


def _chosen(source: Path, folders: Collection[str], only: Sequence[str]) -> set[str]:
    """The folders that those names mean."""
    known = sorted(folders)
    names = [without_number(folder) for folder in known]
    chosen = set()
    for name in only:
        place = known.index(name) if name in known else class_place(name, names)
        if place is None:
            raise InputError(f"{source}: has no class {name!r}.{class_hint(name, names)}")
        chosen.add(known[place])
    return chosen


def without_number(folder: str) -> str:
    """A class's name without the WordNet number that ImageNet's folders may begin with.

    Example:
        >>> without_number("n02123045_tabby"), without_number("tabby")
        ('tabby', 'tabby')
    """
    return re.sub(r"^n\d{8}_(?=.)", "", folder)
