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

SHOWN = [
    "objectives/functional.py",
]
"""Modules whose public functions all have an `Example`, which the doctests run."""

NOT_YET: dict[str, set[str]] = {
    "lines": {
        "apps/ablation/run.py",
        "engine/run.py",
        "models/classifiers/open.py",
        "models/loading/inert.py",
    },
    "functions": {
        "apps/ablation/run.py: ablate",
        "apps/editing/directions.py: principal_directions",
        "apps/editing/edit.py: edit",
        "apps/gradients/run.py: gradients",
        "cli/editing.py: edit_as_written",
        "cli/figures.py: ablate",
        "cli/figures.py: gradients",
        "cli/running.py: run",
        "cli/training.py: train_classifier",
        "core/images/sheet.py: draw_sheet",
        "models/classifiers/catalogue.py: _of_the_library",
        "recipe/build.py: build",
        "runs/api.py: run",
        "runs/api.py: run_each",
        "runs/carry_out.py: carry_out_each",
        "runs/prepare.py: prepare",
        "training/classifier/command.py: _carry_out",
        "training/robustness/accuracy.py: measure_classifiers",
        "training/robustness/autoattack.py: autoattack",
        "training/robustness/robustness.py: robust_accuracy",
    },
    "examples": {
        "objectives/functional.py: channel_statistics",
        "objectives/functional.py: faded",
        "objectives/functional.py: neighbour_differences",
        "objectives/functional.py: neighbour_weights",
        "objectives/functional.py: total_variation_l1",
        "objectives/functional.py: total_variation_l2",
        "objectives/functional.py: total_variation_mv",
        "objectives/functional.py: weighted_mean",
    },
    "private": {
        "apps/editing/edit.py: _Projection",
        "apps/editing/edit.py: _check",
        "apps/editing/edit.py: _known",
        "apps/editing/edit.py: _moved",
        "apps/editing/edit.py: _strengths",
        "apps/editing/edit.py: _write",
        "apps/editing/moves.py: _Projection",
        "objectives/patches/sliced.py: _OURS",
        "optimizers/population/basin.py: _sane",
        "recipe/registry.py: _TABLES",
        "runs/carry_out.py: _Going",
        "variables/transforms/colour.py: _FACTORS",
        "variables/transforms/colour.py: _FREE",
        "variables/transforms/spatial.py: _FREE",
        "variables/transforms/spatial.py: _SCALES",
    },
}
"""What breaks a law today; it may only become less."""

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
    assert {name for name, count in lines.items() if count > MOST_LINES} <= NOT_YET["lines"]


def test_no_function_is_longer_than_a_page() -> None:
    long = {
        f"{named(path)}: {function.name}"
        for path in FILES
        for function in functions(path)
        if length(path, function) > LONGEST_FUNCTION
    }
    assert long <= NOT_YET["functions"]


def test_public_functions_show_how_they_are_called() -> None:
    silent = {
        f"{module}: {node.name}"
        for module in SHOWN
        for node in tree(PACKAGE / module).body
        if isinstance(node, Function) and is_public(node.name)
        if ">>> " not in (ast.get_docstring(node) or "")
    }
    assert silent <= NOT_YET["examples"]


def test_private_names_stay_in_their_module() -> None:
    taken = {
        f"{named(path)}: {alias.name}"
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("invertkit")
        for alias in node.names
        if not is_public(alias.name) and not alias.name.startswith("__")
    }
    assert taken <= NOT_YET["private"]


def test_the_tests_have_the_rooms_of_the_package() -> None:
    rooms = {path.parent.relative_to(PACKAGE) for path in FILES}
    places = {path.parent.relative_to(ROOT / "tests") for path in ROOT.glob("tests/**/test_*.py")}
    assert places <= rooms
