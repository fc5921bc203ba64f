"""A sheet of edits of real photographs: projected, changed, and blended back.

    python benchmarks/edits.py DATA --out edits
    python benchmarks/edits.py DATA --out edits --choose encoder=without --seeds 4

DATA is a folder in which the photographs of the list (`edits.yaml`) lie. Every photograph is
projected once, all its edits begin there, and what is there already is not made again; a run that
was stopped goes on. Each edit is a row of the sheet: the photograph, its projection, the changed
picture, and that blended in. Under the last stands what a classifier that no method looks at sees
there: its first guess among the generator's classes before and after.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from projection import OTHER
from projection_photographs import object_box
from torch import Tensor

import invertkit
from invertkit.apps.editing.pictures import Edited, described
from invertkit.core.images import demo
from invertkit.core.images.load import load_image
from invertkit.core.images.resize import resize_image
from invertkit.core.images.save import save_png
from invertkit.core.images.sheet import Panel, draw_sheet
from invertkit.errors import InputError, InvertkitError
from invertkit.models.classifiers.class_names import class_place
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.sources.embedded import embedded
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.open import embedded_generator

DEMO = Path(demo.__file__).with_name("demo_pictures")
LIST = Path(__file__).with_name("edits.yaml")


def main() -> None:
    """Project what is left, edit, and draw the sheet."""
    options = _options()
    torch.set_num_threads(options.threads)
    wanted = yaml.safe_load(options.list.read_text(encoding="utf-8"))
    generator = embedded_generator(weights=options.generator)
    judge = embedded(weights=OTHER)
    rows = []
    for i, entry in enumerate(wanted["edits"]):
        change = dict(entry)
        name = change.pop("photograph")
        source = wanted["photographs"][name]
        run = projected(name, source, generator, options)
        region = source.get("region", options.region)
        edited = invertkit.edit(run, region=region, refine=options.refine, **change)
        rows.append(_row(edited, generator, judge, height=options.height))
        save_png(edited.images[-1], options.out / f"{i + 1:02}-{name}.png")
        print(f"{name}: {described(edited.change)}: {edited.facts['directions']}", flush=True)
    pairs = [[*a, *b] for a, b in zip(rows[::2], [*rows[1::2], []], strict=False)]
    draw_sheet(pairs, height=options.height).save(options.out / "sheet.png")
    print(options.out / "sheet.png")


def projected(
    name: str, source: Mapping[str, Any], generator: Generator, options: argparse.Namespace
) -> Path:
    """The folder of a photograph's projection, made if it is not there."""
    run: Path = options.out / "runs" / name
    if (run / "metrics.json").is_file():
        return run
    if run.is_dir():
        invertkit.resume(run)
        return run
    image, mask = inputs_of(source, options)
    overrides = [f"variable.inner.label={source['class']}", *options.set]
    if options.generator is not None:
        overrides += [f"models.{part}.weights={options.generator}" for part in _parts(options)]
    run.parent.mkdir(parents=True, exist_ok=True)
    invertkit.run(
        "project",
        image=image,
        mask=mask,
        out=run,
        seeds=options.seeds,
        budget=options.budget,
        choices={"class": "given", **dict(each.split("=", 1) for each in options.choose)},
        overrides=[
            *overrides,
            f"stages.transform.size={generator.size}",
            f"stages.search.size={generator.size}",
        ],
    )
    return run


def _parts(options: argparse.Namespace) -> list[str]:
    """The networks that come from the generator's file."""
    return ["generator", *(["encoder"] if "encoder=with" in options.choose else [])]


def inputs_of(source: Mapping[str, Any], options: argparse.Namespace) -> tuple[Any, Any]:
    """Photograph and mask: as given, or the middle square and its object's box.

    Raises:
        InputError: The photograph is not there.
    """
    if "demo" in source:
        return DEMO / f"{source['demo']}.jpg", DEMO / f"{source['demo']}-mask.png"
    archive, _, inside = source["image"].partition(".zip/")
    if not inside:
        return options.data / source["image"], options.data / source["mask"]
    path = options.data / f"{archive}.zip"
    try:
        with zipfile.ZipFile(path) as file, Image.open(BytesIO(file.read(inside))) as picture:
            image = load_image(picture.convert("RGB"))
    except (OSError, KeyError) as error:
        raise InputError(f"{path}: holds no {inside} ({error}).") from None
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image.reshape(3, height, width)[:, top : top + side, left : left + side]
    known = source["class"] if "/" in inside else inside.partition("_")[2]
    box = object_box(square, embedded(), known.removesuffix(".jpg"))
    return square, box.mask(side)


def _row(edited: Edited, generator: Generator, judge: Classifier, *, height: int) -> list[Panel]:
    before, after = (
        _guess(judge, picture, generator.classes)
        for picture in (edited.projection, edited.generated[-1])
    )
    words = described(edited.change)
    if edited.strengths[-1] != 1:
        words += f", strength {edited.strengths[-1]:g}"
    return [
        Panel(edited.photograph, heading="photograph"),
        Panel(edited.projection, heading="projection", lines=[f"seen as {before}"]),
        Panel(edited.generated[-1], heading=words, lines=[f"seen as {after}"]),
        Panel(edited.images[-1], heading="blended"),
    ]


@torch.no_grad()
def _guess(judge: Classifier, picture: Tensor, classes: tuple[str, ...]) -> str:
    """The likeliest of the generator's classes, and its share among them."""
    places = {name: class_place(name, judge.classes) for name in classes}
    known = {name: place for name, place in places.items() if place is not None}
    if not known:
        return "none that is known"
    side = (judge.size, judge.size)
    logits = judge(resize_image(picture[None], side).clamp(0, 1))[0, list(known.values())]
    shares = logits.softmax(0)
    return f"{list(known)[int(shares.argmax())]}, {float(shares.max()):.0%}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--list", type=Path, default=LIST)
    parser.add_argument("--out", type=Path, default=Path("edits"))
    parser.add_argument("--generator", type=Path, help="of `invertkit train generator`")
    parser.add_argument("--budget", default="preview")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--choose", nargs="*", default=["encoder=with"], help="options of the recipe"
    )
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the recipe")
    parser.add_argument("--region", choices=["mask", "box"], default="box")
    parser.add_argument("--refine", type=int, default=60)
    parser.add_argument("--height", type=int, default=128, help="of the sheet's pictures")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except InvertkitError as error:
        raise SystemExit(str(error)) from None
