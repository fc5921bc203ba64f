"""A run's folder: pictures, history, metrics, and one self-contained page that shows them."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from torch import Tensor

from invertkit import __version__
from invertkit.core.images.load import save_png, to_picture
from invertkit.errors import InputError, WriteError
from invertkit.recipe.page import dump_yaml

if TYPE_CHECKING:
    from invertkit.runs.result import Result

_COLOURS: Final = (
    "#1b6ca8", "#c8553d", "#588b3a", "#8a4fae", "#b8860b", "#2a9d8f", "#d1495b", "#5c677d",
)  # fmt: skip
_LABEL = 18
_PAGE: Final = "report.html"
_TEMPLATES: Final = Path(__file__).parent
_BOTH: Final = ("best", "last")


def new_folder(folder: Path) -> Path:
    """Make the folder of a run.

    Raises:
        InputError: It holds something already, or cannot be made or written.
    """
    try:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; `--out` names a folder to make.")
        if folder.is_dir() and any(folder.iterdir()):
            again = (folder / "checkpoint").is_dir()
            more = f", or go on with it: `invertkit resume {folder}`" if again else ""
            raise InputError(
                f"{folder}: exists and is not empty, and nothing is overwritten. Choose another "
                f"`--out`{more}."
            )
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror or error}). Choose another `--out`."
        ) from None
    return folder


def is_written(result: Result, folder: Path) -> bool:
    """Whether `write` has written it there, to the end."""
    files = [_PAGE, *(f"images/seed-{seed}-{kind}.png" for seed in result.seeds for kind in _BOTH)]
    return all((folder / name).is_file() for name in files)


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
    from jinja2 import Environment

    template = (resources.files("invertkit.runs.folder") / "index.html.jinja").read_text(
        encoding="utf-8"
    )
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    names = [result.inputs.name for result in results]
    try:
        facts = [
            json.loads((folder / name / "metrics.json").read_text(encoding="utf-8"))
            for name in names
        ]
        page = environment.from_string(template).render(
            recipe=results[0].recipe.get("name", "recipe"),
            summary=results[0].recipe.get("summary", ""),
            entries=list(zip(names, facts, strict=True)),
            columns=_columns(facts),
            of=of,
            failed=failed or {},
            version=__version__,
        )
        (folder / "index.html").write_text(page, encoding="utf-8")
        with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            columns = _columns(facts)
            writer.writerow(["photograph", "status", *columns])
            for name, entry in zip(names, facts, strict=True):
                for image in entry["images"]:
                    row = [image.get(column, "") for column in columns]
                    writer.writerow([name, entry["status"], *row])
    except OSError as error:
        raise WriteError(
            f"{folder}: cannot be written ({error.strerror or error}). Make room and run "
            f"`invertkit resume {folder}`: the checkpoint there is whole."
        ) from None
    return folder / "index.html"


def _columns(facts: Sequence[dict[str, Any]]) -> list[str]:
    """What is known of the images, in the order in which it comes."""
    return list(dict.fromkeys(key for entry in facts for image in entry["images"] for key in image))


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
        (folder / _PAGE).unlink(missing_ok=True)  # written last: whoever finds it finds all
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


def sheet(result: Result, *, height: int = 256) -> Image.Image:
    """Source, mask, target and every image side by side, labelled."""
    inputs = result.inputs
    tall, wide = result.images.shape[-2:]
    scale = height / tall
    size = (max(1, round(wide * scale)), height)
    panels: list[tuple[str, Image.Image]] = []
    if inputs.image is not None:
        fitted = inputs.at((size[1], size[0]), result.recipe.get("fit", "stretch"))
        for name in ("image", "mask", "target"):
            tensor: Tensor | None = getattr(fitted, name)
            if tensor is not None:
                label = "source" if name == "image" else name
                panels.append((label, to_picture(tensor[0].expand(3, -1, -1))))
    for seed, image in zip(result.seeds, result.images, strict=True):
        label = "result" if len(result.seeds) == 1 else f"seed {seed}"
        panels.append((label, to_picture(image).resize(size, Image.Resampling.LANCZOS)))
    gap = 4
    canvas = Image.new("RGB", (len(panels) * (size[0] + gap) - gap, height + _LABEL), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=13)
    for i, (label, picture) in enumerate(panels):
        left = i * (size[0] + gap)
        draw.text((left + 2, 1), label, fill="black", font=font)
        canvas.paste(picture, (left, _LABEL))
    return canvas


def resolved_page(result: Result) -> str:
    """The recipe as it ran, with version, seeds, device and weights in its header."""
    lines = [
        f"# Resolved by invertkit {__version__} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        f"# Python {platform.python_version()}, torch {torch.__version__}, "
        f"device {result.device}, seeds {', '.join(map(str, result.seeds))}.",
        *(f"# Model {name}: {what}." for name, what in result.models.items()),
    ]
    return "\n".join(lines) + "\n" + dump_yaml(dict(result.recipe))


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
    from invertkit.metrics.patch_similarity import bidirectional_similarity, mask_iou

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
        if fitted.image is not None:
            entry["bidirectional_similarity"] = round(
                bidirectional_similarity(image, fitted.image).item(), 5
            )
        triple = (fitted.target, fitted.image, fitted.mask)
        if judge and all(part is not None for part in triple):
            entry["mask_iou"] = round(mask_iou(image, *triple)[0].item(), 4)  # type: ignore[arg-type]
        facts["images"].append(entry)
    return facts


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def html(result: Result, picture: Image.Image, facts: dict[str, Any]) -> str:
    """One self-contained page: pictures, loss curves by term, timing, an animation."""
    from jinja2 import Environment

    template = (resources.files("invertkit.runs.folder") / "report.html.jinja").read_text(
        encoding="utf-8"
    )
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    history = result.history
    total = history.pop("total")
    return environment.from_string(template).render(
        name=result.recipe.get("name", "recipe"),
        summary=result.recipe.get("summary", ""),
        source=result.recipe.get("source", ""),
        sentence=facts["sentence"],
        facts=facts,
        models=result.models,
        picture=_data_url(picture, "PNG"),
        animation=_animation(result.frames),
        curves=[
            {"name": name, "svg": curve(values[0].tolist(), _COLOURS[i % len(_COLOURS)])}
            for i, (name, values) in enumerate({"total": total, **history}.items())
        ],
        page=resolved_page(result),
        version=__version__,
    )


def _data_url(picture: Image.Image, form: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=form, **options)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{form.lower()};base64,{data}"


def _animation(frames: Sequence[Tensor]) -> str:
    """An animated WebP of the way; nothing if there are fewer than two frames."""
    if len(frames) < 2:
        return ""
    height, width = frames[-1].shape[-2:]
    pictures = [
        Image.fromarray(frame.permute(1, 2, 0).numpy()).resize(
            (2 * width, 2 * height), Image.Resampling.BICUBIC
        )
        for frame in frames
    ]
    times = [120] * (len(pictures) - 1) + [1500]
    return _data_url(
        pictures[0],
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=times,
        loop=0,
        quality=80,
    )


def curve(values: Sequence[float], colour: str, *, width: int = 360, height: int = 110) -> str:
    """A line over the steps as SVG; logarithmic where all values are positive."""
    points = [(i, value) for i, value in enumerate(values) if math.isfinite(value)]
    if len(points) < 2:
        return ""
    positive = all(value > 0 for _, value in points)
    ys = [math.log10(value) if positive else value for _, value in points]
    low, high = min(ys), max(ys)
    spread = (high - low) or 1.0
    stride = max(1, len(points) // width)
    path = " ".join(
        f"{4 + (width - 8) * i / max(1, len(values) - 1):.1f},"
        f"{4 + (height - 8) * (1 - (y - low) / spread):.1f}"
        for (i, _), y in list(zip(points, ys, strict=True))[::stride]
    )
    first, last = points[0][1], points[-1][1]
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.4" points="{path}"/></svg>'
        f"<small>{first:.4g} → {last:.4g}{' (log scale)' if positive else ''}</small>"
    )
