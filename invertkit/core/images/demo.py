"""Demonstrations: the pictures that a recipe takes where nothing is given.

`pictures.yaml` beside this file lists what the package finds by name: photographs that installed
packages carry, and masks drawn by us.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from invertkit.core.images.inputs import Inputs, load_inputs
from invertkit.core.images.specs import SHORT, InputSpec
from invertkit.core.suggestions import did_you_mean
from invertkit.errors import InputError

_LIST: Final = Path(__file__).with_name("pictures.yaml")


class Picture(NamedTuple):
    """A file of a demonstration, and whom to thank for it."""

    path: Path
    credit: str = ""


def find_picture(name: str) -> Picture:
    """A picture by the name that the package has for it, or a file by its path.

    Raises:
        InputError: There is none, or the package that carries it is not installed.
    """
    entry = _pictures().get(name)
    if entry is None:
        # Something with an ending is meant as a file even if it is not there: loading it says so.
        path = Path(name)
        if path.suffix or path.exists():
            return Picture(path)
        known = ", ".join(_pictures())
        raise InputError(
            f"demo: no picture {name!r}.{did_you_mean(name, _pictures())} Known: {known}; or give "
            "a file."
        )
    if "package" not in entry:
        return Picture(_LIST.parent / entry["file"], entry.get("credit", ""))
    spec = find_spec(entry["package"])  # found, not imported: only its photograph is wanted
    if spec is None or spec.origin is None:
        raise InputError(
            f"The demonstration photograph comes with {entry['distribution']}; install it."
        )
    return Picture(Path(spec.origin).parent / entry["file"], entry["credit"])


def demonstration(
    specs: Mapping[str, InputSpec], named: Mapping[str, str | Sequence[str]]
) -> tuple[dict[str, Any], list[str]]:
    """What to take for a recipe's inputs, by name, and whom to thank.

    Args:
        specs: The recipe's inputs.
        named: What its page says, by input: names of pictures or paths. If it says nothing, a
            photograph and masks are the flower and its masks, in their order; nothing stands for
            other kinds, nor where every input is optional.

    Raises:
        InputError: A picture does not exist.
    """
    if not named and not all(spec.optional for spec in specs.values()):
        named = _usual(specs)
    taken: dict[str, Any] = {}
    credits: dict[str, None] = {}
    for name, words in named.items():
        pictures = [find_picture(word) for word in ([words] if isinstance(words, str) else words)]
        credits.update({picture.credit: None for picture in pictures if picture.credit})
        paths = [picture.path for picture in pictures]
        taken[name] = paths[0] if isinstance(words, str) else paths
    return taken, list(credits)


def demo_inputs() -> Inputs:
    """The flower, 427×640, with `mask` and `target`.

    Raises:
        InputError: The package that carries the photograph is not installed.
    """
    taken, _ = demonstration(SHORT, {})
    return load_inputs(taken, SHORT)


def _usual(specs: Mapping[str, InputSpec]) -> dict[str, str]:
    """The flower for the first image, and its masks for the masks of that."""
    images = [name for name, spec in specs.items() if spec.kind == "image"][:1]
    masks = [name for name, spec in specs.items() if spec.kind == "mask" and spec.of in images]
    return {
        **dict.fromkeys(images, "flower"),
        **dict(zip(masks, ("flower-mask", "flower-target"), strict=False)),
    }


@functools.cache
def _pictures() -> dict[str, dict[str, str]]:
    listed: dict[str, dict[str, str]] = yaml.safe_load(_LIST.read_text(encoding="utf-8"))
    return listed
