"""Many photographs: from a folder or a list to the inputs of one run."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

from invertkit.core.images.inputs import Inputs
from invertkit.core.images.load import load_image, load_mask
from invertkit.errors import InputError, InvertkitError

Photographs = str | os.PathLike[str] | Sequence[Mapping[str, Any]]
"""A folder, or a list of `{"image": …, "mask": …, "target": …, "name": …}`.

In a folder every sub-folder with pictures is one photograph with its masks: files named `image`,
`mask` and `target` with any ending. A folder without such sub-folders holds photographs that need
no masks. In a list, values are as `invertkit.run` takes them, and `name` may be left out.
"""

_KINDS: Final = ("image", "mask", "target")
_LONGEST: Final = 200
_TAKEN: Final = ("checkpoint", "index.html", "results.csv")
"""What the folder of a run over many photographs holds beside theirs."""


def load_each(
    photographs: Photographs, wanted: Sequence[str], files: Mapping[str, str | None] | None = None
) -> tuple[Inputs, ...]:
    """The inputs of every photograph, by name.

    Args:
        photographs: See `Photographs`.
        wanted: Which of `image`, `mask` and `target` each must have.
        files: What a file is called in every sub-folder, such as
            `{"target": "target_position.png"}`; what is named here is wanted too.

    Raises:
        InputError: A folder, file or key is missing or superfluous; a picture cannot be used; or
            two photographs have one name. The message begins with the photograph's name.
        ShapeError: An array or tensor has another shape or type.
    """
    named = {kind: str(name) for kind, name in (files or {}).items() if name}
    kinds = [kind for kind in _KINDS if kind in wanted or kind in named]
    if isinstance(photographs, str | os.PathLike):
        sources = _in_folder(Path(photographs).expanduser(), kinds or ["image"], named)
    elif named:
        raise InputError(
            f"{', '.join(named)}: names a file in every sub-folder, but the photographs are given "
            "as a list; name each file there."
        )
    else:
        sources = _in_list(photographs, kinds)
    _check_names(list(sources))
    return tuple(_loaded(name, given) for name, given in sources.items())


def _check_names(names: Sequence[str]) -> None:
    """Whether each can be a folder of its own, on any machine."""
    seen: dict[str, str] = {}
    for name in names:
        folded = name.casefold()
        if folded in _TAKEN:
            raise InputError(
                f"photographs: one is called {name!r}, as a file of the run's own; give it another "
                "name."
            )
        if folded in seen:
            raise InputError(
                f"photographs: {seen[folded]!r} and {name!r} would share a folder; give each a "
                "name of its own."
            )
        seen[folded] = name
        encoded = name.encode("utf-8", errors="replace")
        if (
            name in ("", ".", "..")
            or Path(name).name != name
            or "\\" in name
            or not name.isprintable()
            or len(encoded) > _LONGEST
            or encoded.decode() != name
        ):
            raise InputError(
                f"photographs: {ascii(name)[:80]} cannot be the name of a folder; give the "
                f"photograph a printable name of at most {_LONGEST} bytes, without slashes."
            )


def _loaded(name: str, given: Mapping[str, Any]) -> Inputs:
    try:
        return Inputs(
            load_image(given["image"]) if "image" in given else None,
            load_mask(given["mask"]) if "mask" in given else None,
            load_mask(given["target"], who="target") if "target" in given else None,
            name,
        )
    except InvertkitError as error:
        raise type(error)(f"{name}: {error}") from None


def _in_list(
    photographs: Sequence[Mapping[str, Any]], kinds: Sequence[str]
) -> dict[str, dict[str, Any]]:
    listed = isinstance(photographs, Sequence)
    wrong = [entry for entry in photographs if not isinstance(entry, Mapping)] if listed else []
    if not listed or wrong:
        came = f"a list with {wrong[0]!r:.60}" if wrong else type(photographs).__name__
        raise InputError(
            "photographs: expected a folder or a list such as "
            f"[{{'image': 'a.jpg', 'mask': 'a.png'}}], got {came}."
        )
    if not photographs:
        raise InputError("photographs: expected at least one, got an empty list.")
    digits = len(str(len(photographs) - 1))
    sources: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(photographs):
        name = entry.get("name")
        name = f"{number:0{digits}}" if name is None else str(name)
        if name in sources:
            raise InputError(f"photographs: two are called {name!r}; give each a name of its own.")
        unknown = [key for key in entry if key not in (*_KINDS, "name")]
        if unknown:
            raise InputError(f"{name}: expected image, mask, target and name, got {unknown[0]!r}.")
        lacking = [kind for kind in kinds if entry.get(kind) is None]
        if lacking:
            raise InputError(f"{name}: has no {lacking[0]}; this recipe needs {_and(kinds)}.")
        sources[name] = {kind: entry[kind] for kind in _KINDS if entry.get(kind) is not None}
    kinds_of = {name: tuple(given) for name, given in sources.items()}
    first = next(iter(kinds_of))
    for name, own in kinds_of.items():
        if own != kinds_of[first]:
            raise InputError(
                f"{name}: has {_and(own)}, and {first} has {_and(kinds_of[first])}; photographs of "
                "one run have the same inputs."
            )
    return sources


def _in_folder(
    folder: Path, kinds: Sequence[str], named: Mapping[str, str]
) -> dict[str, dict[str, Path]]:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {what}; expected a folder of photographs.")
    entries = _listed(folder)
    below = {entry: found for entry in entries if entry.is_dir() and (found := _pictures(entry))}
    pictures = [entry for entry in entries if _is_picture(entry)]
    if below and pictures and list(kinds) == ["image"]:
        raise InputError(
            f"{folder}: holds pictures and folders with pictures; which are the photographs? Move "
            "one or the other elsewhere."
        )
    if below:
        return {
            entry.name: {kind: _file(entry, found, kind, named.get(kind)) for kind in kinds}
            for entry, found in below.items()
        }
    if not pictures:
        raise InputError(f"{folder}: holds neither pictures nor folders with pictures.")
    if list(kinds) != ["image"]:
        raise InputError(
            f"{folder}: holds pictures, and this recipe needs {_and(kinds)} of each; make a "
            "sub-folder for every photograph, with files "
            f"{', '.join(named.get(kind, f'{kind}.png') for kind in kinds)}."
        )
    stems = Counter(picture.stem.casefold() for picture in pictures)
    alike = any(count > 1 for count in stems.values())
    return {picture.name if alike else picture.stem: {"image": picture} for picture in pictures}


def _listed(folder: Path) -> list[Path]:
    """What a folder holds, but for hidden files."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror or error}).") from None


def _pictures(folder: Path) -> list[Path]:
    return [entry for entry in _listed(folder) if _is_picture(entry)]


def _file(folder: Path, pictures: Sequence[Path], kind: str, name: str | None) -> Path:
    """The file of one kind in a photograph's folder."""
    wanted = name or kind
    if name and (folder / name).is_file():
        return folder / name
    found = [entry for entry in pictures if entry.stem == wanted]
    if len(found) == 1:
        return found[0]
    if found:
        names = _and([entry.name for entry in found])
        raise InputError(f"{folder.name}: which is its {kind}, {names}? Keep one.")
    raise InputError(
        f"{folder.name}: has no {kind}: expected a picture {wanted!r} in {folder}, there are: "
        f"{', '.join(entry.name for entry in pictures[:6])}. Say what it is called: "
        f"`--{kind} NAME` (from Python: {kind}='NAME')."
    )


@functools.cache
def _endings() -> frozenset[str]:
    """Of files that Pillow reads."""
    known = Image.registered_extensions().items()
    return frozenset(ending for ending, form in known if form in Image.OPEN)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in _endings() and path.is_file()


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
