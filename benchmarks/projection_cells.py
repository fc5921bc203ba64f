"""A cell of the comparison of `projection.py`: a photograph, a method, a seed, and a way to count.

What a cell has found is a row for each picture: `run`, the best of a run that had all evaluations
of the budget, or `member`, one of as many pictures as a population has members.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple, final

import torch
from projection_methods import Budget, Method
from projection_photographs import Photograph
from torch import Tensor

from invertkit.core.images.resize import resize_image
from invertkit.engine.problem import Problem
from invertkit.engine.run import Run
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.perceptual.network import PerceptualNet
from invertkit.objectives.functional import weighted_mean
from invertkit.runs.prepare import prepare_job

Counted = Literal["run", "member", "both"]
LOSSES: Final = ("loss", "l1", "l2", "perceptual", "other", "discriminator")
TOGETHER: Final = 4
_GENERATOR: Final = "models.generator.weights="
FIELDS: Final = (
    "image", "centred", "method", "first", "seed", "counted", "cell", "rows", *LOSSES,
    "evaluations", "gradients", "seconds",
)  # fmt: skip


class Cell(NamedTuple):
    """What is solved at a time.

    Attributes:
        photograph: Name of it.
        method: Name of it.
        seed: Of the run; the first of them, where several are solved side by side.
        counted: `both` where the members of one run are its population.
    """

    photograph: str
    method: str
    seed: int
    counted: Counted


def cells_of(method: Method, photograph: str, seed: int) -> list[Cell]:
    """The cells of a method, a photograph and a seed; none where an earlier seed's has it too."""
    ways: tuple[Counted, ...] = ("both",) if method.kind == "population" else method.counted
    cells = [Cell(photograph, method.name, seed, way) for way in ways]
    return [cell for cell in cells if seed % _together(method, cell) == 0]


def _together(method: Method, cell: Cell) -> int:
    """How many seeds are solved side by side: single descents alone would take twice as long."""
    return TOGETHER if method.kind == "descents" and cell.counted == "run" else 1


@final
@dataclass(frozen=True)
class Judges:
    """Networks that measure and are no part of a method.

    Args:
        other: A perceptual network on a classifier that no method looks at.
        discriminator: Of the generator.
    """

    other: PerceptualNet
    discriminator: Classifier


@final
@dataclass
class Counter:
    """Pictures that a generator has made, and those of them with a gradient."""

    evaluations: int = 0
    gradients: int = 0

    def __call__(self, _net: Any, latents: tuple[Tensor, ...]) -> None:
        count = len(latents[0])
        self.evaluations += count
        self.gradients += count if torch.is_grad_enabled() else 0


@final
@dataclass
class Found:
    """The pictures that a cell has made, by how they are counted, and what they cost."""

    images: dict[str, Tensor]
    cost: Counter = field(default_factory=Counter)
    seconds: float = 0.0


def solve(
    cell: Cell, method: Method, photograph: Photograph, budget: Budget, sets: list[str]
) -> tuple[Problem, Found]:
    """The pictures of a cell; the problem is for its networks.

    Args:
        cell: Which.
        method: Its method.
        photograph: Its photograph.
        budget: Of evaluations.
        sets: Overrides of the study, such as the generator's file.
    """
    members = budget.members
    as_members = cell.counted == "member"
    seeds = tuple(range(cell.seed, cell.seed + _together(method, cell)))
    if as_members:
        first = cell.seed * members
        seeds = tuple(range(first, first + min(members, method.most or members)))
    alone = method.kind == "alone"
    each = budget
    if method.kind == "descents" and not as_members:
        each = replace(budget, steps=budget.evaluations)
    limit = (budget.steps if as_members else budget.evaluations) if alone else None
    problems = [
        problem_of(method, photograph, each, sets, some)
        for some in ([(seed,) for seed in seeds] if alone else [seeds])
    ]
    parts = [_solved(problem, limit) for problem in problems]
    names = parts[0].images
    found = Found({name: torch.cat([part.images[name] for part in parts]) for name in names})
    for part in parts:
        found.cost.evaluations += part.cost.evaluations
        found.cost.gradients += part.cost.gradients
        found.seconds += part.seconds
    if as_members:
        found.images = {"member": found.images["run"]}
    return problems[0], found


def problem_of(
    method: Method,
    photograph: Photograph,
    budget: Budget,
    sets: list[str],
    seeds: tuple[int, ...],
) -> Problem:
    """A problem with seeds side by side; the encoder is of the generator's file."""
    side = photograph.image.shape[-1]
    choices = {"class": "given", **dict(method.choices)}
    stages = ["search", *(["transform"] if method.recipe == "project" else [])]
    stages += ["tune"] if choices.get("finetune") == "with" else []
    label = f"variable.inner.label={photograph.label}"
    files = [text for text in sets if text.startswith(_GENERATOR)]
    job = prepare_job(
        method.recipe,
        image=photograph.image,
        mask=photograph.mask,
        device="cpu",
        choices=choices,
        overrides=[
            *([label] if choices["class"] == "given" else []),
            *sets,
            *(
                text.replace("generator", "encoder", 1)
                for text in files
                if choices.get("encoder") == "with"
            ),
            *(f"stages.{stage}.size={side}" for stage in stages if stage != "tune"),
            *method.options(budget),
        ],
    )
    return job.problem(seeds)


def _solved(problem: Problem, limit: int | None) -> Found:
    """Best pictures, and the last population's; at the limit of evaluations the run is left."""
    count, started, before = Counter(), time.process_time(), 0
    hook = problem.models["generator"].net.register_forward_pre_hook(count)
    run = Run(problem)
    for _ in run.steps():
        # A step of L-BFGS takes what it takes: the nearest end to the limit.
        if limit is not None and count.evaluations + (count.evaluations - before) / 2 >= limit:
            break
        before = count.evaluations
    hook.remove()
    found = Found({"run": run.best_images().float()}, count, time.process_time() - started)
    candidates = getattr(run.search_state, "candidates", None)
    if candidates:
        scene = replace(problem.scene(problem.stages[-1].size), models=problem.models)
        with torch.no_grad():
            found.images["member"] = problem.variable.image(candidates, scene).clamp(0, 1)
    return found


def rows(
    cell: Cell, photograph: Photograph, problem: Problem, found: Found, judges: Judges
) -> Iterator[dict[str, Any]]:
    """What the pictures of a cell are worth, a row for each."""
    count = sum(len(images) for images in found.images.values())
    runs = len(found.images.get("run", ())) or 1
    for counted, images in found.images.items():
        values = measure(problem, images, photograph, judges)
        for i in range(len(images)):
            yield {
                "image": photograph.name,
                "centred": int(photograph.centred),
                "method": cell.method,
                "first": cell.seed,
                "seed": cell.seed + (i if counted == "run" else 0),
                "counted": counted,
                "cell": cell.counted,
                "rows": count,
                **{name: f"{values[name][i]:.5f}" for name in LOSSES},
                "evaluations": found.cost.evaluations // runs,
                "gradients": found.cost.gradients // runs,
                "seconds": f"{found.seconds / runs:.2f}",
            }


@torch.no_grad()
def measure(
    problem: Problem, images: Tensor, photograph: Photograph, judges: Judges
) -> dict[str, list[float]]:
    """Losses inside the box, in the photograph's frame, of each picture.

    `l1` and `l2` (squared) on [-1, 1]; `perceptual`, the distance that is minimised; `other`, that
    of another network; `discriminator`, 1 - cosine of the discriminator's features. `loss` is l1 +
    10·perceptual, what is minimised but for the weights outside the box.
    """
    mask, truth = photograph.mask[None], photograph.image[None]
    difference = (images - truth) * 2
    held = images * mask + truth * (1 - mask)
    found = {
        "l1": weighted_mean(difference.abs(), mask),
        "l2": weighted_mean(difference.square(), mask),
        "perceptual": problem.models["perceptual"](held, truth.expand_as(held)),
        "other": judges.other(held, truth.expand_as(held)),
        "discriminator": _cosine(judges.discriminator, held, truth),
    }
    found["loss"] = found["l1"] + 10 * found["perceptual"]
    return {name: value.tolist() for name, value in found.items()}


def _cosine(judge: Classifier, images: Tensor, truth: Tensor) -> Tensor:
    """1 - cosine of features, averaged over layers."""
    size = (judge.size, judge.size)
    ours, theirs = (
        judge.observe(resize_image(x, size), judge.default_layers) for x in (images, truth)
    )
    parts = [
        1 - torch.cosine_similarity(ours[layer].flatten(1), theirs[layer].flatten(1))
        for layer in judge.default_layers
    ]
    return torch.stack(parts).mean(0)
