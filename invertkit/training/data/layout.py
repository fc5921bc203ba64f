"""Which of the pictures of a folder or a zip are of which class, and what is left out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, final

from invertkit.core.images.folder import is_hidden, is_picture, plugin_for
from invertkit.core.suggestions import conjoined, listed
from invertkit.errors import InputError

_PARTS: Final = frozenset(
    ("train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval")
)
"""Names of the parts of a data set, which are no classes."""


@final
@dataclass(frozen=True)
class Layout:
    """Pictures with their classes.

    Args:
        pairs: Class and name of each picture, in alphabetical order.
        notes: What is left out, or may be meant otherwise, in sentences.
    """

    pairs: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


def pictures_among(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The names of pictures that are not hidden, and of others that a plug-in would read.

    Args:
        names: Relative, with slashes.

    Example:
        >>> pictures_among(["a/1.png", "a/2.txt", ".ipynb_checkpoints/1.png", "@eaDir/a/1.png"])
        (['a/1.png'], [])
    """
    hidden: dict[str, bool] = {}
    pictures, unread = [], []
    for name in names:
        folder = name.rpartition("/")[0]
        if folder not in hidden:
            hidden[folder] = any(map(is_hidden, map(PurePosixPath, folder.split("/"))))
        path = PurePosixPath(name)
        if hidden[folder] or is_hidden(path):
            continue
        if is_picture(path):
            pictures.append(name)
        elif plugin_for(path):
            unread.append(name)
    return pictures, unread


def by_class(
    source: Path, names: Sequence[str], *, folders: Collection[str] = (), unread: Sequence[str] = ()
) -> Layout:
    """The class of each picture: the first folder of its name, within those that hold everything.

    So `cat/1.jpg`, `photos/cat/1.jpg` and `photos/cat/big/1.jpg` are of the class `cat`, where
    `photos` has other classes too.

    Args:
        source: Folder or zip, for messages.
        names: Of the pictures, relative to it.
        folders: That it has, with those that hold nothing.
        unread: Names of pictures that only a plug-in would read.

    Raises:
        InputError: The folders are parts of a data set, such as train and val.

    Example:
        >>> by_class(Path("."), ["data/cat/1.png", "data/dog/1.png", "data/readme.png"]).pairs
        (('cat', 'data/cat/1.png'), ('dog', 'data/dog/1.png'))
    """
    above = _wrapper(names)
    inner = [(PurePosixPath(name).parts[len(above) :], name) for name in names]
    placed = [(parts, name) for parts, name in inner if len(parts) > 1]
    classes = sorted({parts[0] for parts, _ in placed})
    deeper = sorted({"/".join(parts[:-1]) for parts, _ in placed if len(parts) > 2})
    if len(classes) > 1 and deeper and all(name.casefold() in _PARTS for name in classes):
        raise InputError(
            f"{source}: holds {conjoined(classes)}, which are parts of a data set and no classes; "
            f"give one of them: {source.joinpath(*above, classes[0])}."
        )
    return Layout(
        tuple(sorted((parts[0], name) for parts, name in placed)),
        tuple(_notes(source, above, classes, deeper, len(inner) - len(placed), folders, unread)),
    )


def _wrapper(names: Sequence[str]) -> tuple[str, ...]:
    """The folders around all classes: a data set is often packed with one."""
    parents = [PurePosixPath(name).parts[:-1] for name in names]
    above: tuple[str, ...] = ()
    while True:
        # Files beside the classes, such as a sample of them, do not make a class of their folder.
        next_ = {parts[len(above)] for parts in parents if len(parts) > len(above)}
        if len(next_) != 1 or not any(len(parts) > len(above) + 1 for parts in parents):
            return above
        above = (*above, *next_)


def _notes(
    source: Path,
    above: tuple[str, ...],
    classes: Sequence[str],
    deeper: Sequence[str],
    loose: int,
    folders: Collection[str],
    unread: Sequence[str],
) -> Iterable[str]:
    depth = len(above)
    inside = [PurePosixPath(folder).parts for folder in folders]
    tops = {p[depth] for p in inside if len(p) > depth and p[:depth] == above}
    empty = sorted(name for name in tops - set(classes) if not is_hidden(PurePosixPath(name)))
    if empty:
        yield f"{source}: {listed(empty, most=6)} holds no pictures, and is no class."
    if deeper:
        yield (
            f"{source}: pictures of {listed(deeper, most=3)} count as of the class of the outer "
            "folder."
        )
    if loose:
        plural = "s are" if loose > 1 else " is"
        yield f"{source}: {loose} picture{plural} left out, outside of the folders of classes."
    yield from unread_note(source, unread)


def unread_note(source: Path, unread: Sequence[str]) -> tuple[str, ...]:
    """What to tell of pictures that only a plug-in would read; nothing if there are none."""
    if not unread:
        return ()
    kinds = sorted({PurePosixPath(name).suffix.lower() for name in unread})
    lacking = sorted({plugin_for(PurePosixPath(name)) for name in unread})
    plural = "s are" if len(unread) > 1 else " is"
    return (
        f"{source}: {len(unread)} picture{plural} left out, ending in {conjoined(kinds)}; install "
        f"{conjoined(lacking)} to read such files.",
    )
