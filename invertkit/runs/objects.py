"""Objects made in Python beside a page's own parts: how a page names them, and who has them.

A page is data, so it cannot hold such an object. In the resolved page its place reads
`{type: "python:NAME", class: ITS_CLASS}`, and the registry of the run knows that type. Whoever has
the page alone is told which objects are missing, by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from invertkit.core.regions import MaskRegion
from invertkit.core.suggestions import conjoined
from invertkit.engine.problem import Term
from invertkit.errors import InputError
from invertkit.objectives.base import Objective
from invertkit.optimizers.base import Optimizer
from invertkit.players.base import Player
from invertkit.recipe.from_python import FromPython
from invertkit.recipe.page import Node
from invertkit.recipe.registry import PYTHON, Registry
from invertkit.recipe.tables import PartKind
from invertkit.runs.settings import OBJECTS, Settings
from invertkit.variables.base import Variable

_KEYS: Final = {"terms": "objective"}
"""What an argument is called on the page, where that is not its own name."""

_ROLES: Final[dict[str, tuple[PartKind, type]]] = {
    "models": ("model", nn.Module),
    "terms": ("objective", Objective),
    "variable": ("variable", Variable),
    "optimizer": ("optimizer", Optimizer),
    "players": ("player", Player),
}


def checked(settings: Settings) -> Settings:
    """The settings with every objective as a term of its name.

    Raises:
        InputError: An object is of the wrong kind.
    """
    terms = {
        name: replace(term, name=name) if isinstance(term, Term) else Term(term, name=name)
        for name, term in settings.terms.items()
    }
    for argument, name, part in _parts(replace(settings, terms=terms)):
        _, role = _ROLES[argument]
        if not isinstance(part, role):
            at = argument if name == argument else f"{argument}[{name!r}]"
            wanted = (
                "an invertkit.Term or Objective"
                if argument == "terms"
                else ("a torch.nn.Module" if role is nn.Module else f"an invertkit.{role.__name__}")
            )
            raise InputError(
                f"{at}: expected {wanted} made in Python, got {part!r:.60}. A part of the package "
                "is named on the page, or by `overrides`."
            )
    return replace(settings, terms=terms)


def registry_of(settings: Settings) -> Registry:
    """The parts that exist in a run: the package's, those of its files, its objects from Python."""
    registry = Registry()
    for path in settings.parts:
        registry = registry.with_parts(Path(path))
    device = torch.device(settings.device)
    for argument, name, part in _parts(settings):
        kind, _ = _ROLES[argument]
        registry = registry.with_object(kind, name, FromPython(part, device))
    return registry


def laid_on(raw: Node, settings: Settings) -> tuple[Node, list[str]]:
    """The page with the places of the objects from Python; and what they replace, in words.

    Args:
        raw: The page as plain data, with choices and overrides laid on it.
        settings: With the objects, each term under its name.

    Example:
        >>> from invertkit.variables.pixels import Pixels
        >>> mine = Settings(variable=Pixels())
        >>> page, sentences = laid_on({"variable": {"type": "fourier"}}, mine)
        >>> page
        {'variable': {'type': 'python:variable', 'class': 'Pixels'}}
        >>> sentences
        ["variable: Pixels from Python instead of the recipe's fourier."]
    """
    # Laid on after all overrides: those speak of the recipe's own parts.
    page, replaced = dict(raw), []
    for argument, name, part in _parts(settings):
        node: Node = {"type": PYTHON + name, "class": type(part).__name__}
        if argument == "terms":
            node |= _place(settings.terms[name])
        key = _KEYS.get(argument, argument)
        if argument == name:
            before, page[key] = page.get(key), node
            at = key
        else:
            group = dict(page.get(key) or {})
            before, group[name] = group.get(name), node
            page[key], at = group, f"{key}.{name}"
        # Which networks are taken is said of every run, so not here.
        if before and not _is_from_python(before) and argument != "models":
            replaced.append(
                f"{at}: {node['class']} from Python instead of the recipe's {_type_of(before)}."
            )
    return page, replaced


def _place(term: Any) -> Node:
    """Weight, region and steps of a term as a page writes them, where they are not the default."""
    return {
        each.name: _plain(value)
        for each in fields(term)
        if each.name not in ("objective", "name")
        and (value := getattr(term, each.name)) != each.default
    }


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(each) for name, each in asdict(value).items()}
    if isinstance(value, MaskRegion):
        return {name: mask for name, mask in value._asdict().items() if mask}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _type_of(node: Any) -> str:
    return str(node.get("type", "own")) if isinstance(node, Mapping) else str(node)


def _parts(settings: Settings) -> Iterator[tuple[str, str, Any]]:
    """Every object: its argument, its name in it (the argument's where it is alone), itself."""
    for argument in OBJECTS:
        value = getattr(settings, argument)
        if isinstance(value, dict):
            for name, part in value.items():
                yield argument, name, part.objective if isinstance(part, Term) else part
        elif value is not None:
            yield argument, argument, value


def given_again(raw: Node, objects: Mapping[str, Any], *, folder: Path, way: str) -> None:
    """Whether the objects that a resolved page wants from Python are all there, and no others.

    Args:
        raw: The page.
        objects: By argument, as `Settings` takes them.
        folder: Of the run, for the message.
        way: The function that goes on with it.

    Raises:
        InputError: One lacks, or the run knows none of that name.
    """
    wanted = made_in_python(raw)
    have = {
        argument: list(value) if isinstance(value, Mapping) else [argument]
        for argument, value in objects.items()
        if value is not None
    }
    lacking = {
        argument: [name for name in names if name not in have.get(argument, ())]
        for argument, names in wanted.items()
    }
    lacking = {argument: names for argument, names in lacking.items() if names}
    if lacking:
        listed = "; ".join(
            argument if names == [argument] else f"{argument}: {conjoined(names)}"
            for argument, names in lacking.items()
        )
        arguments = ", ".join(
            f"{argument}=…"
            if names == [argument]
            else f"{argument}={{{', '.join(f'{name!r}: …' for name in names)}}}"
            for argument, names in wanted.items()
        )
        raise InputError(
            f"{folder}: was begun with objects given from Python ({listed}), which a checkpoint "
            f"cannot hold; go on from there: `invertkit.{way}({str(folder)!r}, {arguments})`."
        )
    for argument, names in have.items():
        extra = [name for name in names if name not in wanted.get(argument, ())]
        if extra and argument != "models":  # a network may take the place of the page's own
            known = conjoined(wanted.get(argument, [])) or "none"
            raise InputError(
                f"{argument}: {folder} was not begun with {conjoined(extra)} from Python; of "
                f"{argument} it had: {known}."
            )


def same_again(raw: Node, settings: Settings, objects: Mapping[str, Any], *, folder: Path) -> None:
    """Whether the objects that are given again are of the classes, weights and places as before.

    A network may be another: it is loaded anew, and may be wrapped by then.

    Args:
        raw: The page that the run was begun with.
        settings: With the objects, each term under its name.
        objects: The same as they were given.
        folder: Of the run, for the message.

    Raises:
        InputError: One is not.
    """
    page, _ = laid_on(raw, settings)
    for argument, name, part in _parts(settings):
        key = _KEYS.get(argument, argument)
        before, now = (each[key] if argument == name else each[key][name] for each in (raw, page))
        if argument == "models" or before == json.loads(json.dumps(now)):
            continue
        at = argument if argument == name else f"{argument}[{name!r}]"
        if before["class"] != type(part).__name__:
            raise InputError(
                f"{at}: {folder} was begun with one of class {before['class']}, got "
                f"{type(part).__name__}; give the same again, or begin anew with `invertkit.run`."
            )
        # A bare objective says nothing of its weight and place: those of before hold.
        if isinstance(objects[argument][name], Term):
            raise InputError(
                f"{at}: {folder} was begun with {_said(before)}, got {_said(now)}; give the same "
                "again, or begin anew with `invertkit.run`."
            )


def _said(node: Node) -> str:
    told = {key: value for key, value in node.items() if key not in ("type", "class")}
    return f"Term(…{''.join(f', {key}={value!r}' for key, value in told.items())})"


def made_in_python(raw: Node) -> dict[str, list[str]]:
    """The objects that a resolved page wants from Python: names by argument.

    Args:
        raw: The page.

    Example:
        >>> made_in_python({"variable": {"type": "python:variable", "class": "Tinted"},
        ...                 "objective": {"a": {"type": "python:a"}, "b": {"type": "norm"}}})
        {'terms': ['a'], 'variable': ['variable']}
    """
    names: dict[str, list[str]] = {}
    for argument in OBJECTS:
        node = raw.get(_KEYS.get(argument, argument)) or {}
        places = {argument: node} if argument in ("variable", "optimizer") else node
        if wanted := [name for name, each in places.items() if _is_from_python(each)]:
            names[argument] = wanted
    return names


def _is_from_python(node: Any) -> bool:
    return isinstance(node, Mapping) and str(node.get("type", "")).startswith(PYTHON)
