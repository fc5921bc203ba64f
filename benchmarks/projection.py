"""The ways of Transform-and-Project side by side, on photographs and at equal evaluations.

    python benchmarks/projection.py TEST.zip SAMPLE.zip --out projection --study optimizers
    python benchmarks/projection.py TEST.zip SAMPLE.zip --out projection --estimate
    python benchmarks/projection.py --out projection --table

Huh et al. 2020, Tables 1 and 2, on the embedded generator or another: every method projects every
photograph with the same number of generator evaluations, those by which a population is judged
included; losses are measured inside the object's box in the photograph's frame. Seeds are counted
in two ways:

- a `run` has all evaluations, whatever it does with them: one descent of `members · steps`, or one
  population of `members` for `steps`;
- as the paper counts, a seed is a `member`: of that population, or one of as many descents.

TEST holds `class/name`, photographs with their object in the middle; SAMPLE `nXXXXXXXX_name.jpg`,
large photographs of which windows have it towards a corner (`projection_photographs.py`).

What is done is kept in `--out`: the command goes on where it was left, however it was stopped, and
`--table` prints what there is. One seed after another over all photographs, so that a part is a
smaller study of the same kind. One process on one thread.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from projection_cells import FIELDS, Cell, Judges, cells_of, rows, solve
from projection_methods import STUDIES, Budget, Method, methods_of
from projection_photographs import Photograph, centred, off_centre
from projection_table import tables

from invertkit.errors import InputError, InvertkitError
from invertkit.models.classifiers.class_names import class_place
from invertkit.models.classifiers.sources.embedded import embedded
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.open import embedded_discriminator, embedded_generator
from invertkit.models.loading import hub
from invertkit.models.perceptual.lpips import lpips
from invertkit.optimizers.population.cma import CMA

OTHER = hub.CARRIED / "lite0-eps0.safetensors"
"""A classifier that no method looks at."""


def main() -> None:
    """Solve what is left, and print the tables."""
    options = _options()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "rows.csv"
    if not options.table:
        _work(options, path)
    if path.is_file():
        text = tables(finished(path))
        (options.out / "tables.md").write_text(text + "\n", encoding="utf-8")
        print(text)


def _work(options: argparse.Namespace, path: Path) -> None:
    generator = embedded_generator(weights=options.generator)
    latent = generator.latents["latent"].numbers
    budget = Budget(
        members=options.members or CMA().size(latent),
        steps=options.steps,
        inner=options.inner,
        transform=tuple(options.transform),
    )
    _expect_same(options.out / "study.json", generator, budget)
    methods = methods_of(options.study)
    photographs = _photographs(options, generator)
    sets = _overrides(options, generator)
    judges = Judges(
        other=lpips(features="embedded", weights=OTHER),
        discriminator=embedded_discriminator(weights=options.generator),
    )
    if options.estimate:
        estimate(methods, photographs, budget, sets, seeds=options.seeds)
        return
    done = {_cell(row) for row in finished(path)}
    _rewrite(path, finished(path))
    began = time.monotonic()
    for seed in range(options.seeds):
        for photograph in photographs:
            for method in methods:
                if method.off_centre and photograph.centred:
                    continue
                for cell in cells_of(method, photograph.name, seed):
                    if cell in done or cell.counted not in (*options.counted, "both"):
                        continue
                    if options.minutes and time.monotonic() - began > 60 * options.minutes:
                        return
                    problem, found = solve(cell, method, photograph, budget, sets)
                    _append(path, list(rows(cell, photograph, problem, found, judges)))


def _photographs(options: argparse.Namespace, generator: Generator) -> list[Photograph]:
    """Those of both kinds."""
    look: dict[str, Any] = {"side": generator.size, "classifier": embedded()}
    found = [
        *centred(options.test, generator.classes, options.images, **look),
        *off_centre(options.sample, generator.classes, options.images, **look),
    ]
    if len({photograph.name for photograph in found}) < len(found):
        raise InputError("Two photographs have one name.")
    return found


def _overrides(options: argparse.Namespace, generator: Generator) -> list[str]:
    """What every problem takes in place of the recipe's."""
    sets = []
    if options.generator is not None:
        sets.append(f"models.generator.weights={options.generator}")
    known = embedded().classes
    if any(class_place(name, known) is not None for name in generator.classes):
        sets.append("models.classifier={type: embedded}")  # by which classes are predicted
    return sets


# ---------------------------------------------------------------------- what is kept


def finished(path: Path) -> list[dict[str, str]]:
    """The rows of cells that are whole."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        known = [row for row in csv.DictReader(file) if None not in row.values()]
    by_cell: dict[Cell, list[dict[str, str]]] = {}
    for row in known:
        by_cell.setdefault(_cell(row), []).append(row)
    return [
        row for group in by_cell.values() if len(group) == int(group[0]["rows"]) for row in group
    ]


def _cell(row: dict[str, str]) -> Cell:
    return Cell(row["image"], row["method"], int(row["first"]), row["cell"])  # type: ignore[arg-type]


def _rewrite(path: Path, whole: list[dict[str, str]]) -> None:
    """The file without what a stopped process left of a cell."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(whole)
    os.replace(partial, path)


def _append(path: Path, more: list[dict[str, Any]]) -> None:
    with path.open("a", newline="") as file:
        csv.DictWriter(file, FIELDS).writerows(more)


def _expect_same(path: Path, generator: Generator, budget: Budget) -> None:
    """Whether the folder is of this generator and this budget.

    Raises:
        InputError: It is of another.
    """
    facts = json.loads(json.dumps({"generator": generator.description, **asdict(budget)}))
    if not path.is_file():
        path.write_text(json.dumps(facts, indent=1) + "\n")
    elif (before := json.loads(path.read_text())) != facts:
        raise InputError(
            f"{path.parent}: holds a study of {before}, and this is one of {facts}; "
            "give another folder with --out."
        )


# ---------------------------------------------------------------------- how long it takes


def estimate(
    methods: list[Method],
    photographs: list[Photograph],
    budget: Budget,
    sets: list[str],
    *,
    seeds: int,
) -> None:
    """Seconds of every method: measured in a small budget, and scaled by evaluations."""
    small = replace(budget, steps=16, transform=(2, 4))
    total = 0.0
    print(
        "| method | evaluations a cell | seconds an evaluation | cells | hours |\n"
        + "|---" * 5
        + "|"
    )
    for method in methods:
        fitting = [p for p in photographs if not (method.off_centre and p.centred)]
        for cell in cells_of(method, fitting[0].name, 0):
            _, found = solve(cell, method, fitting[0], small, sets)
            each = found.seconds / found.cost.evaluations
            count, work = seeds * len(fitting), budget.evaluations + method.beside
            if cell.counted == "member" and method.most:
                work = work * method.most // budget.members
            total += count * work * each
            print(
                f"| {method.name}, {cell.counted} | {work} | {each:.4f} | {count} | "
                f"{count * work * each / 3600:.2f} |",
                flush=True,
            )
    print(f"\n{total / 3600:.1f} hours of one thread, as busy as the machine is now.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("test", type=Path, nargs="?")
    parser.add_argument("sample", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path("projection"))
    parser.add_argument("--study", nargs="+", choices=list(STUDIES), default=["optimizers"])
    parser.add_argument("--generator", type=Path, help="of `invertkit train generator`")
    parser.add_argument(
        "--counted", nargs="+", choices=["run", "member"], default=["run", "member"],
        help="seeds as runs, as members, or both; a population is always both",
    )  # fmt: skip
    parser.add_argument("--images", type=int, default=12, help="of each kind")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--members", type=int, help="by default a population's")
    parser.add_argument("--steps", type=int, default=160, help="evaluations of a member")
    parser.add_argument("--inner", type=int, default=15, help="steps of a descent in a generation")
    parser.add_argument(
        "--transform", type=int, nargs=2, default=(6, 9), help="generations and steps of its search"
    )
    parser.add_argument("--minutes", type=float, help="begin no cell after so many")
    parser.add_argument("--estimate", action="store_true", help="only tell how long it takes")
    parser.add_argument("--table", action="store_true", help="only print the tables of --out")
    options = parser.parse_args()
    if not options.table and options.sample is None:
        parser.error("give the two archives of photographs, or --table")
    return options


if __name__ == "__main__":
    try:
        main()
    except InvertkitError as error:
        raise SystemExit(str(error)) from None
