from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.engine.problem import Status, Term
from invertkit.engine.run import Run
from invertkit.errors import RecipeError
from invertkit.objectives.asked_players import CriticScore
from invertkit.objectives.patches.sliced import PatchSWD
from invertkit.objectives.priors import Norm
from invertkit.objectives.reference import PixelDistance
from invertkit.optimizers.base import Optimizer
from invertkit.optimizers.population import search as population_search
from invertkit.optimizers.population.basin import BasinCMA, cma_adam
from invertkit.optimizers.population.cma import CMA
from invertkit.optimizers.population.cma_es import CmaEs
from invertkit.optimizers.torch_optim import LBFGS, Adam, TorchOptimizer
from invertkit.optimizers.wrappers import Clip, KeepBest
from invertkit.variables.transformed import Transformed
from tests.helpers import make_problem, normal, same, through_a_file, tiny_critic, with_inputs
from tests.landscapes import FunctionLandscape
from tests.latents import finished, latent_problem, latents, state

TOLD: tuple[Literal["refined", "sampled"], ...] = ("refined", "sampled")
LIMIT = 1.5
SEARCHED, BESIDE = (2, 2), 3
SIZE = math.prod(SEARCHED)


class Valley:
    """Losses of two tensors with many minima, another landscape for each image."""

    def __init__(self, images: int = 2, *, seeds: Sequence[int] = (), dtype: Any = None) -> None:
        self.images, self.seeds = images, tuple(seeds) or tuple(range(4, 4 + images))
        rows = [normal(SIZE + BESIDE, seed=seed) for seed in self.seeds]
        self.goal = torch.stack(rows)
        self.start = {
            "z": 0.3 * self.goal[:, :SIZE].reshape(-1, *SEARCHED),
            "c": 0 * self.goal[:, SIZE:],
        }
        self.params = {name: start.clone().requires_grad_() for name, start in self.start.items()}
        self.largest = 0.0

    def losses(self, points: Params) -> Tensor:
        z, c = points["z"], points["c"]
        goal = self.goal.repeat_interleave(len(z) // self.images, 0)
        self.largest = max(self.largest, float(z.detach().abs().max()))
        away = torch.cat([z.flatten(1), c], 1) - goal
        return away.square().sum(1) + (4 * away).sin().sum(1) + 0.3 * (z.flatten(1)[:, 0] * c[:, 0])

    def landscape(self, step: int, limit: float = math.inf) -> Fenced:
        at = Fenced(self.losses, self.params, randomness=Randomness(self.seeds), step=step)
        at.limit = limit
        return at

    def go(
        self,
        optimizer: Optimizer,
        total: int,
        *,
        start: int = 0,
        stop: int | None = None,
        held: Any = None,
        limit: float = math.inf,
        finish: bool = True,
    ) -> tuple[Any, list[Tensor]]:
        held = optimizer.init(self.params) if held is None else held
        losses = []
        for step in range(start, total if stop is None else stop):
            here = self.landscape(step, limit)
            losses.append(optimizer.step(here, self.params, held, step=step, total=total))
        if finish and stop is None:
            optimizer.finish(self.params, held)
        return held, losses


class Fenced(FunctionLandscape):
    """|z| is at most a limit; new starts of c are small numbers."""

    limit = math.inf

    def fresh(self, count: int, purpose: str) -> Params:
        draws = self.randomness.candidates(count, purpose)
        c = 0.1 * draws.normal("c", (BESIDE,)).double()
        return {"z": self.points["z"].detach().repeat_interleave(count, 0), "c": c}

    def confine(self) -> None:
        with torch.no_grad():
            self.points["z"].clamp_(-self.limit, self.limit)


@dataclass
class ByHand:
    """BasinCMA over z as one plain loop, Adam inside over both tensors."""

    valley: Valley
    outer: CmaEs
    lr: float
    inner_steps: int
    last_steps: int
    told: str
    limit: float = math.inf
    best: list[Tensor] = field(default_factory=list)
    judged: list[Tensor] = field(default_factory=list)
    search: Any = None

    def run(self, generations: int) -> list[Tensor]:
        valley, images = self.valley, self.valley.images
        rule = CMA(active=self.outer.active, clip_injected=self.outer.clip_injected)
        mean = valley.start["z"].flatten(1)
        self.search = rule.start(mean, self.outer.sigma)
        lowest = torch.full((images,), torch.inf, dtype=torch.float64)
        self.best, step = [start.clone() for start in valley.start.values()], 0
        for generation in range(generations + (self.last_steps > 0)):
            last = generation == generations
            size = rule.size(SIZE)
            randomness = Randomness(valley.seeds)
            normals = randomness.normal("population", (size, SIZE), step=step).double()
            drawn = rule.ask(self.search, normals)
            z = drawn.reshape(-1, *SEARCHED).clone().clamp_(-self.limit, self.limit)
            c = self.best[1].repeat_interleave(size, 0)
            if self.inner_steps:
                draws = randomness.candidates(size, f"generation{generation}")
                c = 0.1 * draws.normal("c", (BESIDE,)).double()
            inner = self.last_steps if last else self.inner_steps
            z.requires_grad_(), c.requires_grad_()
            adam = torch.optim.Adam([z, c], lr=self.lr, fused=True)
            for _ in range(inner):
                adam.zero_grad()
                valley.losses({"z": z, "c": c}).sum().backward()
                adam.step()
                with torch.no_grad():
                    z.clamp_(-self.limit, self.limit)
            step += max(1, inner)
            z, c = z.detach(), c.detach()
            losses = valley.losses({"z": z, "c": c}).reshape(images, size)
            self.judged.append(losses)
            for i in range(images):
                at = int(losses[i].argmin())
                if losses[i, at] < lowest[i]:
                    lowest[i] = losses[i, at]
                    self.best[0][i], self.best[1][i] = z[i * size + at], c[i * size + at]
            if not last:
                refined = self.told == "refined" and self.inner_steps > 0
                points = z.reshape(images, size, -1) if refined else drawn
                which = torch.full(losses.shape, refined)
                rule.tell(self.search, points, losses, injected=which)
        return self.best


# ---------------------------------------------------------------------- what it is made of


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


# ---------------------------------------------------------------------- company and resuming


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


# ---------------------------------------------------------------------- what is not a number


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


# ---------------------------------------------------------------------- what does not go together


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


# ---------------------------------------------------------------------- through the engine


def basin(**options: Any) -> BasinCMA:
    inner = Adam(lr=0.05, over=("latent", "embedding"), rates={"embedding": 0.2})
    values = {"outer": CmaEs(over=("transform",), sigma=0.1), "inner": inner, "inner_steps": 2}
    return BasinCMA(**values | options)  # type: ignore[arg-type]


def search(library: Any = "torch", **options: Any) -> BasinCMA:
    outer = CmaEs(over=("latent",), sigma=1.0, mean="zero", population=4, library=library)
    return basin(outer=outer, **options)


RESUMED: dict[str, Callable[[], Any]] = {
    "algorithm 1": lambda: latent_problem(
        (4, basin(result="mean")), (5, search(last_steps=3)),
        variable=Transformed(inner=latents(), colour=("contrast",)),
    ),
    "pycma, in chunks": lambda: latent_problem(
        (4, search("pycma", told="sampled")), (2, Adam(lr=0.05)), memory=1,
    ),
    "cma and adam": lambda: latent_problem(
        (5, cma_adam(outer=CmaEs(over=("latent",), population=4), inner=Adam(), last_steps=3)),
        variable=latents(embedding="gaussian", beyond="wrap"),
    ),
    "a term that switches on": lambda: latent_problem(
        (6, search()),
        terms=(
            Term(PixelDistance(form="l2"), name="l2"),
            Term(Norm(), name="norm", weight=1e-4, start=3),
        ),
        variable=Transformed(inner=latents(limit=0)), memory=40_000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_search_equals_one_that_never_stopped_bit_for_bit(name: str) -> None:
    """In a generation, between two, and between stages: step by step."""
    whole, saved, losses = Run(RESUMED[name]()), [], []
    saved.append(through_a_file(whole.save()))
    for report in whole.steps():
        losses.append(report.losses)
        saved.append(through_a_file([whole.save(), whole.best_tensors()]))
    assert whole.status is Status.FINISHED
    assert whole.best_tensors()
    for step, at in enumerate(saved[1:], 1):
        run = Run(RESUMED[name]())
        run.restore(at[0])
        assert run.step == step
        assert same(run.best_tensors(), at[1])
        assert same([report.losses for report in run.steps()], losses[step:])
        assert same(state(run), state(whole))


def test_the_best_picture_is_made_of_the_best_tensors_and_no_picture_was_better() -> None:
    run = Run(latent_problem((4, basin()), variable=Transformed(inner=latents())))
    lowest = torch.full((2,), torch.inf, dtype=torch.float64)
    for _ in run.steps():
        losses = torch.tensor(run.best_losses(), dtype=torch.float64)
        compared = ~losses.isnan()  # in the first generation nothing is, until it is judged
        assert (losses <= lowest)[compared].all()
        lowest = torch.where(compared, losses, lowest)
    assert lowest.isfinite().all()
    tensors = run.best_tensors()
    assert list(tensors) == ["latent", "embedding", "transform"]
    problem = run.problem
    scene = replace(problem.scene(problem.stages[0].size), models=problem.models)
    images = problem.variable.image(tensors, scene)
    torch.testing.assert_close(images.clamp(0, 1), run.best_images(), rtol=0, atol=1e-12)
    for name, param in run.params.items():  # the search stands at its best
        assert torch.equal(tensors[name], param)


def test_latents_stay_within_their_limit_at_every_step_and_after_each_stage() -> None:
    stages = [(4, search(result="mean")), (4, basin()), (2, Adam(lr=2.0))]
    for beyond in ("clamp", "wrap"):
        variable = Transformed(inner=latents(limit=0.5, beyond=beyond))
        run = Run(latent_problem(*stages, variable=variable))
        for report in run.steps():
            assert run.params["latent"].abs().max() <= 0.5
            held = run.search_state
            if report.stage < 2:
                assert held.candidates["latent"].abs().max() <= 0.5


def test_a_latent_is_found_again_from_the_picture_it_made() -> None:
    """With everything in between: a search, a descent, and the best of both."""
    problem = latent_problem((1, Adam()), seeds=(0,))
    generator, size = problem.models["generator"], problem.stages[0].size
    wanted = 0.8 * normal(1, 5, seed=11).clamp(-1, 1)
    embedding = generator.tables["embedding"][1:2]
    scene = replace(problem.scene(size), models=problem.models)
    with torch.no_grad():
        picture = (
            latents().bind(problem.models).image({"latent": wanted, "embedding": embedding}, scene)
        )
    scene = with_inputs(scene, image=picture)
    inner = Adam(lr=0.1, over=("latent",))
    searching = BasinCMA(
        CmaEs(over=("latent",), sigma=1.0, mean="zero"), inner, inner_steps=10, last_steps=150
    )
    terms = (Term(PixelDistance(form="l2"), name="distance"),)
    for optimizer, steps, seeds in ((searching, 210, (0,)), (inner, 250, (0, 1, 2))):
        run = finished(
            latent_problem((steps, optimizer), terms=terms, seeds=seeds, scene=lambda size: scene)
        )
        at = min(range(len(seeds)), key=run.best_losses().__getitem__)
        error = (run.best_images()[at] - picture[0].clamp(0, 1)).norm() / picture.std()
        assert error < 0.05
        torch.testing.assert_close(run.best_tensors()["latent"][at], wanted[0], rtol=0, atol=0.05)
