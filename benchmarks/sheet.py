"""A recipe on many photographs: one sheet of pictures, one table of numbers.

    python benchmarks/sheet.py DATA --recipe magic --out sheet

DATA holds one folder per photograph with `image.jpg`, `mask.png` and `target_*.png`. Variants
switch terms off or change them: `--variant "no statistics:objective.statistics=null"`. The judge
is trained once a photograph and size, on the source and its mask alone.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from invertkit import api
from invertkit.images import Inputs, to_picture
from invertkit.metrics import bidirectional_similarity, mask_iou
from invertkit.models.judge import Judge, train_judge
from invertkit.problem import Status
from invertkit.result import Result


@dataclass
class Row:
    """One picture of the sheet."""

    name: str
    variant: str
    result: Result
    inputs: Inputs
    iou: float
    ceiling: float
    similarity: float


def targets(data: Path, names: list[str]) -> Iterator[tuple[str, str, Path]]:
    """(photograph, target, folder) of every edit."""
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        for target in sorted(folder.glob("target_*.png")):
            kind = target.stem.removeprefix("target_")
            if not names or folder.name in names or f"{folder.name}:{kind}" in names:
                yield folder.name, kind, folder


def main() -> None:
    """Run, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="magic")
    parser.add_argument("--budget")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("--variant", action="append", default=[], help="NAME:KEY=VALUE;KEY=VALUE")
    parser.add_argument("--only", nargs="*", default=[], help="duck, or duck:shape")
    parser.add_argument("--out", type=Path, default=Path("sheet"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--columns", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    variants = {"": []}
    for text in arguments.variant:
        name, _, sets = text.partition(":")
        variants[name] = [part for part in sets.split(";") if part]
    judges: dict[str, tuple[Judge, float]] = {}
    rows: list[Row] = []
    for name, kind, folder in targets(arguments.data, arguments.only):
        for variant, sets in variants.items():
            started = time.perf_counter()
            result = api.run(
                arguments.recipe,
                image=folder / "image.jpg",
                mask=folder / "mask.png",
                target=folder / f"target_{kind}.png",
                budget=arguments.budget,
                overrides=[*arguments.sets, *sets],
                progress=False,
            )
            if result.status is Status.INTERRUPTED:
                raise SystemExit(130)
            row = measured(f"{name} {kind}", variant, result, judges, key=name)
            rows.append(row)
            seconds = time.perf_counter() - started
            print(
                f"{row.name:24}{variant:28}IoU {row.iou:.3f} of {row.ceiling:.3f}  patches "
                f"{row.similarity:.4f}  {result.seconds:.1f} s ({seconds:.0f} s in all)",
                flush=True,
            )
            draw(rows, arguments.out.with_suffix(".png"), columns=arguments.columns)
            table(rows, arguments.out.with_suffix(".csv"))
    for variant in variants:
        chosen = [row for row in rows if row.variant == variant]
        ious = [row.iou for row in chosen]
        print(
            f"{variant or 'recipe':28}mean IoU {sum(ious) / len(ious):.3f}, lowest "
            f"{min(ious):.3f}, mean patches "
            f"{sum(row.similarity for row in chosen) / len(chosen):.4f}, mean seconds "
            f"{sum(row.result.seconds for row in chosen) / len(chosen):.1f}"
        )


def measured(
    name: str, variant: str, result: Result, judges: dict[str, tuple[Judge, float]], *, key: str
) -> Row:
    """The picture with what the judge and the patches say of it."""
    height, width = result.images.shape[-2:]
    inputs = result.inputs.at((height, width), result.recipe.get("fit", "stretch"))
    image, mask, target = inputs.image, inputs.mask, inputs.target
    assert image is not None
    assert mask is not None
    assert target is not None
    key = f"{key} {height}×{width}"
    if key not in judges:
        judge = train_judge(image, mask)
        judges[key] = judge, mask_iou(image, mask, image, mask, judge=judge).item()
    judge, ceiling = judges[key]
    iou = mask_iou(result.images, target, image, mask, judge=judge)[0].item()
    similarity = bidirectional_similarity(result.images, image)[0].item()
    return Row(name, variant, result, inputs, iou, ceiling, similarity)


def table(rows: list[Row], path: Path) -> None:
    """All numbers as CSV."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["edit", "variant", "iou", "ceiling", "bidirectional_similarity",
                         "seconds", "steps"])  # fmt: skip
        for row in rows:
            writer.writerow([row.name, row.variant, f"{row.iou:.4f}", f"{row.ceiling:.4f}",
                             f"{row.similarity:.5f}", f"{row.result.seconds:.1f}",
                             row.result.steps])  # fmt: skip


def draw(rows: list[Row], path: Path, *, height: int = 128, columns: int = 1) -> None:
    """Source, target and result of every row, labelled; for variants, results side by side."""
    cells = [cell(row, height) for row in rows]
    wide = max(picture.width for picture in cells)
    tall = cells[0].height
    count = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * (wide + 8), count * tall), "white")
    for i, picture in enumerate(cells):
        sheet.paste(picture, (i // count * (wide + 8), i % count * tall))
    sheet.save(path)


def cell(row: Row, height: int) -> Image.Image:
    """One row: label, source, target, result."""
    source, target = row.inputs.image, row.inputs.target
    assert source is not None
    assert target is not None
    panels: list[Tensor] = [source[0], target[0].expand(3, -1, -1), row.result.images[0]]
    width = round(height * panels[0].shape[-1] / panels[0].shape[-2])
    picture = Image.new("RGB", (3 * (width + 2), height + 16), "white")
    label = f"{row.name}{', ' + row.variant if row.variant else ''}: IoU {row.iou:.2f}"
    ImageDraw.Draw(picture).text((2, 1), label, fill="black", font=ImageFont.load_default(size=12))
    for i, panel in enumerate(panels):
        size = (width, height)
        picture.paste(
            to_picture(panel).resize(size, Image.Resampling.LANCZOS), (i * (width + 2), 15)
        )
    return picture


if __name__ == "__main__":
    main()
