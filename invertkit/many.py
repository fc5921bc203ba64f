"""Many photographs: from a folder or a list to the inputs of one run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

from invertkit.errors import InputError, InvertkitError
from invertkit.images import Inputs, load_image, load_mask

Photographs = str | os.PathLike[str] | Sequence[Mapping[str, Any]]
"""A folder, or a list of `{"image": …, "mask": …, "target": …, "name": …}`.

In a folder every sub-folder is one photograph with its masks: files named `image`, `mask` and
`target` with any ending. A folder without sub-folders holds photographs that need no masks. In a
list, values are as `invertkit.run` takes them, and `name` may be left out.
"""

_KINDS: Final = ("image", "mask", "target")


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
    named = {kind: name for kind, name in (files or {}).items() if name}
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
    return tuple(_loaded(name, given) for name, given in sources.items())


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
    if not photographs:
        raise InputError("photographs: expected at least one, got an empty list.")
    digits = len(str(len(photographs) - 1))
    sources: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(photographs):
        name = str(entry.get("name", f"{number:0{digits}}"))
        if name in sources:
            raise InputError(f"photographs: two are called {name!r}; give each a name of its own.")
        if name in ("", ".", "..") or Path(name).name != name or "\\" in name:
            raise InputError(f"photographs: {name!r} cannot be the name of a folder.")
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
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror or error}).") from None
    below = [entry for entry in entries if entry.is_dir()]
    if below:
        return {
            entry.name: {kind: _file(entry, kind, named.get(kind)) for kind in kinds}
            for entry in below
        }
    pictures = [entry for entry in entries if _is_picture(entry)]
    if not pictures:
        raise InputError(f"{folder}: holds neither folders nor pictures.")
    if list(kinds) != ["image"]:
        raise InputError(
            f"{folder}: holds pictures, and this recipe needs {_and(kinds)} of each; make a "
            "sub-folder for every photograph, with files "
            f"{', '.join(named.get(kind, f'{kind}.png') for kind in kinds)}."
        )
    stems = Counter(picture.stem for picture in pictures)
    return {
        picture.stem if stems[picture.stem] == 1 else picture.name: {"image": picture}
        for picture in pictures
    }


def _file(folder: Path, kind: str, name: str | None) -> Path:
    """The file of one kind in a photograph's folder."""
    wanted = name or kind
    if name and (folder / name).is_file():
        return folder / name
    found = [
        entry
        for entry in sorted(folder.iterdir())
        if entry.stem == wanted and entry.is_file() and _is_picture(entry)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        names = _and([entry.name for entry in found])
        raise InputError(f"{folder.name}: which is its {kind}, {names}? Keep one.")
    beside = sorted(entry.name for entry in folder.iterdir() if entry.is_file())[:6]
    raise InputError(
        f"{folder.name}: has no {kind}: expected a picture {wanted!r} in {folder}, there are: "
        f"{', '.join(beside) or 'none'}. Say what it is called: `--{kind} NAME` (from Python: "
        f"{kind}='NAME')."
    )


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in Image.registered_extensions()


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
