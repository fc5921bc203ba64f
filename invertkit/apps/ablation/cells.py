"""One run of an ablation and what it leaves in its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from PIL import Image

from invertkit.apps.ablation.plan import Case, Variant
from invertkit.apps.ablation.table import AblationRow
from invertkit.core.files import whole_file
from invertkit.errors import InputError
from invertkit.runs.job import Job

_CELL: Final = "cell.json"


@final
@dataclass(frozen=True)
class Cell:
    """One photograph and target in one variant.

    Args:
        case: The photograph and what is wanted of it.
        variant: The change of the recipe.
        job: What to run; its models are put in when it is about to run.
        settings: All that decides its pictures.
        folder: Of its run, or None.
    """

    case: Case
    variant: Variant
    job: Job
    settings: Mapping[str, Any]
    folder: Path | None


def was_begun(folder: Path) -> bool:
    """Whether a run was begun there, so that there is a checkpoint to go on from."""
    return (folder / "checkpoint" / "state.pt").is_file()


def holds_pictures(folder: Path) -> bool:
    """Whether something is there that a new run would replace."""
    return was_begun(folder) or (folder / "images").is_dir()


def write_cell(cell: Cell, facts: Mapping[str, Any]) -> None:
    """Leave `facts` and the settings in the run's folder, whole or not at all.

    Raises:
        InputError: The folder cannot be written.
    """
    assert cell.folder is not None  # noqa: S101
    path = cell.folder / _CELL
    page = {
        "edit": cell.case.name,
        "variant": cell.variant.name,
        **facts,
        "settings": cell.settings,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            partial.write_text(json.dumps(page, indent=1, ensure_ascii=False), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from None


def read_cell(folder: Path) -> dict[str, Any] | None:
    """What `write_cell` wrote; None if nothing was.

    Raises:
        InputError: It is damaged, or the folder is no run of an ablation.
    """
    path = folder / _CELL
    if not path.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(
                f"{folder}: holds files that no ablation wrote, and nothing is overwritten. Choose "
                "another `--out`."
            )
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}). Remove its folder to make that run anew."
        ) from None
    return record if isinstance(record, dict) else None


def rows_of(cell: Cell, record: Mapping[str, Any]) -> list[AblationRow] | None:
    """The rows of a finished run; None if a picture is gone."""
    assert cell.folder is not None  # noqa: S101
    rows = []
    # What JSON cannot hold, NaN and infinity, was written as null.
    for facts in record.get("rows", []):
        kind = cell.job.page.result
        path = cell.folder / "images" / f"seed-{facts['seed']}-{kind}.png"
        try:
            with Image.open(path) as picture:
                picture.load()
        except OSError:
            return None
        numbers, losses = (
            {name: math.nan if value is None else value for name, value in facts[key].items()}
            for key in ("numbers", "losses")
        )
        state, error = record["state"], record.get("error", "")
        rows.append(
            AblationRow(
                cell.case.name, cell.variant.name, facts["seed"], state,
                numbers, losses, picture, error,
            )
        )  # fmt: skip
    return rows if [row.seed for row in rows] == list(cell.job.seeds) else None
