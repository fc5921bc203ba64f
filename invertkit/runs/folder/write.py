"""A run's folder: pictures, history, metrics, and one self-contained page that shows them."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import save_file

from invertkit.core.images.save import save_png
from invertkit.core.regions import SOURCE_MASK, TARGET_MASK
from invertkit.core.version import __version__
from invertkit.errors import WriteError
from invertkit.runs.folder.page import html, resolved_page
from invertkit.runs.folder.panels import sheet

if TYPE_CHECKING:
    from invertkit.runs.result import Result

_PAGE: Final = "report.html"
_TEMPLATES: Final = Path(__file__).parent
_BOTH: Final = ("best", "last")


def is_written(result: Result, folder: Path) -> bool:
    """Whether `write` has written it there, to the end."""
    files = [_PAGE, *(f"images/seed-{seed}-{kind}.png" for seed in result.seeds for kind in _BOTH)]
    return all((folder / name).is_file() for name in files)


def is_judged(folder: Path) -> bool:
    """Whether what `write` has written there tells IoU with the target."""
    path = folder / "metrics.json"
    return path.is_file() and "mask_iou" in path.read_text(encoding="utf-8")


def write(result: Result, folder: Path, *, judge: bool = False, run: Path | None = None) -> Path:
    """Write everything of a result into its folder; see DESIGN, "A run's folder".

    Args:
        result: Of the run.
        folder: Exists; files of an earlier write are replaced.
        judge: Also measure IoU with the target by a segmenter trained for it (seconds).
        run: The folder that can be resumed, for messages; by default `folder`.

    Raises:
        WriteError: A file cannot be written.
    """
    try:
        # The page is written last, so that whoever finds it finds everything.
        (folder / _PAGE).unlink(missing_ok=True)
        (folder / "images").mkdir(exist_ok=True)
        for i, seed in enumerate(result.seeds):
            text = {"recipe": str(result.recipe.get("name", "")), "seed": str(seed),
                    "software": f"invertkit {__version__}"}  # fmt: skip
            save_png(result.best[i], folder / "images" / f"seed-{seed}-best.png", text=text)
            save_png(result.last[i], folder / "images" / f"seed-{seed}-last.png", text=text)
        if result.tensors:
            _write_tensors(result, folder / "tensors")
        picture = sheet(result)
        picture.save(folder / "result.png")
        (folder / "recipe.yaml").write_text(resolved_page(result), encoding="utf-8")
        _write_history(result, folder / "history.csv")
        facts = metrics(result, judge=judge)
        (folder / "metrics.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
        page = html(result, picture, facts)
        (folder / _PAGE).write_text(page, encoding="utf-8")
    except OSError as error:
        raise WriteError(
            f"{folder}: cannot be written ({error.strerror or error}). Make room and run "
            f"`invertkit resume {run or folder}`: the checkpoint there is whole."
        ) from None
    return folder


def _write_tensors(result: Result, folder: Path) -> None:
    """`seed-K.safetensors`: what the best image of each seed was made of."""
    folder.mkdir(exist_ok=True)
    for i, seed in enumerate(result.seeds):
        row = {name: value[i : i + 1].contiguous() for name, value in result.tensors.items()}
        save_file(row, folder / f"seed-{seed}.safetensors")


def _write_history(result: Result, path: Path) -> None:
    """One line per image and step: raw values, weights, weighted total."""
    names = list(dict.fromkeys(n for rows in result.rows for row in rows for n in row["values"]))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        weights = [f"{name}:weight" for name in names]
        writer.writerow(["seed", "step", "stage", "height", "width", "total", *names, *weights])
        first = 0
        for rows, count in zip(result.rows, result.batches, strict=True):
            for i in range(count):
                for row in rows:
                    values = [row["values"][n][i] if n in row["values"] else "" for n in names]
                    used = [row["weights"].get(n, "") for n in names]
                    writer.writerow([
                        result.seeds[first + i], row["step"], row["stage"], *row["size"],
                        row["losses"][i], *values, *used,
                    ])  # fmt: skip
            first += count


def metrics(result: Result, *, judge: bool = False) -> dict[str, Any]:
    """What can be said in numbers: how it ended, losses, distance of patches to the source."""
    from invertkit.metrics.mask_iou import mask_iou
    from invertkit.metrics.patch_similarity import bidirectional_similarity

    facts: dict[str, Any] = {
        "status": result.status.name.lower(),
        "sentence": f"The run {result.status.value}.",
        "steps": result.steps,
        "seconds": round(result.seconds, 2),
        "seconds_per_step": round(result.seconds / max(1, result.steps * len(result.seeds)), 5),
        "device": result.device,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "invertkit": __version__,
        "images": [],
    }
    height, width = result.images.shape[-2:]
    fitted = result.inputs.at((height, width), result.recipe.get("fit", "stretch"))
    for i, seed in enumerate(result.seeds):
        image = result.images[i : i + 1]
        entry: dict[str, Any] = {
            "seed": seed,
            "best_step": result.best_steps[i],
            "best_loss": _finite(result.best_losses[i]),
        }
        if fitted.reference is not None:
            entry["bidirectional_similarity"] = round(
                bidirectional_similarity(image, fitted.reference).item(), 5
            )
        triple = (fitted.find(TARGET_MASK), fitted.reference, fitted.find(SOURCE_MASK))
        if judge and all(part is not None for part in triple):
            entry["mask_iou"] = round(mask_iou(image, *triple)[0].item(), 4)  # type: ignore[arg-type]
        facts["images"].append(entry)
    return facts


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
