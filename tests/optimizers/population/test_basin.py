from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from invertkit.engine.problem import Status, Term
from invertkit.engine.run import Run
from invertkit.errors import RecipeError
from invertkit.objectives.patches.sliced import PatchSWD
from invertkit.optimizers.base import Optimizer
from invertkit.optimizers.population.basin import BasinCMA, cma_adam
from invertkit.optimizers.population.cma_es import CmaEs
from invertkit.optimizers.torch_optim import LBFGS, Adam, TorchOptimizer
from invertkit.optimizers.wrappers import Clip, KeepBest
from invertkit.variables.transformed import Transformed
from tests.helpers import same
from tests.latents import finished, latent_problem, latents
from tests.optimizers.population.valley import LIMIT, TOLD, ByHand, Valley


@settings(max_examples=8)
@given(
    inner_steps=st.integers(0, 3),
    last_steps=st.integers(0, 4),
    generations=st.integers(0, 3),
    told=st.sampled_from(TOLD),
    limit=st.sampled_from([math.inf, LIMIT]),
    cut=st.sampled_from([True, False]),
)
def test_basin_cma_is_the_plain_loop_of_its_parts_bit_for_bit(
    inner_steps: int, last_steps: int, generations: int, told: Any, limit: float, cut: Any
) -> None:
    """CMA alone, CMA and then Adam, Adam from one population, and all between."""
    total = generations * max(1, inner_steps) + last_steps
    if not total:
        return
    outer = CmaEs(over=("z",), sigma=0.8, clip_injected=cut)
    optimizer = BasinCMA(
        outer=outer, inner=Adam(lr=0.05), inner_steps=inner_steps, last_steps=last_steps, told=told
    )
    optimizer.check(total)
    valley = Valley()
    held, losses = valley.go(optimizer, total, limit=limit)
    hand = ByHand(Valley(), outer, 0.05, inner_steps, last_steps, told, limit)
    wanted = hand.run(generations)
    assert same([param.detach() for param in valley.params.values()], wanted)
    assert held.search.generation == generations
    assert torch.equal(held.search.mean, hand.search.mean)
    assert torch.equal(held.search.C, hand.search.C)
    assert len(losses) == total


def test_without_a_descent_it_is_cma_alone_bit_for_bit() -> None:
    outer = CmaEs(over=("z",), sigma=0.8)
    basin = BasinCMA(outer=outer, inner=Adam(), inner_steps=0, last_steps=0)
    found = []
    for optimizer in (outer, basin):
        valley = Valley()
        held, losses = valley.go(optimizer, 6)
        found.append([losses, held.search.save(), [p.detach() for p in valley.params.values()]])
    assert same(*found)
    assert torch.equal(found[0][2][1], Valley().start["c"])  # what is not searched stays


@pytest.mark.parametrize("result", ["best", "mean"])
def test_without_generations_and_with_no_spread_it_is_the_inner_optimizer(result: Any) -> None:
    outer = CmaEs(over=("z",), sigma=1e-13)
    optimizer = BasinCMA(outer=outer, inner=Adam(lr=0.05, over=("z",)), last_steps=9, result=result)
    valley, plain = Valley(), Valley()
    valley.go(optimizer, 9)
    adam = Adam(lr=0.05, over=("z",))
    plain.go(adam, 9)
    wanted = plain.params["z"].detach() if result == "best" else plain.start["z"]
    torch.testing.assert_close(valley.params["z"].detach(), wanted, rtol=0, atol=1e-9)
    assert torch.equal(valley.params["c"], plain.params["c"])


def test_cma_adam_is_cma_and_then_adam_from_its_last_population() -> None:
    outer = CmaEs(over=("z",), sigma=0.8)
    both, alone = Valley(), Valley()
    held, losses = both.go(cma_adam(outer=outer, inner=Adam(lr=0.05), last_steps=7), 12)
    search, first = alone.go(outer, 5, finish=False)
    assert torch.equal(held.search.mean, search.search.mean)  # the last population tells nothing
    assert held.search.generation == 5
    for mine, other in zip(losses, first, strict=False):
        assert torch.equal(mine, other)
    assert (both.losses(both.params) < alone.losses(alone.params)).all()


def test_with_a_rate_of_zero_refined_points_are_the_sampled_ones() -> None:
    found = []
    for told in TOLD:
        outer = CmaEs(over=("z",), sigma=0.8, clip_injected=False)
        inner = Adam(lr=0.0)
        optimizer = BasinCMA(outer=outer, inner=inner, inner_steps=2, last_steps=2, told=told)
        valley = Valley()
        held, losses = valley.go(optimizer, 12)
        found.append([losses, held.search.save(), [p.detach() for p in valley.params.values()]])
    assert same(*found)


def test_with_a_rate_the_search_learns_another_thing_from_each() -> None:
    means = []
    for told in TOLD:
        outer = CmaEs(over=("z",), sigma=0.8)
        optimizer = BasinCMA(outer=outer, inner=Adam(lr=0.1), inner_steps=3, told=told)
        held, _ = Valley().go(optimizer, 6)
        means.append(held.search.mean)
    assert not torch.allclose(*means)


@given(inner_steps=st.integers(0, 6), last_steps=st.integers(0, 9), steps=st.integers(0, 40))
def test_lengths_that_do_not_fit_are_refused_with_one_that_does(
    inner_steps: int, last_steps: int, steps: int
) -> None:
    optimizer = BasinCMA(
        outer=CmaEs(), inner=Adam(), inner_steps=inner_steps, last_steps=last_steps
    )
    each = max(1, inner_steps)
    fits = steps >= last_steps and (steps - last_steps) % each == 0
    if fits:
        optimizer.check(steps)
        return
    with pytest.raises(RecipeError, match=f"^optimizer: {steps} steps of this stage") as raised:
        optimizer.check(steps)
    found = re.search(r"take (\d+)\.$", str(raised.value))
    assert found is not None
    better = int(found[1])
    optimizer.check(better)
    assert better > last_steps
    assert abs(better - steps) <= max(each, last_steps - steps + each)
    KeepBest(Adam()).check(steps)
    with pytest.raises(RecipeError):
        Clip(optimizer).check(steps)


def test_the_mean_of_the_search_is_handed_on_where_asked() -> None:
    options: dict[str, Any] = {"outer": CmaEs(over=("z",)), "inner": Adam(), "inner_steps": 2}
    best, mean = Valley(), Valley()
    best.go(BasinCMA(**options), 8)
    held, _ = mean.go(BasinCMA(**options, result="mean"), 8)
    assert torch.equal(mean.params["z"].flatten(1), held.search.mean)
    assert torch.equal(mean.params["c"], best.params["c"])  # of the best, as it is not searched
    assert not torch.equal(mean.params["z"], best.params["z"])


@pytest.mark.parametrize("told", TOLD)
def test_the_run_stands_at_the_best_of_everything_that_was_judged(told: Any) -> None:
    outer = CmaEs(over=("z",), sigma=2.0)
    optimizer = BasinCMA(outer=outer, inner=Adam(lr=0.3), inner_steps=2, last_steps=3, told=told)
    valley = Valley()
    held, _ = valley.go(optimizer, 11)
    hand = ByHand(Valley(), outer, 0.3, 2, 3, told)
    hand.run(4)
    lowest = torch.cat(hand.judged, 1).amin(1)
    assert torch.equal(valley.losses(valley.params).detach(), lowest)
    assert torch.equal(held.record, lowest)


@given(
    inner_steps=st.integers(0, 3),
    last_steps=st.integers(0, 3),
    sigma=st.floats(0.1, 5.0),
    result=st.sampled_from(["best", "mean"]),
)
def test_no_candidate_is_ever_seen_outside_the_limit(
    inner_steps: int, last_steps: int, sigma: float, result: Any
) -> None:
    optimizer = BasinCMA(
        outer=CmaEs(over=("z",), sigma=sigma), inner=Adam(lr=1.0), inner_steps=inner_steps,
        last_steps=last_steps, result=result,
    )  # fmt: skip
    valley, total = Valley(), 3 * max(1, inner_steps) + last_steps
    held = None
    for step in range(total):
        held, _ = valley.go(optimizer, total, start=step, stop=step + 1, held=held, limit=LIMIT)
        assert held.candidates["z"].abs().max() <= LIMIT
        assert valley.params["z"].abs().max() <= LIMIT
    assert valley.largest <= LIMIT


def test_an_inner_optimizer_has_its_last_word_before_its_candidates_are_judged() -> None:
    """Steps far too long: only the first point of each candidate is any good."""
    outer = CmaEs(over=("z",), sigma=0.5)
    inner = Adam(lr=50.0)
    plain, kept = Valley(), Valley()
    plain.go(BasinCMA(outer=outer, inner=inner, inner_steps=3), 6)
    kept.go(BasinCMA(outer=outer, inner=KeepBest(inner), inner_steps=3), 6)
    assert (kept.losses(kept.params) < 40).all()
    assert (plain.losses(plain.params) > 40).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BasinCMA(outer=Adam(), inner=Adam()), "outer: expected a population search"),
        (lambda: BasinCMA(outer=BasinCMA(CmaEs(), Adam()), inner=Adam()), "outer: expected"),
        (lambda: BasinCMA(outer=CmaEs(), inner=LBFGS()), "inner: LBFGS mixes the images"),
        (lambda: BasinCMA(CmaEs(), TorchOptimizer("Adafactor")), "inner: TorchOptimizer mixes"),
        (lambda: BasinCMA(CmaEs(), KeepBest(LBFGS())), "inner: KeepBest mixes the images"),
        (lambda: BasinCMA(CmaEs(), CmaEs()), "inner: CmaEs draws a population itself"),
        (lambda: BasinCMA(CmaEs(), BasinCMA(CmaEs(), Adam())), "inner: BasinCMA draws a pop"),
        (lambda: BasinCMA(CmaEs(), Clip(CmaEs())), "inner: Clip draws a population itself"),
        (lambda: KeepBest(CmaEs()), "inner: CmaEs hands on the best candidate"),
        (lambda: KeepBest(Clip(BasinCMA(CmaEs(), Adam()))), "inner: Clip hands on the best"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(
    make: Callable[[], object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        make()


@pytest.mark.parametrize(
    "optimizer",
    [
        CmaEs(over=("zed",)),
        Adam(over=("z", "zed")),
        Adam(rates={"zed": 2.0}),
        TorchOptimizer("SGD", over=("zed",)),
        LBFGS(over=("zed",)),
        KeepBest(Adam(over=("zed",))),
        BasinCMA(CmaEs(over=("zed",)), Adam()),
        BasinCMA(CmaEs(over=("z",)), Adam(over=("zed",))),
    ],
    ids=repr,
)
def test_a_name_that_the_variable_lacks_is_told(
    optimizer: Optimizer,
) -> None:
    with pytest.raises(RecipeError, match=r"has no tensor 'zed'; it has: z, c"):
        optimizer.moves(tuple(Valley().params))


def test_the_stage_is_named_whose_optimizer_names_what_is_not_there() -> None:
    problem = latent_problem((2, Adam()), (2, CmaEs(over=("zed",))), seeds=(0,))
    with pytest.raises(RecipeError, match=r"^stages\.1\.optimizer: over: .* no tensor 'zed'"):
        Run(problem)
    named = replace(problem, stages=[problem.stages[0], replace(problem.stages[1], name="search")])
    with pytest.raises(RecipeError, match=r"^stages\.search\.optimizer: over: "):
        Run(named)
    whole = replace(problem, optimizer=CmaEs(over=("zed",)))
    whole = replace(whole, stages=[replace(stage, optimizer=None) for stage in whole.stages])
    with pytest.raises(RecipeError, match=r"^optimizer: over: "):
        Run(whole)


def test_a_length_that_does_not_fit_is_told_before_the_first_step() -> None:
    basin = BasinCMA(CmaEs(over=("latent",)), Adam(), inner_steps=3)
    with pytest.raises(RecipeError, match=r"7 steps of this stage are not .* take 6"):
        Run(latent_problem((2, Adam()), (7, basin)))


@pytest.mark.parametrize(
    "optimizer",
    [
        Adam(over=("transform",)),
        KeepBest(Adam(over=("transform",))),
        BasinCMA(CmaEs(over=("latent",)), Adam(over=("transform",)), inner_steps=2),
    ],
)
def test_a_descent_of_what_no_gradient_reaches_is_refused(optimizer: Optimizer) -> None:
    problem = latent_problem((2, optimizer), variable=Transformed(inner=latents()), seeds=(0,))
    with pytest.raises(RecipeError, match="no gradient reaches transform; search it with `cma_es`"):
        Run(problem)


def test_a_term_that_keeps_the_reference_as_it_lies_is_refused_where_it_is_moved() -> None:
    swd = Term(PatchSWD(filters=2, kernel=3), name="patches")
    with pytest.raises(RecipeError, match=r"^objective\.patches: Transformed moves the reference"):
        Run(latent_problem((2, Adam()), terms=[swd], variable=Transformed(inner=latents())))
    assert finished(latent_problem((2, Adam()), terms=[swd])).status is Status.FINISHED
