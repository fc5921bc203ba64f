"""The pictures of a folder or a zip: their names, their classes, and each decoded on demand."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import final

from PIL import Image

from invertkit.core.images.folder import is_hidden
from invertkit.core.images.load import load_8_bits
from invertkit.core.log import warn
from invertkit.errors import InputError
from invertkit.models.classifiers.class_names import class_hint, class_place
from invertkit.training.data.layout import by_class, pictures_among, unread_note


@final
class PictureFiles:
    """Pictures by number, in the alphabetical order of class and name.

    It may be copied to other processes: each opens a zip for itself.

    Args:
        source: Folder or zip file, or a folder in a zip, such as `all.zip/train`.
        labelled: True for `class/name.jpg`, as `by_class` reads it; False for pictures at any
            depth, without classes. What is left out is told by warnings.
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
        self._file, self._prefix = _zip_of(source) if self._zip else (source, "")
        self._archive: tuple[int, zipfile.ZipFile] | None = None
        self._told = False
        found, folders = self._in_zip() if self._zip else self._in_folder()
        names, unread = pictures_among(found)
        if labelled:
            layout = by_class(source, names, folders=folders, unread=unread)
            labelled_names, notes = list(layout.pairs), layout.notes
            if only:
                kept = _chosen(source, {label for label, _ in labelled_names}, only)
                labelled_names = [pair for pair in labelled_names if pair[0] in kept]
        else:
            labelled_names = sorted(("", name) for name in names)
            notes = unread_note(source, unread)
        self.classes = tuple(sorted({label for label, _ in labelled_names})) if labelled else ()
        if labelled and len(self.classes) < 2:
            raise InputError(
                f"{source}: expected at least two classes laid out as CLASS/NAME.jpg, found "
                f"{len(self.classes)}. Put the pictures of each class in a folder of its own."
                + "".join(f" {note}" for note in notes)
            )
        if not labelled_names:
            raise InputError(
                f"{source}: holds no pictures (such as .jpg, .png and .webp)."
                + "".join(f" {note}" for note in notes)
            )
        for note in notes:
            warn(note)
        index = {name: i for i, name in enumerate(self.classes)}
        self.names = [name for _, name in labelled_names]
        self.labels = [index.get(label, 0) for label, _ in labelled_names]

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_archive": None}

    def picture(self, index: int) -> Image.Image:
        """One of them, decoded as runs decode it: RGB of 8 bits, upright, sRGB, on white.

        Raises:
            InputError: It is damaged; the message names it.
        """
        who = f"{self.source}: {self.names[index]}"
        try:
            if self._zip:
                content = self._opened().read(self._prefix + self.names[index])
            else:
                content = (self.source / self.names[index]).read_bytes()
        except Exception as error:  # a damaged zip may raise anything
            what = str(error).strip().split("\n")[0]
            raise InputError(f"{who}: cannot be read ({what:.120}).") from None
        picture, note = load_8_bits(content, who=who)
        if note and not self._told:  # once: thousands may be alike
            self._told = True
            warn(note)
        return picture

    def _opened(self) -> zipfile.ZipFile:
        """This process's own handle: a shared one would mix the reads of several."""
        if self._archive is None or self._archive[0] != os.getpid():
            self._archive = os.getpid(), zipfile.ZipFile(self._file)
        return self._archive[1]

    def _in_folder(self) -> tuple[list[str], list[str]]:
        """Names of files and of folders, without what is hidden."""
        files: list[str] = []
        folders: list[str] = []
        for at, below, inside in os.walk(self.source, followlinks=True):
            here, place = Path(at).resolve(), Path(at).relative_to(self.source)
            below[:] = [
                name
                for name in sorted(below)
                # A link to a folder that it lies in would never end.
                if not is_hidden(PurePosixPath(name))
                and not here.is_relative_to(Path(at, name).resolve())
            ]
            folders += [(place / name).as_posix() for name in below]
            files += [(place / name).as_posix() for name in inside]
        return files, folders

    def _in_zip(self) -> tuple[list[str], list[str]]:
        try:
            names = self._opened().namelist()
        except FileNotFoundError:
            raise InputError(f"{self.source}: no such folder or zip file.") from None
        except (OSError, zipfile.BadZipFile) as error:
            raise InputError(
                f"{self.source}: neither a folder nor a readable zip ({error})."
            ) from None
        inside = [n.removeprefix(self._prefix) for n in names if n.startswith(self._prefix)]
        if self._prefix and not inside:
            raise InputError(f"{self.source}: {self._file.name} holds no folder {self._prefix!r}.")
        files = [name for name in inside if name and not name.endswith("/")]
        return files, [name.rstrip("/") for name in inside if name.endswith("/") and name != "/"]


def _zip_of(source: Path) -> tuple[Path, str]:
    """The zip that a path leads into, and where: `all.zip/train` is a folder in it."""
    for above in source.parents:
        if above.is_file():
            return above, source.relative_to(above).as_posix() + "/"
    return source, ""


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
