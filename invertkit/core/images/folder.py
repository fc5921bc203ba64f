"""Folders of pictures: which files count, and which file is an input's.

The one place that knows the layout `edits/NAME/{image,mask,target,…}.*`, for runs over many
photographs, ablations and trainings.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Final

from PIL import Image

from invertkit.core.suggestions import conjoined
from invertkit.errors import InputError

_HELPERS: Final = frozenset(
    ("__macosx", "@eadir", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "lost+found",
     "system volume information", "__pycache__", "thumbs.db")
)  # fmt: skip
"""What systems and servers keep beside pictures, in small letters."""

_PLUGINS: Final = {
    ".heic": ("pillow_heif", "pillow-heif"),
    ".heif": ("pillow_heif", "pillow-heif"),
    ".hif": ("pillow_heif", "pillow-heif"),
    ".jxl": ("pillow_jxl", "pillow-jxl-plugin"),
}
"""Modules and distributions that teach Pillow to read more endings."""


@functools.cache
def register_plugins() -> None:
    """Let Pillow read what the plug-ins that are installed can read."""
    for module in {module for module, _ in _PLUGINS.values()}:
        if find_spec(module) is not None:
            plugin = import_module(module)
            getattr(plugin, "register_heif_opener", lambda: None)()


def plugin_for(path: PurePath) -> str:
    """What to install to read a file of that ending; empty if Pillow reads it, or nobody does.

    Example:
        >>> plugin_for(PurePath("a.png"))
        ''
    """
    ending = path.suffix.lower()
    return "" if ending in picture_endings() else _PLUGINS.get(ending, ("", ""))[1]


def picture_endings() -> frozenset[str]:
    """Endings of the files that Pillow reads, in small letters, with their dots.

    Example:
        >>> ".png" in picture_endings()
        True
    """
    register_plugins()
    Image.init()
    return _endings(len(Image.EXTENSION), len(Image.OPEN))


@functools.lru_cache(maxsize=1)
def _endings(extensions: int, formats: int) -> frozenset[str]:
    """As long as nobody registers another: a folder may have a million names."""
    known = Image.EXTENSION.items()
    return frozenset(ending for ending, form in known if form in Image.OPEN)


def is_hidden(path: PurePath) -> bool:
    """Whether a file or folder is one that systems keep beside pictures, by its name.

    Example:
        >>> [is_hidden(PurePath(name)) for name in (".ipynb_checkpoints", "@eaDir", "cats")]
        [True, True, False]
    """
    return path.name.startswith(".") or path.name.casefold() in _HELPERS


def is_picture(path: PurePath) -> bool:
    """Whether a name is that of a picture that is not hidden; nothing is read.

    Example:
        >>> is_picture(PurePath("a/b.JPG")), is_picture(PurePath("a/._b.jpg"))
        (True, False)
    """
    return path.suffix.lower() in picture_endings() and not is_hidden(path)


def entries_of(folder: Path) -> list[Path]:
    """What a folder holds in alphabetical order, but for what is hidden.

    Raises:
        InputError: It cannot be read.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not is_hidden(entry))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror or error}).") from None


def pictures_in(folder: str | os.PathLike[str], *, who: str = "") -> list[Path]:
    """The pictures of a folder in alphabetical order.

    Raises:
        InputError: It is no folder, cannot be read, or holds no pictures.
    """
    path = Path(folder).expanduser()
    name = f"{who} {path}".strip()
    if not path.is_dir():
        what = "is a file" if path.exists() else "no such folder"
        raise InputError(f"{name}: {what}; expected a folder of pictures.")
    pictures = [entry for entry in entries_of(path) if is_picture(entry) and entry.is_file()]
    if not pictures:
        raise InputError(f"{name}: holds no pictures.")
    return pictures


def files_in(folder: Path, endings: Collection[str] = ()) -> list[Path]:
    """The pictures of a folder, and its other files with such endings; see `entries_of`."""
    return [
        entry
        for entry in entries_of(folder)
        if (is_picture(entry) or entry.suffix.lower() in endings) and entry.is_file()
    ]


def file_of(files: Sequence[Path], stem: str, *, who: str = "") -> Path | None:
    """The file called `stem`, with any ending; None if there is none.

    Args:
        files: To choose from.
        stem: Its name.
        who: What it is, for the message.

    Raises:
        InputError: There are several.

    Example:
        >>> file_of([Path("a/image.jpg"), Path("a/mask.png")], "mask")
        PosixPath('a/mask.png')
    """
    alike = [file for file in files if file.stem == stem]
    if len(alike) > 1:
        names = conjoined([file.name for file in alike])
        raise InputError(f"{alike[0].parent.name}: which is its {who or stem}, {names}? Keep one.")
    return alike[0] if alike else None


def versions_of(files: Sequence[Path], stem: str) -> dict[str, Path]:
    """The files called `stem_VERSION`, by version; if there are none, the one called `stem`.

    Raises:
        InputError: Two differ in their endings alone.

    Example:
        >>> versions_of([Path("target_left.png"), Path("target_right.png")], "target").keys()
        dict_keys(['left', 'right'])
    """
    stems = dict.fromkeys(file.stem for file in files if file.stem.startswith(f"{stem}_"))
    several = {name: file_of(files, name) for name in stems} or {stem: file_of(files, stem)}
    return {
        name.removeprefix(stem).removeprefix("_"): file
        for name, file in several.items()
        if file is not None
    }
