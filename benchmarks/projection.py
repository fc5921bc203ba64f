"""The optimizers of Transform-and-Project side by side, on real images and equal evaluations.

    python benchmarks/projection.py CIFAR10_TEST.zip IMAGENET_SAMPLE.zip --out projection

Huh et al. 2020, Table 1, on the embedded generator: every method projects every image with the
same number of generator evaluations; losses are measured inside the mask in the photograph's frame,
averaged over the seeds, and of the seed with the lowest loss. Confidence intervals are bootstraps
over the images. There are two ways to count seeds:

- by default every seed is a run of its own, and each run has `--evaluations`: a population of 16
  then takes a sixteenth of the steps of Adam;
- `--members N` counts as the paper does: N descents of Adam against one run with a population of N,
  whose members are the seeds, all for `--steps`.

`--speed` instead compares the inner loop with the generator's bare forward and backward.

CIFAR10_TEST holds `class/name.png`; IMAGENET_SAMPLE `nXXXXXXXX_name.jpg`, one photograph a class.
"""

from __future__ import annotations

import argparse
import csv
import io
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from invertkit.core.images.resize import resize_image
from invertkit.engine.problem import Problem
from invertkit.engine.run import Run
from invertkit.objectives.functional import weighted_mean
from invertkit.runs.prepare import prepare_job

CLASSES = {  # of the embedded generator, among ImageNet's
    "airplane": ("airliner", "warplane"),
    "automobile": ("sports_car", "convertible"),
    "bird": ("robin", "house_finch", "brambling"),
    "cat": ("tabby", "Siamese_cat"),
    "dog": ("golden_retriever", "beagle"),
    "frog": ("bullfrog",),
    "horse": ("sorrel",),
    "ship": ("container_ship", "liner"),
    "truck": ("trailer_truck", "moving_van"),
}
POPULATION = 16  # of CMA-ES in the embedded generator's 64 dimensions; 7 for the transform


@dataclass
class Photograph:
    """An image with its object's box and class."""

    name: str
    label: str
    image: Tensor
    mask: Tensor
    centred: bool


def centred(archive: Path, count: int) -> Iterator[Photograph]:
    """CIFAR-10 test photographs, classes in turn; the object's box is the middle 80 %."""
    with zipfile.ZipFile(archive) as file:
        by_class: dict[str, list[str]] = {}
        for name in sorted(file.namelist()):
            if name.lower().endswith((".png", ".jpg")):
                by_class.setdefault(Path(name).parts[-2], []).append(name)
        labels = sorted(by_class)
        for i in range(count):
            name = by_class[labels[i % len(labels)]][i // len(labels)]
            yield Photograph(
                name, labels[i % len(labels)], _read(file, name), box(32, 0.1, 0.1, 0.8), True
            )


def off_centre(archive: Path, count: int) -> Iterator[Photograph]:
    """Crops of ImageNet photographs that push the object into a corner, at 64 pixels.

    Photographs of one object have it in the middle; the box is the middle half of the photograph.
    The crop is four fifths of it, against one of the four corners in turn.
    """
    with zipfile.ZipFile(archive) as file:
        names = {Path(n).stem.split("_", 1)[1]: n for n in file.namelist() if n.endswith(".jpg")}
        wanted = [(label, name) for label, all_of in CLASSES.items() for name in all_of]
        for i, (label, name) in enumerate(wanted[:count]):
            image = _square(_read(file, names[name]))
            side = image.shape[-1]
            window = round(0.8 * side)
            corners = ((0, 0), (0, side - window), (side - window, 0), (side - window,) * 2)
            top, left = corners[i % 4]
            crop = resize_image(image[None, :, top : top + window, left : left + window], (64, 64))
            row, column = (0.25 * side - top) / window, (0.25 * side - left) / window
            yield Photograph(name, label, crop[0], box(64, row, column, 0.5 / 0.8), False)


def box(side: int, row: float, column: float, size: float) -> Tensor:
    """A mask `(1, side, side)` that is 1 in a square."""
    mask = torch.zeros(1, side, side)
    top, left = round(row * side), round(column * side)
    mask[:, top : round((row + size) * side), left : round((column + size) * side)] = 1
    return mask


def _read(file: zipfile.ZipFile, name: str) -> Tensor:
    with Image.open(io.BytesIO(file.read(name))) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float() / 255


def _square(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[:, top : top + side, left : left + side]


def methods(evaluations: int) -> dict[str, tuple[str, list[str]]]:
    """Recipe and overrides of every method, for so many generator evaluations a seed.

    A quarter of BasinCMA's steps come last, as in 900 + 300; CMA + Adam is split as 200 + 300.
    """
    steps = evaluations // POPULATION
    each = max(1, min(12, steps // 4))
    generations = max(1, round(0.75 * steps / each))
    last = steps - generations * each
    before = 4 * 7  # generations of the transform, of 7 candidates
    rest = max(each, (evaluations - before * 7) // POPULATION)
    later = max(1, int(0.75 * rest / each))
    search, optimizer = "stages.search", "stages.search.optimizer"
    basin = [f"{search}.steps={steps}", f"{optimizer}.inner_steps={each}"]
    return {
        "adam": ("project-adam", [f"{search}.steps={evaluations}"]),
        "lbfgs": ("project-lbfgs", [f"{search}.steps={evaluations // 25}"]),
        "cma": ("project-cma", [f"{search}.steps={steps}"]),
        "cma+adam": (
            "project-cma-adam",
            [f"{search}.steps={steps}", f"{optimizer}.last_steps={round(0.6 * steps)}"],
        ),
        "basincma": ("project-basincma", [*basin, f"{optimizer}.last_steps={last}"]),
        "basincma+transform": (
            "project",
            [
                f"stages.transform.steps={before}",
                "stages.transform.optimizer.inner_steps=7",
                f"{search}.steps={rest}",
                f"{optimizer}.inner_steps={each}",
                f"{optimizer}.last_steps={rest - later * each}",
            ],
        ),
    }


def members_of(steps: int, count: int) -> dict[str, tuple[str, list[str]]]:
    """Recipe and overrides of every method where members of the population are the seeds."""
    search, optimizer = "stages.search", "stages.search.optimizer"
    each = 30
    basin = [
        f"{search}.steps={steps}",
        f"{optimizer}.inner_steps={each}",
        f"{optimizer}.last_steps={steps - round(0.75 * steps / each) * each}",
        f"{optimizer}.outer.population={count}",
    ]
    return {
        "adam": ("project-adam", [f"{search}.steps={steps}"]),
        "lbfgs": ("project-lbfgs", [f"{search}.steps={steps // 25}"]),
        "cma": ("project-cma", [f"{search}.steps={steps}", f"{optimizer}.population={count}"]),
        "cma+adam": (
            "project-cma-adam",
            [
                f"{search}.steps={steps}",
                f"{optimizer}.last_steps={round(0.6 * steps)}",
                f"{optimizer}.outer.population={count}",
            ],
        ),
        "basincma": ("project-basincma", basin),
    }


def problem_of(
    photograph: Photograph, recipe: str, sets: list[str], seeds: tuple[int, ...]
) -> Problem:
    """A problem with all seeds side by side."""
    side = photograph.image.shape[-1]
    job = prepare_job(
        recipe,
        image=photograph.image,
        mask=photograph.mask,
        device="cpu",
        choices={"class": "given"},
        overrides=[
            f"variable.inner.label={photograph.label}",
            *sets,
            f"stages.search.size={side}",
            *([f"stages.transform.size={side}"] if recipe == "project" else []),
        ],
    )
    return job.problem(seeds)


def measure(problem: Problem, images: Tensor, photograph: Photograph) -> dict[str, list[float]]:
    """Losses inside the mask, per seed: L1 and squared L2 on [-1, 1], and two perceptual ones.

    `loss` is L1 + 10·perceptual, what is minimised but for the weights outside the mask.
    """
    mask, truth = photograph.mask[None], photograph.image[None]
    difference = (images - truth) * 2
    perceptual = problem.models["perceptual"]
    held = images * mask + truth * (1 - mask)
    found = {
        "l1": weighted_mean(difference.abs(), mask),
        "l2": weighted_mean(difference.square(), mask),
        "perceptual": perceptual(held, truth.expand_as(held)),
        "discriminator": _cosine(held, truth),
    }
    found["loss"] = found["l1"] + 10 * found["perceptual"]
    return {name: value.tolist() for name, value in found.items()}


def _cosine(images: Tensor, truth: Tensor) -> Tensor:
    """1 - cosine of the embedded discriminator's features, which no method optimises."""
    from invertkit.models.generators.open import embedded_discriminator

    judge = embedded_discriminator()
    size = (32, 32)
    ours, theirs = (
        judge.observe(resize_image(x, size), judge.default_layers) for x in (images, truth)
    )
    parts = [
        1 - torch.cosine_similarity(ours[layer].flatten(1), theirs[layer].flatten(1))
        for layer in judge.default_layers
    ]
    return torch.stack(parts).mean(0)


def solve(problem: Problem, *, bf16: bool, members: bool) -> tuple[Tensor, float]:
    """Best images, or the last population's, and seconds."""
    started = time.perf_counter()
    run = Run(problem)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for _ in run.steps():
            pass
    seconds = time.perf_counter() - started
    candidates = getattr(run.search_state, "candidates", None)
    if not members or candidates is None:
        return run.best_images().float(), seconds
    with torch.no_grad():
        scene = problem.scene(problem.stages[-1].size)
        scene = replace(scene, models=problem.models)
        return problem.variable.image(candidates, scene).clamp(0, 1), seconds


def main() -> None:
    """Run, write rows as they come, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("cifar", type=Path)
    parser.add_argument("imagenet", type=Path)
    parser.add_argument("--images", type=int, default=16, help="of each kind")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--evaluations", type=int, default=1024)
    parser.add_argument("--members", type=int, default=0, help="seeds are members; see above")
    parser.add_argument("--steps", type=int, default=240, help="of every member")
    parser.add_argument("--methods", nargs="*", default=[])
    parser.add_argument("--bf16", action="store_true", help="networks in bfloat16, for all methods")
    parser.add_argument("--out", type=Path, default=Path("projection"))
    parser.add_argument("--table", action="store_true", help="only print the table of --out")
    parser.add_argument("--speed", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.speed:
        speed(arguments)
        return
    if not arguments.table:
        compare(arguments)
    table(arguments.out)


def compare(arguments: argparse.Namespace) -> None:
    """One row of the file for every image, method and seed."""
    photographs = [
        *centred(arguments.cifar, arguments.images),
        *off_centre(arguments.imagenet, arguments.images),
    ]
    members = arguments.members
    todo = members_of(arguments.steps, members) if members else methods(arguments.evaluations)
    names = arguments.methods or list(todo)
    path = arguments.out / f"rows-{'-'.join(names)}.csv"
    fields = ["image", "centred", "method", "seed", "loss", "l1", "l2", "perceptual",
              "discriminator", "seconds"]  # fmt: skip
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        for photograph in photographs:
            for name in names:
                if "transform" in name and photograph.centred:
                    continue
                recipe, sets = todo[name]
                seeds = tuple(range(members or arguments.seeds))
                if members and name not in ("adam", "lbfgs"):
                    seeds = (0,)
                batches = [(seed,) for seed in seeds] if name == "lbfgs" else [seeds]
                for batch in batches:
                    problem = problem_of(photograph, recipe, sets, batch)
                    images, seconds = solve(problem, bf16=arguments.bf16, members=members > 0)
                    found = measure(problem, images, photograph)
                    for i in range(len(images)):
                        row: dict[str, Any] = {key: f"{v[i]:.5f}" for key, v in found.items()}
                        row |= {"image": photograph.name, "centred": int(photograph.centred),
                                "method": name, "seed": batch[0] + i,
                                "seconds": f"{seconds / len(images):.2f}"}  # fmt: skip
                        writer.writerow(row)
                file.flush()


def table(folder: Path) -> None:
    """Average and best of the seeds, with 95 % intervals over the images."""
    rows = [row for path in sorted(folder.glob("rows-*.csv")) for row in _rows(path)]
    measures = ("loss", "l1", "l2", "perceptual", "discriminator")
    lines = ["| images | method | n | " + " | ".join(measures) + " |", "|---" * 8 + "|"]
    for which, label in (("1", "centred"), ("0", "off-centre")):
        for method in dict.fromkeys(row["method"] for row in rows):
            mine = [r for r in rows if r["method"] == method and r["centred"] == which]
            if not mine:
                continue
            for how in ("average", "best"):
                cells = []
                by_image: dict[str, list[dict[str, str]]] = {}
                for row in mine:
                    by_image.setdefault(row["image"], []).append(row)
                for measure_name in measures:
                    values = [_of(group, measure_name, how) for group in by_image.values()]
                    low, high = _interval(values)
                    cells.append(f"{np.mean(values):.3f} [{low:.3f}, {high:.3f}]")
                lines.append(
                    f"| {label} | {method}, {how} | {len(by_image)} | " + " | ".join(cells) + " |"
                )
    lines += ["", *_differences(rows)]
    text = "\n".join(lines)
    (folder / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def _differences(rows: list[dict[str, str]]) -> Iterator[str]:
    """BasinCMA's average loss minus each other method's, image by image."""
    yield "| loss of BasinCMA minus | images | difference, average of seeds | best of seeds |"
    yield "|---|---|---|---|"
    keyed: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        keyed.setdefault((row["method"], row["image"]), []).append(row)
    for method in dict.fromkeys(row["method"] for row in rows):
        if method == "basincma":
            continue
        images = [i for m, i in keyed if m == method and ("basincma", i) in keyed]
        cells = []
        for how in ("average", "best"):
            values = [
                _of(keyed["basincma", i], "loss", how) - _of(keyed[method, i], "loss", how)
                for i in images
            ]
            if not values:
                break
            low, high = _interval(values)
            cells.append(f"{np.mean(values):+.4f} [{low:+.4f}, {high:+.4f}]")
        if cells:
            yield f"| {method} | {len(images)} | " + " | ".join(cells) + " |"


def _of(group: list[dict[str, str]], measure_name: str, how: str) -> float:
    if how == "average":
        return float(np.mean([float(row[measure_name]) for row in group]))
    return float(min(group, key=lambda row: float(row["loss"]))[measure_name])


def _interval(values: list[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def speed(arguments: argparse.Namespace) -> None:
    """Evaluations a second of BasinCMA's inner loop against bare networks, alternating."""
    photograph = next(iter(off_centre(arguments.imagenet, 1)))
    sets = ["stages.transform.steps=30", "stages.transform.optimizer.inner_steps=30"]
    ratios = []
    for turn in range(5):
        job = prepare_job("project", image=photograph.image, mask=photograph.mask, device="cpu",
                      overrides=[*sets, "stages.search.steps=60",
                                 "stages.search.optimizer.inner_steps=30",
                                 "stages.search.optimizer.last_steps=0"])  # fmt: skip
        run = Run(job.problem((0,)))
        steps = run.steps()
        for _ in range(30 + 30):
            next(steps)
        started = time.perf_counter()
        for _ in range(29):  # one generation, without the drawing before it
            next(steps)
        ours = 29 * POPULATION / (time.perf_counter() - started)
        generator, perceptual = run.problem.models["generator"], run.problem.models["perceptual"]
        bare, both = (_bare(generator, perceptual, with_loss=flag) for flag in (False, True))
        ratios.append((ours / bare, ours / both))
        print(
            f"turn {turn}: inner loop {ours:.0f}/s; generator alone {bare:.0f}/s "
            f"({ours / bare:.2f}); with the perceptual network {both:.0f}/s ({ours / both:.2f})"
        )
    alone, both = np.median(ratios, axis=0)
    print(f"median ratios: {alone:.2f} and {both:.2f}")


def _bare(generator: Any, perceptual: Any, *, with_loss: bool) -> float:
    """Forward and backward of the networks alone, in evaluations a second."""
    latent = torch.randn(POPULATION, generator.latents["latent"].numbers, requires_grad=True)
    embedding = (
        generator.tables["embedding"][torch.zeros(POPULATION, dtype=torch.long)]
        .clone()
        .requires_grad_()
    )

    def once() -> None:
        picture = generator.generate(latent=latent, embedding=embedding)
        if with_loss:
            seen = perceptual.observe(picture, perceptual.default_layers).values()
            torch.autograd.backward(
                [picture, *seen], [torch.ones_like(x) for x in (picture, *seen)]
            )
        else:
            picture.sum().backward()

    once()
    started = time.perf_counter()
    for _ in range(29):
        once()
    return 29 * POPULATION / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
