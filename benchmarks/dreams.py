"""What a judge sees in pictures made of nothing (`classes`) or of a photograph (`variants`).

The judge is a classifier that took no part: that of `judge.py`, or any word or file that `invertkit
models` knows, with the same classes. Of classes: does its first guess name the class? Of variants:
is it still what it names in the photograph, and is the picture no copy? A sheet and a table are
written, and what is there already is not made again.

    python benchmarks/dreams.py classes goldfish lion pizza --out classes
    python benchmarks/dreams.py variants --data photographs --out variants
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from judge import judge as package_judge
from torch import Tensor

import invertkit
from invertkit.core.images.load import load_image
from invertkit.core.images.resize import resize_image
from invertkit.core.images.save import save_png
from invertkit.core.images.sheet import Panel, draw_sheet
from invertkit.metrics.copying import displaced_correlation, pixel_correlation
from invertkit.metrics.patch_similarity import bidirectional_similarity
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.open import open_classifier

Row = dict[str, Any]


@torch.no_grad()
def seen(judge: Classifier, image: Float[Tensor, "1 3 h w"]) -> Float[Tensor, " k"]:
    """The judge's probabilities, at the size that it was trained at."""
    side = (judge.size, judge.size)
    return judge(resize_image(image, side).clamp(0, 1)).softmax(1)[0]


def judged(probabilities: Tensor, wanted: int, names: tuple[str, ...]) -> Row:
    """What it says of the wanted class, and what it says first."""
    first = int(probabilities.argmax())
    return {
        "class": names[wanted],
        "first": names[first],
        "probability": round(probabilities[first].item(), 3),
        "of_class": round(probabilities[wanted].item(), 3),
        "rank": int((probabilities > probabilities[wanted]).sum()) + 1,
    }


def of_classes(args: argparse.Namespace, judge: Classifier) -> Iterator[tuple[str, Row]]:
    """A line for each picture of each class."""
    for name in args.classes:
        wanted = judge.classes.index(name)
        given = {"overrides": [*args.set, f"objective.class.target={wanted}"]}
        yield from made(args, name, lambda image, w=wanted: judged_at(judge, image, w), given)


def of_variants(args: argparse.Namespace, judge: Classifier) -> Iterator[tuple[str, Row]]:
    """A line for each variant of each photograph."""
    for folder in sorted(path for path in args.data.iterdir() if path.is_dir()):
        if args.only and folder.name not in args.only:
            continue
        inputs = {"image": folder / "image.jpg"}
        if args.recipe == "imagine-position":
            inputs |= {"mask": folder / "mask.png", "target": folder / "target_position.png"}
        photograph = load_image(folder / "image.jpg")
        wanted = int(seen(judge, photograph).argmax())

        def compared(image: Tensor, photograph: Tensor = photograph, wanted: int = wanted) -> Row:
            there = resize_image(photograph, (image.shape[-2], image.shape[-1]))
            at_size = int(seen(judge, there).argmax())  # what it names in as few pixels
            return {
                **judged_at(judge, image, wanted),
                "class_at_size": judge.classes[at_size],
                "correlation": round(pixel_correlation(image, there).item(), 3),
                "displaced": round(displaced_correlation(image, there).item(), 3),
                "patches": round(bidirectional_similarity(image, there).item(), 4),
            }

        yield from made(args, folder.name, compared, {**inputs, "overrides": args.set})


def judged_at(judge: Classifier, image: Tensor, wanted: int) -> Row:
    return judged(seen(judge, image), wanted, judge.classes)


def made(
    args: argparse.Namespace, name: str, measure: Any, given: Mapping[str, Any]
) -> Iterator[tuple[str, Row]]:
    """The pictures of one name, read if they are there, and what is measured of them."""
    paths = [args.out / f"{name}-{seed}.png" for seed in range(args.seeds)]
    facts = args.out / f"{name}.json"
    if not all(path.exists() for path in (*paths, facts)):
        result = invertkit.run(
            args.recipe, budget="preview", seeds=args.seeds, device="cpu", choices=args.choices,
            progress=False, **given,
        )  # fmt: skip
        for path, image in zip(paths, result.images, strict=True):
            save_png(image, path)
        facts.write_text(json.dumps({"seconds": round(result.seconds, 1)}))
    for seed, path in enumerate(paths):
        row = {"name": name, "seed": seed, **measure(load_image(path))}
        yield str(path), {**row, **json.loads(facts.read_text())}


def panel(path: str, row: Row) -> Panel:
    lines = [f"{row['first']} {row['probability']:.2f}"]
    if row["rank"] > 1:
        lines.append(f"({row['class']} {row['of_class']:.2f}, rank {row['rank']})")
    if "displaced" in row:
        lines.append(f"r {row['correlation']:.2f}, moved {row['displaced']:.2f}")
    return Panel(load_image(Path(path))[0], lines=lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=("classes", "variants"))
    parser.add_argument("classes", nargs="*")
    parser.add_argument("--judge", help="word or file of a classifier, instead of judge.py's")
    parser.add_argument("--data", type=Path, help="a folder for each photograph")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--recipe")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--choose", action="append", default=[], metavar="CHOICE=OPTION")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.recipe = args.recipe or {"classes": "deepinversion", "variants": "imagine"}[args.kind]
    args.choices = dict(choice.split("=", 1) for choice in args.choose)
    judge = open_classifier(args.judge) if args.judge else package_judge()
    work = of_classes if args.kind == "classes" else of_variants
    table: list[tuple[str, Row]] = []
    for path, row in work(args, judge):
        print(row, flush=True)
        table.append((path, row))
        with (args.out / "table.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            writer.writeheader()
            writer.writerows(each for _, each in table)
    draw(args, table)
    right = sum(row["rank"] == 1 for _, row in table)
    print(f"first guess right: {right} of {len(table)}")


def draw(args: argparse.Namespace, table: list[tuple[str, Row]]) -> None:
    """Classes five to a row, or a row each; photographs beside their variants, three to a row."""
    names = list(dict.fromkeys(row["name"] for _, row in table))
    groups = [[panel(path, row) for path, row in table if row["name"] == name] for name in names]
    if args.kind == "variants":
        pairs = []
        for name, variants in zip(names, groups, strict=True):
            photograph = load_image(args.data / name / "image.jpg")[0]
            pairs.append([Panel(photograph, lines=[name]), *variants])
        rows = [list(chain(*pairs[i : i + 3])) for i in range(0, len(pairs), 3)]
        sheet = draw_sheet(rows)
    elif args.seeds == 1:
        panels = [replace(group[0], heading=n) for n, group in zip(names, groups, strict=True)]
        sheet = draw_sheet([panels[i : i + 5] for i in range(0, len(panels), 5)])
    else:
        sheet = draw_sheet(groups, labels=names)
    sheet.save(args.out / "sheet.png")


if __name__ == "__main__":
    main()
