"""Many photographs: from a folder or a list to the inputs of one run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from invertkit.core.images.folder import entries_of, file_of, files_in, is_picture
from invertkit.core.images.inputs import Inputs, check_names, load_inputs
from invertkit.core.images.kinds import KINDS
from invertkit.core.images.masks import class_of
from invertkit.core.images.specs import SHORT, InputSpec
from invertkit.core.suggestions import conjoined, did_you_mean
from invertkit.errors import InputError

Photographs = str | os.PathLike[str] | Sequence[Mapping[str, Any]]
"""A folder, or a list of mappings such as `{"image": …, "mask": …, "name": …}`.

In a folder every sub-folder with pictures is one photograph with what belongs to it: a file for
each of the recipe's inputs, called as the input is, with any ending. A folder without such
sub-folders holds photographs, for recipes that need one image and nothing else. In a list, values
are as `invertkit.run` takes them, and `name` may be left out.
"""

_LONGEST: Final = 200
_TAKEN: Final = ("checkpoint", "index.html", "results.csv")
"""What the folder of a run over many photographs holds beside theirs."""


def load_each(
    photographs: Photographs,
    specs: Mapping[str, InputSpec],
    files: Mapping[str, str | None] | None = None,
    *,
    recipe: str = "",
) -> tuple[Inputs, ...]:
    """The inputs of every photograph, by name.

    Args:
        photographs: See `Photographs`.
        specs: The recipe's inputs.
        files: What the file of an input is called in every sub-folder, such as
            `{"target": "target_position.png"}`; what is named here must be there.
        recipe: Its name, for messages.

    Raises:
        InputError: A folder, file or key is missing or superfluous; a picture cannot be used; or
            two photographs have one name. The message begins with the photograph's name.
        ShapeError: An array or tensor has another shape or type.
    """
    named = {name: str(file) for name, file in (files or {}).items() if file}
    check_names(named, specs, recipe=recipe)
    if not specs:
        raise InputError("photographs: this recipe has no inputs, so it takes none.")
    if isinstance(photographs, str | os.PathLike):
        sources = _in_folder(Path(photographs).expanduser(), specs, named)
    elif named:
        raise InputError(
            f"{', '.join(named)}: names a file in every sub-folder, but the photographs are given "
            "as a list; name each file there."
        )
    else:
        sources = _in_list(photographs, specs)
    _check_names(list(sources))
    return tuple(
        load_inputs(given, specs, recipe=recipe, name=name) for name, given in sources.items()
    )


def _needed(specs: Mapping[str, InputSpec], named: Mapping[str, str] | None = None) -> list[str]:
    return [name for name, spec in specs.items() if not spec.optional or name in (named or {})]


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


def _in_list(
    photographs: Sequence[Mapping[str, Any]], specs: Mapping[str, InputSpec]
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
        _check_entry(name, entry, specs)
        sources[name] = {key: entry[key] for key in specs if entry.get(key) is not None}
    return sources


def _check_entry(name: str, entry: Mapping[str, Any], specs: Mapping[str, InputSpec]) -> None:
    """Whether an entry of a list has what the recipe needs and nothing else."""
    known = [*specs, "name"]
    for key in entry:
        if key not in known:
            raise InputError(
                f"{name}: expected {conjoined(known)}, got {key!r}.{did_you_mean(key, known)}"
            )
    needed = _needed(specs)
    lacking = [key for key in needed if entry.get(key) is None]
    if lacking:
        raise InputError(f"{name}: has no {lacking[0]}; this recipe needs {conjoined(needed)}.")


def _in_folder(
    folder: Path, specs: Mapping[str, InputSpec], named: Mapping[str, str]
) -> dict[str, dict[str, Path]]:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {what}; expected a folder of photographs.")
    entries = entries_of(folder)
    endings = {ending for spec in specs.values() for ending in KINDS[spec.kind].endings}
    below = {
        entry: files for entry in entries if entry.is_dir() and (files := files_in(entry, endings))
    }
    pictures = [entry for entry in entries if is_picture(entry) and entry.is_file()]
    needed = _needed(specs, named)
    alone = needed[0] if len(needed) == 1 and specs[needed[0]].kind == "image" else ""
    if below and pictures and alone:
        raise InputError(
            f"{folder}: holds pictures and folders with pictures; which are the photographs? Move "
            "one or the other elsewhere."
        )
    if below:
        return {
            entry.name: dict(_files_of(entry, files, specs, named))
            for entry, files in below.items()
        }
    if not pictures:
        raise InputError(f"{folder}: holds neither pictures nor folders with pictures.")
    if not alone:
        raise InputError(
            f"{folder}: holds pictures, and this recipe needs {conjoined(needed)} of each; make a "
            "sub-folder for every photograph, with files "
            f"{', '.join(named.get(name, f'{name}.png') for name in needed)}."
        )
    stems = Counter(picture.stem.casefold() for picture in pictures)
    alike = any(count > 1 for count in stems.values())
    return {picture.name if alike else picture.stem: {alone: picture} for picture in pictures}


def _files_of(
    folder: Path,
    files: Sequence[Path],
    specs: Mapping[str, InputSpec],
    named: Mapping[str, str],
) -> Iterator[tuple[str, Path]]:
    """The file of every input in a photograph's folder."""
    for name, spec in specs.items():
        wanted = named.get(name, name)
        if name in named and class_of(folder / wanted)[0].is_file():
            yield name, folder / wanted
            continue
        if spec.kind == "images" and (folder / wanted).is_dir():
            yield name, folder / wanted
            continue
        file = file_of([each for each in files if KINDS[spec.kind].reads(each)], wanted, who=name)
        if file is not None:
            yield name, file
        elif not spec.optional or name in named:
            flag = f"--{name} NAME" if name in SHORT else f"--input {name}=NAME"
            raise InputError(
                f"{folder.name}: has no {name}: expected a {KINDS[spec.kind].noun} {wanted!r} in "
                f"{folder}, there are: {', '.join(each.name for each in files[:6])}. Say what it "
                f"is called: `{flag}` (from Python: {name}='NAME')."
            )
