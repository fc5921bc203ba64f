"""Generations of the engine's BasinCMA equal those of the released loop, number by number.

Whole generations are those of the embedded generator, which is trained: from step to step, the
gradients of a random one double what two orders of the same float64 sums differ by.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from basincma import (
    SymmetricNormals,
    embedded,
    make_released,
    random_biggan,
    same_problem,
)
from released_basincma import ReleasedBasinCMA, Settings

from invertkit.core.randomness import Randomness
from invertkit.engine.run import Run, StepReport
from invertkit.models.generators.generator import Generator
from invertkit.optimizers.population.cma_es import CmaEs

INNER, LAST, GENERATIONS, POPULATION = 3, 2, 2, 6
MADE = {"embedded": embedded, "biggan": lambda: random_biggan(32, 8, torch.float64)}


@dataclass
class Both:
    """The released loop and the engine on the same problem with the same draws."""

    loop: ReleasedBasinCMA
    run: Run
    told: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.steps: Iterator[StepReport] = self.run.steps()

    def next(self) -> StepReport:
        return next(self.steps)

    def assert_same_candidates(self) -> None:
        ours = self.run.save()["optimizer"]["candidates"].values()
        for rows, plain in zip(ours, (self.loop.latents, self.loop.embeddings), strict=True):
            assert_equal(rows, torch.stack(plain).detach())


def assert_equal(ours: Tensor, released: Tensor, atol: float = 1e-9) -> None:
    torch.testing.assert_close(ours, released, rtol=1e-9, atol=atol)


def make_both(
    which: str, monkeypatch: pytest.MonkeyPatch, told: Literal["sampled", "refined"] = "sampled"
) -> Both:
    with torch.random.fork_rng(devices=[]):
        # A start whose descents keep away from kinks of ReLU, where rounding decides which side.
        torch.manual_seed(7)
        plain, ours = MADE[which]()
        settings = Settings(
            inner_steps=INNER, last_steps=LAST, population=POPULATION, chunk=3, told=told
        )
        draws = Randomness((0,))

        def rows(generation: int) -> Tensor:
            shape = (POPULATION, ours.latents["latent"].numbers)
            return draws.normal("population", shape, step=generation * INNER)[0]

        normals = SymmetricNormals(rows)
        loop = make_released(
            plain,
            ours,
            settings,
            dtype=torch.float64,
            cma_options=normals.options(ours.latents["latent"].numbers),
        )
    normals.search = loop.search
    both = Both(loop, same_problem(loop, ours, generations=GENERATIONS))
    tell = CmaEs.tell

    def listen(outer: Any, search: Any, points: Tensor, losses: Tensor, **options: Any) -> None:
        both.told.append((points[0].clone(), losses[0].clone()))
        tell(outer, search, points, losses, **options)

    monkeypatch.setattr(CmaEs, "tell", listen)
    return both


@pytest.mark.parametrize("which", MADE)
def test_descent_equals_the_released_one(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    both = make_both(which, monkeypatch)
    loop = both.loop
    loop.populate(loop.search.ask())
    began = torch.stack(loop.latents).detach().clone()
    for _ in range(INNER - 1):
        losses = loop.descend()
        report = both.next()
        assert_equal(report.losses, losses.min().reshape(1))
        for candidate in loop.latents:  # the engine does so after a step, the loop before the next
            candidate.data.clamp_(-2, 2)
        both.assert_same_candidates()
    assert (torch.stack(loop.latents) - began).abs().amax(1).min() > 0.05, "nothing moved"


@pytest.mark.parametrize("told", ["sampled", "refined"])
def test_generations_equal_the_released_ones(
    told: Literal["sampled", "refined"], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = make_both("embedded", monkeypatch, told)
    loop = both.loop
    for generation in range(GENERATIONS):
        loop.generation()
        for _ in range(INNER):
            both.next()
        both.assert_same_candidates()
        points, losses = both.told[generation]
        assert_equal(losses, loop.losses)
        if told == "refined":
            assert_equal(points, torch.stack(loop.latents).detach())
        search = both.run.save()["optimizer"]["search"]
        assert_equal(search["mean"][0], torch.from_numpy(loop.search.mean))
        assert_equal(search["sigma"][0], torch.tensor(loop.search.sigma, dtype=torch.float64))
        assert_equal(search["C"][0], torch.from_numpy(loop.search.sm.C))
    assert len(both.told) == GENERATIONS


def test_last_descent_equals_the_released_one(monkeypatch: pytest.MonkeyPatch) -> None:
    both = make_both("embedded", monkeypatch)
    for _ in range(GENERATIONS):
        both.loop.generation()
    picture = both.loop.finish()
    for _ in range(GENERATIONS * INNER + LAST):
        both.next()
    both.assert_same_candidates()
    losses = both.loop.judge()
    assert both.run.best_losses()[0] <= losses.min() + 1e-9  # of all generations
    best = int(losses.argmin())
    candidates = both.run.save()["optimizer"]["candidates"]
    latents = {name: rows[best : best + 1] for name, rows in candidates.items()}
    images = both.run.problem.models["generator"].generate(**latents)
    assert_equal(images, (picture + 1) / 2)


@pytest.mark.parametrize("which", MADE)
def test_waste_is_there(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The released loop's weights gather gradients, also in the judging; the engine's do not."""
    both = make_both(which, monkeypatch)
    loop = both.loop
    loop.populate(loop.search.ask())
    loop.descend()
    asked = [w for n, w in loop.generator.named_parameters() if not n.startswith("embeddings")]
    assert all(weight.grad is not None for weight in asked)
    assert all(head.weight.grad is not None for head in loop.perceptual.heads)
    assert len(loop.optimizer.param_groups) == 2 * len(loop.latents)
    before = [weight.grad.clone() for weight in asked if weight.grad is not None]
    loop.descend()
    assert not any(
        torch.equal(weight.grad, then)
        for weight, then in zip(asked, before, strict=True)
        if weight.grad is not None
    )
    assert len(loop.tracked) == 2

    both.next()
    models: dict[str, Any] = dict(both.run.problem.models)
    weights = [w for model in models.values() for w in model.parameters()]
    assert not any(weight.requires_grad for weight in weights)


@pytest.mark.parametrize("which", MADE)
def test_plain_generator_makes_the_same_pictures(which: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: tuple[nn.Module, Generator] = MADE[which]()
        plain, ours = made[0].double().eval(), made[1].double()
        z = torch.randn(3, ours.latents["latent"].numbers).double()
    c = ours.tables["embedding"][:3]
    with torch.no_grad():
        pictures = plain(z, c)
        assert_equal(ours.generate(latent=z, embedding=c), pictures / 2 + 0.5, atol=1e-12)
    assert pictures.std(0).mean() > 0.01, "pictures do not differ"
