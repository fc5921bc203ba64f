from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import invertkit

ROOT = Path(__file__).parents[1]


def test_imports_point_down() -> None:
    # A process of its own: in ours it would silence every logger that it did not make itself.
    lint = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    linted = subprocess.run(
        [sys.executable, "-c", lint, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_every_module_has_its_layer() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = (c for c in config["contracts"] if c["type"] == "layers")
    named = {name for layer in contract["layers"] for name in layer.split(" | ")}
    package = Path(invertkit.__file__).parent
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in package.glob("*/__init__.py")}
    assert modules | packages == named
    assert contract["exhaustive"]
