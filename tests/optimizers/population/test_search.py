"""Laws of every population search, alone and with a descent inside."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from invertkit.core.params import Params
from invertkit.engine.problem import Status, Term
from invertkit.engine.run import Run
from invertkit.errors import RecipeError
from invertkit.objectives.asked_players import CriticScore
from invertkit.objectives.priors import Norm
from invertkit.optimizers.base import Optimizer
from invertkit.optimizers.population import search as population_search
from invertkit.optimizers.population.basin import BasinCMA, cma_adam
from invertkit.optimizers.population.cma_es import CmaEs
from invertkit.optimizers.torch_optim import Adam, TorchOptimizer
from invertkit.variables.transformed import Transformed
from tests.helpers import make_problem, same, through_a_file, tiny_critic
from tests.latents import finished, latent_problem, latents
from tests.optimizers.population.valley import TOLD, Valley

KINDS: dict[str, Callable[[], Optimizer]] = {
    "cma": lambda: CmaEs(over=("z",), sigma=0.5),
    "pycma": lambda: CmaEs(over=("z",), sigma=0.5, library="pycma"),
    "basin": lambda: BasinCMA(
        outer=CmaEs(over=("z",), sigma=0.5), inner=Adam(lr=0.05), inner_steps=3, last_steps=4
    ),
    "basin pycma": lambda: BasinCMA(
        outer=CmaEs(over=("z",), sigma=0.5, library="pycma"),
        inner=TorchOptimizer("SGD", lr=0.01, options={"momentum": 0.9}),
        inner_steps=3,
        last_steps=4,
        told="sampled",
        result="mean",
    ),
    "everything": lambda: BasinCMA(outer=CmaEs(), inner=Adam(lr=0.05), inner_steps=2),
    "cma adam": lambda: cma_adam(outer=CmaEs(), inner=Adam(lr=0.05, over=("c",)), last_steps=4),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_searched_alike_alone_and_in_company(kind: str) -> None:
    together, alone = Valley(3), Valley(1, seeds=[5])
    assert torch.equal(together.goal[1:2], alone.goal)
    for valley in (together, alone):
        valley.go(KINDS[kind](), 10)
    for name, many in together.params.items():
        torch.testing.assert_close(many[1:2], alone.params[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_saved_at_any_step_goes_on_bit_for_bit(kind: str) -> None:
    optimizer, whole = KINDS[kind](), Valley()
    held, saved = optimizer.init(whole.params), []
    losses: list[Tensor] = []
    for step in range(10):
        params = {name: param.detach().clone() for name, param in whole.params.items()}
        saved.append(through_a_file([optimizer.save(held), params]))
        losses += whole.go(optimizer, 10, start=step, stop=step + 1, held=held)[1]
    optimizer.finish(whole.params, held)
    for step, (search, params) in enumerate(saved):
        valley = Valley()
        valley.params = {n: param.clone().requires_grad_() for n, param in params.items()}
        loaded = KINDS[kind]().load(valley.params, search)
        _, rest = valley.go(KINDS[kind](), 10, start=step, held=loaded)
        assert same(rest, losses[step:])
        assert same(valley.params, whole.params)


class Broken(Valley):
    """Not a number in a half-space, for the first image or for all."""

    value = math.nan

    def __init__(self, where: float, *, images: int = 2, first_only: bool = False) -> None:
        super().__init__(images)
        self.where, self.first_only = where, first_only

    def losses(self, points: Params) -> Tensor:
        losses, z = super().losses(points), points["z"]
        bad = z.flatten(1)[:, 0] > self.where
        if self.first_only:
            bad &= torch.arange(len(z)) < len(z) // self.images
        return losses * torch.where(bad, self.value, 1.0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_candidate_that_is_not_a_number_ranks_last_and_poisons_nobody(value: float) -> None:
    found = []
    for bad in (value, 0.0):
        valley = Broken(0.3)
        valley.value = bad
        if bad == 0:  # the same losses, but for a number that is worse than all others
            valley.losses = lambda points, plain=valley: _worst(plain, points)  # type: ignore[method-assign]
        held, losses = valley.go(CmaEs(over=("z",), sigma=1.0), 8)
        assert all(loss.isfinite().all() for loss in losses)
        found.append([losses, held.search.save(), [p.detach() for p in valley.params.values()]])
    assert same(*found)


def _worst(valley: Broken, points: Params) -> Tensor:
    bad = points["z"].flatten(1)[:, 0] > valley.where
    return torch.where(bad, 1e30, Valley.losses(valley, points))


@pytest.mark.parametrize("told", TOLD)
def test_a_candidate_that_descends_into_nothing_leaves_the_others_alone(told: Any) -> None:
    optimizer = BasinCMA(
        outer=CmaEs(over=("z",), sigma=1.0), inner=Adam(lr=0.1), inner_steps=3, told=told
    )
    broken, whole = Broken(0.3), Valley()
    held, losses = broken.go(optimizer, 3, finish=False, stop=3)
    candidates = whole.go(optimizer, 3, finish=False, stop=3)[0].candidates
    lost = ~held.candidates["z"].flatten(1).isfinite().all(1)
    assert lost.any()
    assert not lost.all()
    for name, mine in held.candidates.items():
        torch.testing.assert_close(mine[~lost], candidates[name][~lost], rtol=1e-12, atol=1e-12)
    held, losses = broken.go(optimizer, 30)
    assert held.search.mean.isfinite().all()
    assert held.search.C.isfinite().all()
    assert all(param.isfinite().all() for param in broken.params.values())
    assert all(loss.isfinite().all() for loss in losses)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_where_no_candidate_is_a_number_the_loss_says_so_and_the_place_is_kept(
    value: float,
) -> None:
    broken, whole = Broken(-math.inf, first_only=True), Valley()
    broken.value = value
    _, losses = broken.go(CmaEs(over=("z",)), 3)
    whole.go(CmaEs(over=("z",)), 3)
    assert losses[0][0] == math.inf
    assert losses[0][1].isfinite()
    assert torch.equal(broken.params["z"][0], broken.start["z"][0])
    assert torch.equal(broken.params["z"][1], whole.params["z"][1])


@pytest.mark.parametrize("optimizer", [CmaEs(), BasinCMA(CmaEs(), Adam(), inner_steps=2)])
def test_players_and_a_population_do_not_go_together(optimizer: Optimizer) -> None:
    critic = {"critic": tiny_critic()}
    with pytest.raises(RecipeError, match="critic would learn from one picture of each image"):
        Run(make_problem(Term(CriticScore(), name="critic"), players=critic, optimizer=optimizer))
    Run(
        make_problem(Term(Norm(), name="norm"), players=critic, optimizer=optimizer)
    )  # it is not asked


def test_a_search_of_too_many_numbers_is_refused_before_memory_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = (40, 40)
    problem = make_problem(Term(Norm(), name="norm"), optimizer=CmaEs(), stages=[(size, 2)])
    with pytest.raises(RecipeError, match=r"pixels would search 4,800 numbers at once"):
        finished(problem)
    monkeypatch.setattr(population_search, "LARGEST", 2 * 3 * 4 * 5)
    small = replace(problem, stages=[replace(problem.stages[0], size=(4, 5))], seeds=(0, 1))
    assert finished(small).status is Status.FINISHED


def test_a_search_of_nothing_is_refused() -> None:
    still = Transformed(inner=latents(), spatial="none")
    with pytest.raises(RecipeError, match="over: there are no numbers to search"):
        finished(latent_problem((2, CmaEs(over=("transform",))), variable=still))
