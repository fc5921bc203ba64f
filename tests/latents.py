"""What tests of generators share: float64 all through, so that equality can be claimed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.core.view import View
from invertkit.engine.problem import Problem, Stage, Term
from invertkit.engine.run import Run
from invertkit.models.generators.conditional import ConditionalEncoder
from invertkit.models.generators.encoder import Encoder
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.latents import ClassEmbedding, LatentSpec, latent_and_class
from invertkit.models.generators.zeta import AuxiliaryNetworks, ZetaShape, ZetaSpace
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
NAMES = ("cat", "dog", "eel")
SEEDS = (3, 5, 8)
WIDE = 1 << 40
"""Bytes that hold everything at once."""


def generator64(*, size: int = 8, classes: int = 3, names: Sequence[str] = ()) -> Generator:
    """A tiny generator whose pictures differ, in float64; the global generator stays."""
    with torch.random.fork_rng(devices=[]):
        made = tiny_generator(size=size, classes=classes)
    net = made.net
    for weight in net.parameters():
        weight.mul_(1.5)
    named = Generator(
        net,
        latents=latent_and_class(5, names=names),
        size=size,
        description="a tiny generator",
        feature_layer="gen_z",
    )
    return named.double()


class StyleNet(nn.Module):
    """Three styles, one an octave, with a map of noise and a kind: a W+ generator in small."""

    def __init__(self) -> None:
        super().__init__()
        self.tint = nn.Linear(6, 3)
        self.kind = nn.Linear(2, 3)
        coarse = torch.randn(18, 3, 3, 3).flatten(0, 1)[None]
        smooth = nn.functional.interpolate(coarse, (8, 8), mode="bicubic")
        self.basis = nn.Parameter(smooth.reshape(3, 6, 3, 8, 8))

    def forward(self, w: Tensor, noise: Tensor, kind: Tensor) -> Tensor:
        shapes = torch.einsum("bld,ldchw->bchw", w, self.basis)
        colours = (self.tint(w).mean(1) + self.kind(kind))[:, :, None, None]
        return torch.tanh(0.3 * (shapes + colours + 0.2 * noise))


def style_generator(
    *, mean: float | Tensor = 0.1, table: Tensor | None = None, noise: float = 1.0
) -> Generator:
    """Three latents of other shapes, one of them a class embedding; in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = StyleNet().double()
    kinds = torch.tensor([[1.0, 0.0], [-0.5, 0.8]]) if table is None else table
    return Generator(
        net,
        latents={
            "w": LatentSpec((3, 6), mean=mean, deviation=0.5),
            "noise": LatentSpec((1, 8, 8), deviation=noise, limit=3.0),
            "kind": ClassEmbedding(kinds, ("round", "square")),
        },
        description="a tiny style generator",
    )


def plain_generator(*, size: int = 8) -> Generator:
    """A module from five numbers to a picture, wrapped with nothing but that length; in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(5, 3 * size * size), nn.Tanh(), nn.Unflatten(1, (3, size, size))
        )
    return Generator(net.double(), latents={"z": 5}, description="a plain generator")


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


def encoder64(latent: int = 5) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = ConditionalEncoder(latent=latent, embedding=4, widths=(8, 8, 8))
    return Encoder(
        net, gives="latent", takes="embedding", size=32, description="a tiny encoder"
    ).double()


def zeta_space(latent: int = 5, *, named: str = "latent") -> ZetaSpace:
    """Auxiliary networks of few numbers whose slopes and biases no default would give."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        networks = AuxiliaryNetworks(ZetaShape(latent, zeta=9, hidden=7))
        for name, value in networks.named_parameters():
            if name.endswith("bias") or "slopes" in name:
                value.data.uniform_(0.1, 0.5)
    return ZetaSpace(networks, latent=named, description="a tiny auxiliary space").double()


def begun(variable: Variable, scene: Scene | None = None, seeds: Any = SEEDS) -> Params:
    at = latent_scene() if scene is None else scene
    return variable.bind(at.models).start(at, Randomness(tuple(seeds)))


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
