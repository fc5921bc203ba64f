"""What the tests share: tiny parts, seeded without touching the global generators."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from invertkit.core.images.inputs import Inputs
from invertkit.core.network import Network
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.core.view import View
from invertkit.engine.problem import Problem, Stage, Term
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.kitnet import KitNet
from invertkit.models.generators.conditional import ConditionalGenerator
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.latents import latent_and_class
from invertkit.models.perceptual.network import Part, PerceptualNet
from invertkit.objectives.base import Objective, evaluate
from invertkit.optimizers.base import Optimizer
from invertkit.optimizers.torch_optim import Adam
from invertkit.players.base import Player
from invertkit.players.critic import PatchCritic
from invertkit.players.segmenter import Segmenter
from invertkit.variables.base import Variable
from invertkit.variables.pixels import Pixels

KITNET = Path(__file__).parent / "networks" / "kitnet.safetensors"
"""A trained network of ten classes, small enough for runs within tests."""
SIZE = (16, 20)
LAYERS = ("stem", "layer1", "layer2", "layer3")
REGIONS = ("object", "background", "untouched", "vacated")


def uniform(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Uniform numbers in [0, 1)."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def tiny_classifier(dtype: torch.dtype = torch.float64, *, seed: int = 0) -> Classifier:
    """A KitNet whose batch norms hold statistics that no default would give."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = KitNet(5, widths=(4, 4, 8, 8))
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.3, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
    classifier = Classifier(
        net,
        classes=("ant", "bee", "cat", "dog", "eel"),
        description="a tiny network",
        default_layers=LAYERS,
    )
    return classifier.to(dtype)


def tiny_perceptual(dtype: torch.dtype = torch.float64) -> PerceptualNet:
    """The layers of the tiny classifier, with heads that differ from channel to channel."""
    classifier = tiny_classifier(dtype)
    sizes = zip(LAYERS, (4, 4, 8, 8), (2, 2, 4, 8), strict=True)
    parts = [
        Part(layer, classifier.layer(layer), uniform(width, seed=width, dtype=dtype), smallest)
        for layer, width, smallest in sizes
    ]
    return PerceptualNet(parts, description="a tiny perceptual network")


def tiny_models(dtype: torch.dtype = torch.float64) -> dict[str, Network]:
    """Networks under the names that objectives ask for by default."""
    return {
        "classifier": tiny_classifier(dtype),
        "perceptual": tiny_perceptual(dtype),
        "student": tiny_classifier(dtype, seed=1),
        "verifier": tiny_classifier(dtype, seed=2),
    }


def rectangle(size: tuple[int, int], rows: slice, columns: slice, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(1, 1, *size, dtype=dtype)
    mask[:, :, rows, columns] = 1
    return mask


def make_scene(
    size: tuple[int, int] = SIZE,
    *,
    dtype: torch.dtype = torch.float64,
    masks: bool = True,
    reference: bool = True,
) -> Scene:
    """A photograph of noise; its object overlaps the target without equalling it."""
    h, w = size
    mask = rectangle(size, slice(h // 4, 3 * h // 4), slice(w // 10, w // 2), dtype)
    target = rectangle(size, slice(h // 3, 5 * h // 6), slice(w // 3, 9 * w // 10), dtype)
    return scene_of(
        size,
        uniform(1, 3, h, w, seed=99, dtype=dtype) if reference else None,
        mask if masks else None,
        target if masks else None,
    )


def scene_of(
    size: tuple[int, int],
    image: Tensor | None = None,
    mask: Tensor | None = None,
    target: Tensor | None = None,
    **more: Any,
) -> Scene:
    """A scene of a photograph and its masks."""
    given = Inputs.of({"image": image, "mask": mask, "target": target})
    return Scene(size, given, **more)


def with_inputs(scene: Scene, **inputs: Tensor | None) -> Scene:
    """The scene with other inputs; None takes one away."""
    return replace(scene, inputs=Inputs.of({**scene.inputs, **inputs}))


def tiny_generator(*, size: int = 8, classes: int = 3) -> Generator:
    """Pictures of `size` pixels, a power of two, from five numbers and a class."""
    torch.manual_seed(0)
    widths = (8,) * (size // 4).bit_length()
    net = ConditionalGenerator(classes, latent=5, embedding=4, widths=widths, class_at_start=True)
    return Generator(
        net,
        latents=latent_and_class(5),
        size=size,
        description="a tiny generator",
        feature_layer="gen_z",
    )


def tiny_critic(**options: Any) -> PatchCritic:
    """Patches of 5×5."""
    return PatchCritic(**{"kernels": (3, 3, 1), "strides": (1, 2, 1), "widths": (4, 4)} | options)


def tiny_segmenter(**options: Any) -> Segmenter:
    return Segmenter(**{"width": 4, "when": "during", "updates": 3} | options)


def networks(player: Player) -> list[nn.Module]:
    """Every network that a player holds."""
    held = [x for v in vars(player).values() for x in (v if isinstance(v, list) else [v])]
    return [value for value in held if isinstance(value, nn.Module)]


def setting(
    objective: Objective,
    scene: Scene | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    region: str = "everywhere",
    seeds: Sequence[int] = (0,),
    models: dict[str, Any] | None = None,
) -> Scene:
    """The scene with all that the objective needs; the objective prepared, as the engine does."""
    scene = make_scene(dtype=dtype) if scene is None else scene
    models = tiny_models(dtype) if models is None else models
    made: dict[str, Callable[[], Player]] = {"critic": tiny_critic, "segmenter": tiny_segmenter}
    players = {name: made[name]() for name in objective.players()}
    for name, player in players.items():
        player.begin(scene, Randomness(tuple(seeds)), purpose=f"players/{name}")
        for network in networks(player):
            network.to(dtype)
    scene = replace(scene, models=models, players=players, needs=objective.needs(models))
    reference = None
    if scene.reference is not None:
        look = View(scene.reference, scene, Randomness((0,)), is_reference=True)
        reference = look.within(region)
    with torch.no_grad():
        objective.prepare(reference)
    return scene


def score(
    objective: Objective,
    scene: Scene,
    images: Tensor,
    *,
    seeds: Sequence[int] | None = None,
    region: str = "everywhere",
    step: int = 0,
) -> Tensor:
    """The objective's values, as the engine would ask for them."""
    seeds = tuple(range(len(images))) if seeds is None else tuple(seeds)
    view = View(images, scene, Randomness(seeds), step, tensors={"pixels": images})
    return evaluate(objective, view, region)


def gradient(value: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Of the summed values with respect to the images."""
    images = images.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(images).sum(), images)
    return slope


def gradcheck(value: Callable[[Tensor], Tensor], images: Tensor) -> None:
    """Against finite differences, along random directions."""
    assert images.dtype == torch.float64
    images = images.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(value, images, fast_mode=True, atol=1e-6)


def through_a_file(saved: Any) -> Any:
    """What a checkpoint gives back: data only, sharing no memory with what was saved."""
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def copied(saved: Any) -> Any:
    """What was saved, sharing no memory with it; quicker than `through_a_file`."""
    if isinstance(saved, Tensor):
        return saved.detach().clone()
    if isinstance(saved, dict):
        return {key: copied(value) for key, value in saved.items()}
    if isinstance(saved, list | tuple):
        return [copied(value) for value in saved]
    return saved


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@contextmanager
def global_generators_unmoved() -> Iterator[None]:
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    yield
    assert torch.equal(before[0], torch.get_rng_state())
    assert all(np.array_equal(a, b) for a, b in zip(before[1], np.random.get_state(), strict=True))
    assert before[2] == random.getstate()


def make_problem(
    *terms: Term,
    variable: Variable | None = None,
    optimizer: Optimizer | None = None,
    players: dict[str, Player] | None = None,
    stages: Iterable[tuple[tuple[int, int], int]] = ((SIZE, 4),),
    seeds: tuple[int, ...] = (0,),
    models: dict[str, Any] | None = None,
    scene: Callable[[tuple[int, int]], Scene] | None = None,
) -> Problem:
    """A run of float32 pixels."""
    return Problem(
        scene=scene or (lambda size: make_scene(size, dtype=torch.float32)),
        models={"classifier": tiny_classifier(torch.float32)} if models is None else models,
        variable=variable or Pixels(noise=0.3),
        terms=terms,
        optimizer=optimizer or Adam(lr=0.05),
        players=players or {},
        stages=[Stage(size, steps) for size, steps in stages],
        seeds=seeds,
    )
