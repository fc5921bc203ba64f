"""BasinCMA set up twice: the released loop, and the engine on the same problem."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from math import exp
from typing import Any

import torch
from measuring import ENGINE, Call, Contest
from plain_generators import Attention, BigGAN, Conditional, ConditionalNorm, PlainNorm
from released_basincma import Perceptual, ReleasedBasinCMA, Settings
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.core.images.inputs import Inputs
from invertkit.core.scene import Scene
from invertkit.engine.problem import Problem, Stage, Term
from invertkit.engine.run import Run
from invertkit.models.generators.biggan.config import BigGANConfig
from invertkit.models.generators.biggan.network import BigGANDeep
from invertkit.models.generators.conditional import ConditionalGenerator
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.latents import latent_and_class
from invertkit.models.generators.open import embedded_generator
from invertkit.models.perceptual.lpips import lpips
from invertkit.models.perceptual.network import PerceptualNet
from invertkit.objectives.lpips import LPIPS
from invertkit.objectives.reference import PixelDistance
from invertkit.optimizers.population.basin import BasinCMA
from invertkit.optimizers.population.cma import CMA
from invertkit.optimizers.population.cma_es import CmaEs
from invertkit.optimizers.torch_optim import Adam
from invertkit.variables.latent import Latent

LABEL = 1
_LONG = 1_000  # generations or steps: more than anybody measures


def chunk_of(population: int, largest: int = 9) -> int:
    """Candidates in a chunk: at most nine as released, and all chunks alike."""
    return max(n for n in range(1, min(largest, population) + 1) if population % n == 0)


def embedded() -> tuple[nn.Module, Generator]:
    """The embedded generator, plainly and as the engine has it."""
    ours = embedded_generator()
    assert isinstance(ours.net, ConditionalGenerator)
    plain = Conditional(
        classes=len(ours.classes),
        latent=ours.latents["latent"].numbers,
        embedding=ours.tables["embedding"].shape[1],
        widths=ours.net.widths,
    )
    plain.load_state_dict(ours.net.state_dict())
    return plain, ours


def random_biggan(
    size: int, width: int, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, Generator]:
    """A BigGAN-deep of the published shape with other widths and random weights, likewise."""
    published = BigGANConfig.of(max(size, 128))
    layers = published.layers[: 2 * int(size / 4).bit_length() - 2]
    attention = min(published.attention, len(layers) - 1)
    config = BigGANConfig(layers=layers, attention=attention, channel_width=width)
    plain = BigGAN(layers, attention=attention, unit=width)
    for module in plain.modules():
        if isinstance(module, PlainNorm | ConditionalNorm):
            module.running_means.normal_(0, 0.1)
            module.running_vars.uniform_(0.1, 0.5)
        if isinstance(module, Attention):
            nn.init.constant_(module.gamma, 0.5)
    net = BigGANDeep(config).to(dtype)
    net.load_state_dict(plain.to(dtype).state_dict())  # the norms are folded in this precision
    return plain, Generator(net, latents=latent_and_class(config.latent), size=config.resolution)


def make_released(
    plain: nn.Module,
    generator: Generator,
    settings: Settings,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
    cma_options: dict[str, Any] | None = None,
) -> ReleasedBasinCMA:
    """The released loop on a smooth picture with a square object, from a random start."""
    size = generator.size
    picture = F.interpolate(torch.rand(1, 3, 4, 4), (size, size), mode="bicubic").clamp(0, 1)
    mask = torch.zeros(3, size, size)
    mask[:, size // 4 : 3 * size // 4, size // 8 : 3 * size // 4] = 1
    net = lpips(features="embedded")
    perceptual = Perceptual(
        copy.deepcopy(list(net.trunk)),
        [net.heads[name] for name in net.default_layers],
        mean=net.mean,
        std=net.std,
    )
    return ReleasedBasinCMA(
        generator=plain.to(device, dtype),
        perceptual=perceptual.to(device, dtype),
        target=(2 * picture[0] - 1).to(device, dtype),
        mask=mask.to(device, dtype),
        embedding=generator.tables["embedding"][LABEL].to(device, dtype),
        latent=generator.latents["latent"].numbers,
        settings=settings,
        cma_options=cma_options or {},
    )


def same_problem(
    loop: ReleasedBasinCMA,
    generator: Generator,
    *,
    generations: int,
    seeds: tuple[int, ...] = (0,),
    memory: float = 8.0,
    **options: Any,
) -> Run:
    """The engine on what `loop` is solving, with the same number of candidates.

    The released loop averages the losses of a chunk, and Adam's `eps` has to follow.

    Args:
        loop: Not yet begun.
        generator: The engine's.
        generations: How many; the last steps come after them.
        seeds: One for each search.
        memory: GiB that one backward may save; a recipe's default.
        options: Of `Run`.
    """
    numbers, like = loop.settings, loop.target
    generator = copy.deepcopy(generator).to(like.device, like.dtype)
    mask = loop.mask[None, :1]
    scene = Scene(
        size=(generator.size, generator.size),
        inputs=Inputs.of({"image": (loop.target[None] + 1) / 2, "mask": mask}),
    )
    perceptual: PerceptualNet = lpips(features="embedded").to(like.device, like.dtype)
    rates = {"embedding": numbers.embedding_lr / numbers.lr}
    population = CMA(numbers.population).size(generator.latents["latent"].numbers)
    eps = 1e-8 * chunk_of(population, numbers.chunk)
    optimizer = BasinCMA(
        outer=CmaEs(
            over=("latent",), sigma=numbers.sigma, mean="zero", population=numbers.population
        ),
        inner=Adam(lr=numbers.lr, eps=eps, over=("latent", "embedding"), rates=rates),
        inner_steps=numbers.inner_steps,
        last_steps=numbers.last_steps,
        told=numbers.told,
    )
    steps = generations * numbers.inner_steps + numbers.last_steps
    weighed: dict[str, Any] = {"outside": numbers.outside}
    return Run(
        Problem(
            scene=lambda _size: scene,
            models={"generator": generator, "perceptual": perceptual},
            variable=Latent(embedding="given", label=LABEL, limit=numbers.limit, beyond="wrap"),
            terms=[
                Term(
                    PixelDistance(form="l1", **weighed), name="pixels", weight=2.0, region="object"
                ),
                Term(
                    LPIPS(mask="maps", **weighed),
                    name="perceptual",
                    weight=numbers.beta,
                    region="object",
                ),
            ],
            optimizer=optimizer,
            players={},
            stages=[Stage(scene.size, steps)],
            seeds=seeds,
            device=like.device,
            memory=int(memory * 2**30),
        ),
        **options,
    )


class SymmetricNormals:
    """Normal numbers for `cma` from outside, in the axes in which invertkit draws.

    `cma` multiplies what it is given by its eigenvectors and lengths; invertkit by the symmetric
    root of the covariance. Given rows times the eigenvectors, both draw the same points.

    Args:
        rows: `(candidates, dimension)` numbers of a generation, counted from 0.
    """

    def __init__(self, rows: Callable[[int], Tensor]) -> None:
        self.rows, self.generation = rows, 0
        self.search: Any = None

    def __call__(self, _count: int, _dimension: int) -> Any:
        rows = self.rows(self.generation).double().numpy()
        self.generation += 1
        return rows @ self.search.sm.B

    def options(self, dimension: int) -> dict[str, Any]:
        """For `cma`: these numbers, no generator, and a first covariance that is round."""
        spread = [exp(-0.5e-4 / dimension * i) for i in range(dimension)]
        return {"randn": self, "seed": float("nan"), "CMA_teststds": spread}


def contest(
    made: tuple[nn.Module, Generator],
    *,
    inner_steps: int,
    memory: float,
    phase: str,
    batch: int,
    device: torch.device,
    options: dict[str, Any],
) -> Contest:
    """`generation`: a step, with its share of drawing, judging and telling; `descent`: a bare one.

    A batch is one search after the other in the released loop, and side by side in the engine.
    """
    plain, generator = made
    whole, seeds = phase == "generation", tuple(range(batch))
    population = CMA().size(generator.latents["latent"].numbers)
    settings = Settings(
        inner_steps=inner_steps,
        last_steps=0 if whole else _LONG,
        chunk=chunk_of(population),
    )
    loops = [make_released(plain, generator, settings, device=device) for _ in seeds]
    unit = inner_steps if whole else 1

    def engine(**options: Any) -> Call:
        generations = _LONG if whole else 0
        run = same_problem(
            loops[0], generator, generations=generations, seeds=seeds, memory=memory, **options
        )
        return partial(_take, run.steps(), unit)

    if not whole:
        for loop in loops:
            loop.populate(loop.search.ask())
    timed = engine(**options)
    return Contest(
        "basincma",
        f"{phase}: {population} of {generator.size}×{generator.size}",
        partial(_each, [loop.generation if whole else loop.descend for loop in loops]),
        {ENGINE: timed},
        {ENGINE: engine() if options else timed},
        unit=unit,
    )


def _take(steps: Iterator[Any], count: int) -> None:
    for _ in range(count):
        next(steps)


def _each(calls: list[Call]) -> None:
    for call in calls:
        call()
