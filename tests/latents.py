"""What tests of generators share: float64 all through, so that equality can be claimed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from invertkit.core.scene import Scene
from invertkit.core.view import View
from invertkit.engine.problem import Problem, Stage, Term
from invertkit.engine.run import Run
from invertkit.models.generators.generator import Generator
from invertkit.objectives.base import Objective
from invertkit.objectives.reference import PixelDistance
from invertkit.optimizers.base import Optimizer
from invertkit.variables.base import Variable
from invertkit.variables.latent import Latent
from tests.helpers import (
    make_scene,
    through_a_file,
    tiny_classifier,
    tiny_generator,
    tiny_perceptual,
)

SMALL = (12, 10)
WIDE = 1 << 40
"""Bytes that hold everything at once."""


def generator64(*, size: int = 8, classes: int = 3, names: Sequence[str] = ()) -> Generator:
    """A tiny generator whose pictures differ, in float64; the global generator stays."""
    with torch.random.fork_rng(devices=[]):
        made = tiny_generator(size=size, classes=classes)
    net = made.net
    for weight in net.parameters():
        weight.mul_(1.5)
    named = Generator(net, size=size, latent=5, classes=names, description="a tiny generator")
    return named.double()


def latent_models(**others: Any) -> dict[str, Any]:
    return {
        "generator": generator64(),
        "classifier": tiny_classifier(torch.float64),
        "perceptual": tiny_perceptual(torch.float64),
    } | others


def latent_scene(size: tuple[int, int] = SMALL, **models: Any) -> Scene:
    return replace(make_scene(size), models=latent_models(**models))


def latents(**options: Any) -> Latent:
    return Latent(**{"embedding": "given", "label": 1} | options)


def latent_problem(
    *stages: tuple[int, Optimizer] | tuple[int, Optimizer, Variable],
    variable: Variable | None = None,
    terms: Sequence[Term] = (),
    seeds: tuple[int, ...] = (3, 5),
    memory: int | None = None,
    scene: Callable[[tuple[int, int]], Scene] = make_scene,
    **models: Any,
) -> Problem:
    """A run of latents in stages of one size."""
    return Problem(
        scene=scene,
        models=latent_models(**models),
        variable=variable or latents(),
        terms=terms or (Term(PixelDistance(form="l2"), name="distance", region="object"),),
        optimizer=stages[0][1],
        players={},
        stages=[Stage(SMALL, *stage) for stage in stages],
        seeds=seeds,
        memory=memory,
    )


def finished(problem: Problem) -> Run:
    run = Run(problem)
    list(run.steps())
    return run


def state(run: Run) -> Any:
    """All of a run but the time it took, and the pictures it would show."""
    saved = {key: value for key, value in run.save().items() if key != "seconds"}
    return through_a_file([saved, run.best_tensors(), run.best_images(), run.last_images()])


class Looks(Objective):
    """Distance to the reference, that counts how often it asks for something to be kept."""

    weighs_region = True

    def __init__(self) -> None:
        self.made = 0
        self.forwards = 0

    def forward(self, view: View) -> Tensor:
        self.forwards += 1
        wanted = view.kept((id(self), "x"), lambda: self._features(view.of_reference()))
        return (view.image - wanted).square().mean((1, 2, 3))

    def _features(self, view: View) -> Tensor:
        self.made += 1
        return view.image
