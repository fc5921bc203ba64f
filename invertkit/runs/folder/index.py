"""The page about all photographs of a run."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invertkit.core.version import __version__
from invertkit.errors import WriteError

if TYPE_CHECKING:
    from invertkit.runs.result import Result


def write_index(
    results: Sequence[Result], folder: Path, *, of: int, failed: Mapping[str, str] | None = None
) -> Path:
    """A page and a table about all photographs of a run: `index.html`, `results.csv`.

    Args:
        results: Written into a sub-folder each, by the names of their inputs.
        folder: That holds the sub-folders.
        of: How many photographs the run has; some may not be begun.
        failed: What is wrong with those that could not be gone on with, by name.

    Raises:
        InputError: A file cannot be written.
    """
    names = [result.inputs.name for result in results]
    try:
        facts = [
            json.loads((folder / name / "metrics.json").read_text(encoding="utf-8"))
            for name in names
        ]
        page = _page(results, names, facts, of=of, failed=failed or {})
        (folder / "index.html").write_text(page, encoding="utf-8")
        _write_table(folder / "results.csv", names, facts)
    except OSError as error:
        raise WriteError(
            f"{folder}: cannot be written ({error.strerror or error}). Make room and run "
            f"`invertkit resume {folder}`: the checkpoint there is whole."
        ) from None
    return folder / "index.html"


def _page(
    results: Sequence[Result],
    names: Sequence[str],
    facts: Sequence[dict[str, Any]],
    *,
    of: int,
    failed: Mapping[str, str],
) -> str:
    from jinja2 import Environment

    template = (resources.files("invertkit.runs.folder") / "index.html.jinja").read_text(
        encoding="utf-8"
    )
    # Names of photographs and sentences of errors come from outside, so they are escaped.
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        recipe=results[0].recipe.get("name", "recipe"),
        summary=results[0].recipe.get("summary", ""),
        entries=list(zip(names, facts, strict=True)),
        columns=_columns(facts),
        of=of,
        failed=failed,
        version=__version__,
    )


def _write_table(path: Path, names: Sequence[str], facts: Sequence[dict[str, Any]]) -> None:
    """A line for each image of each photograph."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer, columns = csv.writer(file), _columns(facts)
        writer.writerow(["photograph", "status", *columns])
        for name, entry in zip(names, facts, strict=True):
            for image in entry["images"]:
                row = [image.get(column, "") for column in columns]
                writer.writerow([name, entry["status"], *row])


def _columns(facts: Sequence[dict[str, Any]]) -> list[str]:
    """What is known of the images, in the order in which it comes."""
    return list(dict.fromkeys(key for entry in facts for image in entry["images"] for key in image))
