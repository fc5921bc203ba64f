"""The laws of the house, read from the source without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "invertkit"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 400
LONGEST_FUNCTION = 60

ROOMS = {
    "cli", "apps", "runs", "recipe", "engine", "training",
    "objectives", "variables", "optimizers", "players", "metrics", "models", "core",
}  # fmt: skip

SHOWN = ("metrics", "objectives", "optimizers")
"""Rooms whose public functions all have an `Example`, which the doctests run."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def named(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def length(path: Path, function: Function) -> int:
    """Its lines; of a command, whose options are its parameters, those below them."""
    first = function.body[0].lineno if "cli" in path.parts else function.lineno
    return (function.end_lineno or first) - first + 1


def is_public(name: str) -> bool:
    return not name.startswith("_")


def test_the_rooms_of_the_package_are_these_and_no_more() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if any(path.glob("*.py"))}
    files = {path.name for path in PACKAGE.glob("*.py")}
    assert folders == ROOMS
    assert files == {"__init__.py", "__main__.py", "errors.py"}


def test_no_file_is_longer_than_a_reader_holds_in_mind() -> None:
    lines = {named(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name for name, count in lines.items() if count > MOST_LINES} == set()


def test_no_function_is_longer_than_a_page() -> None:
    long = {
        f"{named(path)}: {function.name}"
        for path in FILES
        for function in functions(path)
        if length(path, function) > LONGEST_FUNCTION
    }
    assert long == set()


def test_public_functions_show_how_they_are_called() -> None:
    silent = {
        f"{named(path)}: {node.name}"
        for room in SHOWN
        for path in (PACKAGE / room).rglob("*.py")
        for node in tree(path).body
        if isinstance(node, Function) and is_public(node.name)
        if ">>> " not in (ast.get_docstring(node) or "")
    }
    assert silent == set()


def test_private_names_stay_in_their_module() -> None:
    taken = {
        f"{named(path)}: {alias.name}"
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("invertkit")
        for alias in node.names
        if not is_public(alias.name) and not alias.name.startswith("__")
    }
    assert taken == set()


def test_the_tests_have_the_rooms_of_the_package() -> None:
    rooms = {path.parent.relative_to(PACKAGE) for path in FILES}
    places = {path.parent.relative_to(ROOT / "tests") for path in ROOT.glob("tests/**/test_*.py")}
    assert places <= rooms
