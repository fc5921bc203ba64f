"""What an ablation runs: photographs with their masks, and variants of a recipe."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from invertkit.apps.labels import named_classifiers
from invertkit.core.images.folder import entries_of, files_in, versions_of
from invertkit.core.images.kinds import KINDS
from invertkit.core.images.specs import InputSpec, lead
from invertkit.errors import InputError, RecipeError
from invertkit.models.loading.weights_file import sha256
from invertkit.runs.job import Job

CLASSIFIER: Final = "classifier"
"""The key of `--over` that stands for `models.classifier` and takes words of the catalogue."""

_WORDS_OF_PAGE: Final = ("summary", "source", "cite", "notes", "choices")


@final
@dataclass(frozen=True)
class Case:
    """A photograph with what shall become of it.

    Args:
        name: On the sheet and in the table.
        photograph: Name of the photograph; cases of one photograph share a judge.
        inputs: As `invertkit.run` takes them, by name.
    """

    name: str
    photograph: str
    inputs: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class Variant:
    """A recipe with some values changed.

    Args:
        name: On the sheet and in the table.
        sets: Overrides, `KEY=VALUE`.
        values: Label of each varied key, for the table.
        models: Networks by name: modules, or words of the catalogue.
    """

    name: str
    sets: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)


# ---------------------------------------------------------------------- photographs


def cases_in(data: Path, specs: Mapping[str, InputSpec], only: Sequence[str] = ()) -> list[Case]:
    """Every case of a folder with `NAME/{image,mask,…}.*`, one file for each of a recipe's inputs.

    Where an input has several versions, such as `target_left.png` and `target_right.png`, each is
    a case.

    Args:
        data: The folder.
        specs: The recipe's inputs.
        only: Take those alone: names of photographs, or `NAME:VERSION`.

    Raises:
        InputError: The folder holds nothing of that kind, or lacks what `only` names.
    """
    layout = f"NAME/{{{','.join(specs)}}}.*, such as NAME/{next(iter(specs), 'image')}.jpg"
    if not data.is_dir():
        what = "is no folder" if data.exists() else "no such folder"
        raise InputError(f"{data}: {what}; expected one of {layout}.")
    folders = [entry for entry in entries_of(data) if entry.is_dir()]
    cases = [case for folder in folders for case in _cases_of(folder, specs)]
    if not cases:
        raise InputError(f"{data}: holds no photographs; expected {layout}.")
    for wanted in only:
        if not any(_is(case, wanted) for case in cases):
            known = ", ".join(dict.fromkeys(case.photograph for case in cases))
            raise InputError(
                f"--only {wanted}: {data} has no such photograph or version. Known: {known}."
            )
    return [case for case in cases if not only or any(_is(case, wanted) for wanted in only)]


def _is(case: Case, wanted: str) -> bool:
    return wanted in (case.photograph, f"{case.photograph}:{case.name.split(' ')[-1]}")


def _cases_of(folder: Path, specs: Mapping[str, InputSpec]) -> Iterator[Case]:
    endings = {ending for spec in specs.values() for ending in KINDS[spec.kind].endings}
    files = files_in(folder, endings)
    versions = {
        name: files_of_input
        for name, spec in specs.items()
        if (
            files_of_input := versions_of(
                [file for file in files if KINDS[spec.kind].reads(file)], name
            )
        )
    }
    if lead(specs) not in versions:
        return  # not a photograph's folder
    lacking = [n for n, spec in specs.items() if not spec.optional and n not in versions]
    if lacking:
        noun = KINDS[specs[lacking[0]].kind].noun
        raise InputError(
            f"{folder}: has no {lacking[0]}: expected a {noun} {lacking[0]!r} there, or "
            f"{lacking[0]}_VERSION."
        )
    for chosen in itertools.product(
        *(files_of_input.items() for files_of_input in versions.values())
    ):
        title = " ".join([folder.name, *(version for version, _ in chosen if version)])
        paths = {name: file for name, (_, file) in zip(versions, chosen, strict=True)}
        yield Case(title, folder.name, paths)


# ---------------------------------------------------------------------- variants


def variants_of(
    over: Mapping[str, Any], named: Mapping[str, Sequence[str] | Mapping[str, Any]]
) -> list[Variant]:
    """Every combination of the values of every key, and of the named variants with the recipe.

    Args:
        over: Values by key, a list or by label; those of `classifier` are words of the catalogue,
            paths or modules, all others YAML texts or data.
        named: Overrides by name, `KEY=VALUE` texts or a mapping.

    Raises:
        InputError: A key has no values, or two variants share a name.
    """
    # The named variants are an axis too, on which the recipe as it is stands first.
    axes = [[_value(key, *pair) for pair in _pairs(key, values)] for key, values in over.items()]
    if named:
        alternatives = [
            Variant(name, tuple(_assignments(sets)), {"variant": name})
            for name, sets in named.items()
        ]
        axes.append([Variant("recipe", (), {"variant": "recipe"}), *alternatives])
    variants = []
    for parts in itertools.product(*axes):
        names = [part.name for part in parts if len(axes) == 1 or part != axes[-1][0] or not named]
        variants.append(
            Variant(
                ", ".join(names) or "recipe",
                tuple(text for part in parts for text in part.sets),
                {key: label for part in parts for key, label in part.values.items()},
                {key: model for part in parts for key, model in part.models.items()},
            )
        )
    names = [variant.name for variant in variants]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"variants: two are called {twice[0]!r}; give them labels of their own.")
    return variants


def _pairs(key: str, values: Any) -> list[tuple[str, Any]]:
    if isinstance(values, Mapping):
        pairs = [(str(label), value) for label, value in values.items()]
    elif key == CLASSIFIER:
        pairs = list(named_classifiers(values).items())
    else:
        given = [values] if isinstance(values, str) or not isinstance(values, Sequence) else values
        pairs = [(value if isinstance(value, str) else json.dumps(value), value) for value in given]
    if not pairs:
        raise InputError(f"over {key}: expected at least one value, got none.")
    return pairs


def _value(key: str, label: str, value: Any) -> Variant:
    if key != CLASSIFIER and get_close_matches(key, [CLASSIFIER], cutoff=0.8):
        raise RecipeError(f"over {key}: there is no such key. Did you mean {CLASSIFIER!r}?")
    if key == CLASSIFIER:
        word = label if isinstance(value, nn.Module) else str(value)
        return Variant(
            label, (f"models.classifier={json.dumps(word)}",), {key: label}, {CLASSIFIER: value}
        )
    text = value if isinstance(value, str) else json.dumps(value)
    name = f"{key.removeprefix('objective.')}={label}"
    return Variant(name, (f"{key}={text}",), {key: label})


def _assignments(sets: Sequence[str] | Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(sets, Mapping):
        yield from sets
        return
    for key, value in sets.items():
        yield f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def read_over(text: str) -> tuple[str, dict[str, str] | list[str]]:
    """`KEY=VALUE,VALUE`, each perhaps `LABEL=VALUE`, as a key and its values.

    Commas within brackets, braces and quotes belong to a value.

    Raises:
        InputError: Not of that form.

    Example:
        >>> read_over("objective.control.weight=10,30")
        ('objective.control.weight', ['10', '30'])
    """
    key, equals, rest = text.partition("=")
    values = [part.strip() for part in _split(rest)]
    if not equals or not key.strip() or not all(values):
        raise InputError(
            f"--over {text}: expected KEY=VALUE,VALUE, such as classifier=embedded,my.safetensors "
            "or objective.control.weight=10,30."
        )
    key = key.strip()
    if key == CLASSIFIER:
        return key, values  # labels are read together with the files' names
    pairs = [re.fullmatch(r"([\w .+-]+)=(.+)", value, re.DOTALL) for value in values]
    if any(pairs):
        return key, {
            pair[1].strip() if pair else value: pair[2].strip() if pair else value
            for pair, value in zip(pairs, values, strict=True)
        }
    return key, values


def read_variant(text: str) -> tuple[str, list[str]]:
    """`NAME:KEY=VALUE;KEY=VALUE` as a name and its overrides.

    Raises:
        InputError: Not of that form.
    """
    name, colon, sets = text.partition(":")
    parts = [part.strip() for part in sets.split(";") if part.strip()]
    if not colon or not name.strip() or not all("=" in part for part in parts) or not parts:
        raise InputError(
            f"--variant {text}: expected NAME:KEY=VALUE;KEY=VALUE, such as "
            "`no nearest:objective.nearest=null`."
        )
    return name.strip(), parts


def _split(text: str) -> Iterator[str]:
    """At the commas outside brackets, braces and quotes."""
    depth, quote, part = 0, "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in ")}]":
            depth -= 1
        elif letter == "," and depth == 0:
            yield part
            part = ""
            continue
        part += letter
    yield part


# ---------------------------------------------------------------------- what decides a result


def settings_of(job: Job, models: Mapping[str, nn.Module]) -> dict[str, Any]:
    """All that decides the pictures of a job, as data; files and tensors by their checksums.

    Args:
        job: Of one run.
        models: Networks that were given from Python, which the recipe does not tell of.
    """
    # Prose may be mended between two calls without making anything anew.
    page = {key: value for key, value in job.raw.items() if key not in _WORDS_OF_PAGE}
    named = [node for node in page.get("models", {}).values() if node]
    texts = [
        text
        for node in named
        for text in (node.values() if isinstance(node, dict) else [node])
        if isinstance(text, str)
    ]
    known = [Path(text) for text in (*texts, *map(str, job.settings.parts)) if _is_file(text)]
    return {
        "recipe": page,
        "seeds": list(job.seeds),
        "device": str(job.device),
        "inputs": {
            name: _checksum(*((value,) if isinstance(value, Tensor) else value))
            for name, value in job.photographs[0].save()["values"].items()
        },
        "files": {str(path): _file_sum(path, path.stat().st_mtime_ns) for path in known},
        "models": {name: _module_sum(model) for name, model in models.items()},
    }


# By the time of its last change: a file may be large, and every run of an ablation asks.
@functools.cache
def _file_sum(path: Path, changed: int) -> str:
    return sha256(path)[:16]


@functools.cache
def _module_sum(model: Any) -> str:
    """Of a network given from Python: its class and all its tensors."""
    return f"{type(model).__name__} {_checksum(*model.state_dict().values())}"


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _checksum(*tensors: Tensor) -> str:
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
        values = tensor.detach().cpu().contiguous()
        total.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:16]


def changes(before: Any, now: Any, at: str = "") -> Iterator[str]:
    """`path: old -> new` for every value that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*before, *now)):
            path = f"{at}.{key}" if at else str(key)
            yield from changes(before.get(key), now.get(key), path)
    elif before != now:
        yield f"{at}: {before!s:.40} -> {now!s:.40}"


def check_classifier(job: Job) -> None:
    """A recipe without classifier has none to vary.

    Raises:
        RecipeError: It has none.
    """
    if CLASSIFIER not in job.raw.get("models", {}):
        raise RecipeError(
            f"--over classifier: recipe {job.page.name!r} has no model of that name; it has: "
            f"{', '.join(job.raw.get('models', {})) or 'none'}."
        )
