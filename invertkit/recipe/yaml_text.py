"""YAML without its traps, and where in a text a value stands."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

import yaml

from invertkit.errors import InvertkitError, RecipeError


class _Loader(yaml.SafeLoader):
    """YAML without its traps: 1e-3 is a number, `on` is a word, a key may stand once."""


# By YAML 1.1 `on` and `no` are booleans, `1e-3` is a text, and `2020-01-01` is a date.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers
            if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float",
                           "tag:yaml.org,2002:timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}  # fmt: skip
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+"
        r"|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)|(?:nan|NaN|inf))$"
    ),
    list("-+0123456789.niN"),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | float | bool):
            raise yaml.constructor.ConstructorError(
                None, None, "a key must be a word", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


@lru_cache(maxsize=64)
def _loaded(text: str) -> Any:
    # One command reads a page and those below it several times, and PyYAML is slow.
    return yaml.load(text, Loader=_Loader)  # noqa: S506


def parse_yaml(text: str, *, where: str) -> Any:
    """Data of a YAML text; never code.

    Raises:
        RecipeError: Not YAML, or a key stands twice; the message names `where` and the line.
    """
    try:
        # The cache has one page for all, and callers change theirs: `extends` is taken out of it.
        return copy.deepcopy(_loaded(text))
    except RecursionError:
        raise RecipeError(f"{where}: not a readable recipe: nested too deeply.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise RecipeError(f"{where}{line}: not a readable recipe: {problem}.") from None


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """Line, from 1, at which the value at `path` stands in a YAML text; None if it does not."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError):
        return None
    line: int | None = None
    for part in path:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == str(part)]
            if not pairs:
                return line
            line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                return line
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            return line
    return line


_PATH: Final = re.compile(r"^([\w-]+(?:\.[\w-]+)*): ")


@contextmanager
def naming_lines(text: str | None, resolved: Any) -> Iterator[None]:
    """Sentences of errors raised inside that start with a path get its line in the user's page.

    No line is named where the value comes from elsewhere: an override, a choice, a page extended.

    Args:
        text: The user's page; None names nothing.
        resolved: The page with everything merged in.
    """
    try:
        yield
    except InvertkitError as error:
        if text is None:
            raise
        page = parse_yaml(text, where="page")
        sentences = [_with_line(line, text, page, resolved) for line in str(error).split("\n")]
        raise type(error)("\n".join(sentences)) from None


def _with_line(sentence: str, text: str, page: Any, resolved: Any) -> str:
    if (match := _PATH.match(sentence)) is None:
        return sentence
    path: list[str | int] = [int(key) if key.isdigit() else key for key in match[1].split(".")]
    nothing = object()
    if (written := _value_at(page, path, nothing)) is nothing:
        path.pop()  # a key that is missing: where its mapping stands
        written = _value_at(page, path, nothing)
    # Where the page that was run holds another value, the fault is not in what the user wrote here.
    if written is nothing or not path or repr(written) != repr(_value_at(resolved, path, None)):
        return sentence
    line = line_of(text, path)
    return sentence.replace(": ", f" (line {line}): ", 1) if line else sentence


def _value_at(node: Any, path: Sequence[str | int], otherwise: Any) -> Any:
    for key in path:
        if isinstance(node, dict):
            keys = [name for name in node if str(name) == str(key)]
            if not keys:
                return otherwise
            node = node[keys[0]]
        elif isinstance(node, list) and isinstance(key, int) and key < len(node):
            node = node[key]
        else:
            return otherwise
    return node
