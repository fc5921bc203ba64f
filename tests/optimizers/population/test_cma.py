from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from invertkit.errors import ShapeError
from invertkit.optimizers.population import pycma
from invertkit.optimizers.population.cma import CMA, CMAState, ranking
from invertkit.optimizers.population.constants import constants
from invertkit.optimizers.population.pycma import PyCMA, PyCMAState
from tests.helpers import global_generators_unmoved, normal, same, through_a_file

Losses = Callable[[Tensor], Tensor]


def draws(shape: tuple[int, ...], generation: int, seed: int = 0) -> Tensor:
    return normal(*shape, seed=1000 * seed + generation)


def valley(points: Tensor) -> Tensor:
    """A quadratic with axes of different lengths, none along a coordinate."""
    dimension = points.shape[-1]
    turn = torch.linalg.qr(normal(dimension, dimension, seed=7)).Q
    return ((points @ turn).square() * torch.logspace(0, 2, dimension).double()).sum(-1)


def climb(
    rule: CMA | PyCMA, state: Any, losses: Losses, generations: range, seed: int = 0
) -> list[Tensor]:
    """The points of each generation."""
    seen = []
    for generation in generations:
        count, dimension = state.mean.shape
        shape = (count, rule.size(dimension), dimension)
        points = rule.ask(state, draws(shape, generation, seed))
        rule.tell(state, points, losses(points))
        seen.append(points)
    return seen


def numbers(state: CMAState | PyCMAState) -> dict[str, Tensor]:
    return {"mean": state.mean, "sigma": state.sigma, "C": state.C}


def assert_near(a: Any, b: Any, tolerance: float) -> None:
    """Up to rounding; a mean is measured in steps, for it may be near zero."""
    torch.testing.assert_close(a.C, b.C, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(a.sigma, b.sigma, rtol=tolerance, atol=0)
    away = (a.mean - b.mean).abs().amax(1) / b.sigma
    assert away.max() < 10 * tolerance


# Against pycma


@pytest.mark.parametrize(
    ("rule", "dimension"),
    [
        (CMA(), 1),
        (CMA(), 2),
        (CMA(), 11),
        (CMA(active=False), 5),
        (CMA(population=5), 5),
        (CMA(population=40), 11),  # more parents than dimensions: another damping
        (CMA(population=4), 40),  # not every generation has its eigendecomposition
        (CMA(clip_injected=True), 2),
        (CMA(clip_injected=True), 11),
    ],
)
def test_it_equals_pycma(rule: CMA, dimension: int) -> None:
    other = PyCMA(**vars(rule))
    start, sigma = normal(2, dimension), torch.tensor([0.3, 1.0])
    state, oracle = rule.start(start, sigma), other.start(start, sigma)
    shape = (2, rule.size(dimension), dimension)
    with global_generators_unmoved():
        for generation in range(40):
            normals = draws(shape, generation)
            points, expected = rule.ask(state, normals), other.ask(oracle, normals)
            width = oracle.sigma[:, None, None]
            torch.testing.assert_close(points / width, expected / width, rtol=0, atol=1e-9)
            injected = draws(shape[:2], generation, seed=3) > 0
            if rule.clip_injected:
                pulled = points * normal(1, seed=generation).abs()
                points = expected = torch.where(injected[..., None], pulled, points)
            losses = valley(points)
            rule.tell(state, points, losses, injected=injected)
            other.tell(oracle, expected, losses, injected=injected)
            assert_near(state, oracle, 1e-10)
    assert state.generation == oracle.generation == 40


def test_pycma_treats_bad_losses_and_points_alike() -> None:
    rule, other = CMA(), PyCMA()
    state, oracle = rule.start(normal(1, 4)), other.start(normal(1, 4))
    for generation in range(10):
        points = rule.ask(state, draws((1, 8, 4), generation))
        other.ask(oracle, draws((1, 8, 4), generation))
        losses = valley(points)
        losses[0, 2], losses[0, 5], points[0, 6, 1] = torch.nan, -torch.inf, torch.inf
        rule.tell(state, points, losses)
        other.tell(oracle, points, losses)
        assert_near(state, oracle, 1e-10)


def test_pycma_is_restored_to_the_last_bit_by_saying_all_again() -> None:
    rule = PyCMA(clip_injected=True)
    state = rule.start(normal(2, 3))
    climb(rule, state, valley, range(6))
    rule.ask(state, draws((2, 7, 3), 6))
    restored = PyCMAState.load(through_a_file(state.save()))
    assert restored.generation == 6
    assert same(numbers(restored), numbers(state))
    for one in (state, restored):
        rule.tell(one, draws((2, 7, 3), 99), draws((2, 7), 98))
        climb(rule, one, valley, range(7, 10))
    assert same(numbers(restored), numbers(state))


def test_pycma_wants_a_question_before_each_answer() -> None:
    rule = PyCMA()
    state = rule.start(normal(1, 3))
    with pytest.raises(RuntimeError, match="once after each"):
        rule.tell(state, normal(1, 7, 3), normal(1, 7))
    climb(rule, state, valley, range(1))
    with pytest.raises(RuntimeError, match="once after each"):
        rule.tell(state, normal(1, 7, 3), normal(1, 7))


def test_pycma_is_not_imported_with_its_module() -> None:
    assert not hasattr(pycma, "cma")


def test_constants_of_pycma_in_ten_dimensions() -> None:
    k = constants(10, 10)
    assert k.parents == 5
    assert sum(k.weights[:5]) == pytest.approx(1)
    assert k.c_1 + k.c_mu * sum(k.weights) == pytest.approx(0)  # eq. 50: nothing fades
    assert k.chi == pytest.approx(3.084327759799864, rel=1e-14)
    assert min(constants(10, 10, active=False).weights) == 0


# Laws


@settings(max_examples=5)
@given(dimension=st.integers(2, 12), seed=st.integers(0, 99), active=st.booleans())
@example(dimension=12, seed=0, active=True)
def test_it_finds_the_lowest_point_of_a_quadratic(
    dimension: int, seed: int, *, active: bool
) -> None:
    goal = normal(dimension, seed=seed + 1)
    turn = torch.linalg.qr(normal(dimension, dimension, seed=seed + 2)).Q
    curve = torch.logspace(0, 1, dimension).double()
    rule = CMA(active=active)
    state = rule.start(normal(1, dimension, seed=seed))

    def losses(points: Tensor) -> Tensor:
        return (((points - goal) @ turn).square() * curve).sum(-1)

    climb(rule, state, losses, range(80 + 25 * dimension), seed)
    assert losses(state.mean).item() < 1e-6


@pytest.mark.parametrize(
    "bend", [lambda x: x**3, lambda x: 1 - 1 / (1 + x), lambda x: 5 * x.log() - 9]
)
def test_only_the_order_of_the_losses_counts(bend: Losses) -> None:
    states = [CMA().start(normal(2, 5)) for _ in range(2)]
    climb(CMA(), states[0], valley, range(40))
    climb(CMA(), states[1], lambda points: bend(valley(points)), range(40))
    assert same(vars(states[0]), vars(states[1]))


@settings(max_examples=8)
@given(st.integers(2, 8), st.integers(0, 99))
def test_a_rotated_and_moved_landscape_has_a_rotated_and_moved_trajectory(
    dimension: int, seed: int
) -> None:
    turn = torch.linalg.qr(normal(dimension, dimension, seed=seed)).Q
    shift = normal(dimension, seed=seed + 1)
    rule, start = CMA(), normal(1, dimension, seed=seed + 2)
    here, there = rule.start(start), rule.start(start @ turn + shift)
    for generation in range(40):
        normals = draws((1, rule.size(dimension), dimension), generation, seed)
        points, moved = rule.ask(here, normals), rule.ask(there, normals @ turn)
        width = here.sigma.item()
        torch.testing.assert_close(
            (points @ turn + shift) / width, moved / width, rtol=0, atol=1e-8
        )
        rule.tell(here, points, valley(points))
        rule.tell(there, moved, valley((moved - shift) @ turn.T))
    torch.testing.assert_close(turn.T @ here.C @ turn, there.C, rtol=0, atol=1e-8)


@settings(max_examples=8)
@given(st.integers(1, 9), st.integers(0, 4))
def test_a_population_does_not_depend_on_its_neighbours(dimension: int, place: int) -> None:
    rule = CMA(population=6, clip_injected=True)
    start, sigma = normal(5, dimension), torch.linspace(0.1, 2, 5)
    crowd = rule.start(start, sigma)
    alone = rule.start(start[place : place + 1], sigma[place : place + 1])
    for generation in range(12):
        normals = draws((5, 6, dimension), generation)
        points = rule.ask(crowd, normals)
        assert torch.equal(rule.ask(alone, normals[place : place + 1])[0], points[place])
        rule.tell(crowd, points, valley(points))
        rule.tell(alone, points[place : place + 1], valley(points[place : place + 1]))
    for name, value in vars(alone).items():
        if isinstance(value, Tensor):
            assert torch.equal(value[0], getattr(crowd, name)[place])


@pytest.mark.parametrize("stop", range(7))
def test_a_saved_state_goes_on_alike(stop: int) -> None:
    rule = CMA(population=4)
    assert constants(40, 4).gap > 1  # so the eigendecomposition may be that of an earlier C
    whole, first = rule.start(normal(1, 40)), rule.start(normal(1, 40))
    climb(rule, whole, valley, range(stop + 5))
    climb(rule, first, valley, range(stop))
    saved = first.save()
    climb(rule, first, valley, range(stop, stop + 1))  # what was saved does not move along
    second = CMAState.load(through_a_file(saved), device="cpu")
    climb(rule, second, valley, range(stop, stop + 5))
    assert same(vars(whole), vars(second))


def test_losses_that_are_not_finite_rank_last() -> None:
    losses = torch.tensor([torch.inf, 2.0, torch.nan, 1.0, -torch.inf, 2.0])
    assert ranking(losses).tolist() == [3, 1, 5, 0, 2, 4]


def test_a_landscape_of_nan_moves_nothing_out_of_the_finite() -> None:
    rule = CMA()
    state = rule.start(normal(1, 3))
    climb(rule, state, lambda points: torch.full(points.shape[:2], torch.nan), range(50))
    assert all(value.isfinite().all() for value in numbers(state).values())


def test_points_that_are_not_finite_stand_for_the_mean() -> None:
    rule, start = CMA(), normal(1, 4)
    states = [rule.start(start) for _ in range(2)]
    points = rule.ask(states[0], draws((1, 8, 4), 0))
    losses = valley(points)
    broken, plain = points.clone(), points.clone()
    broken[0, 3, 2], plain[0, 3] = torch.nan, start
    rule.tell(states[0], broken, losses)
    losses[0, 3] = torch.nan
    rule.tell(states[1], plain, losses)
    assert same(vars(states[0]), vars(states[1]))


@settings(max_examples=5)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(shuffled: random.Random) -> None:
    rule = CMA()
    states = [rule.start(normal(2, 6)) for _ in range(2)]
    for generation in range(20):
        points = rule.ask(states[0], draws((2, 9, 6), generation))
        order = torch.tensor(shuffled.sample(range(9), 9))
        rule.tell(states[0], points, valley(points))
        rule.tell(states[1], points[:, order], valley(points)[:, order])
    assert same(vars(states[0]), vars(states[1]))


def test_a_clipped_step_has_the_longest_length() -> None:
    rule, far = CMA(population=4, clip_injected=True), torch.full((1, 4, 3), 1e6)
    state = rule.start(torch.zeros(1, 3), sigma=0.5)
    rule.tell(state, far, torch.arange(4.0)[None])
    assert state.mean.norm().item() == pytest.approx(0.5 * constants(3, 4).longest)
    free = rule.start(torch.zeros(1, 3), sigma=0.5)
    rule.tell(free, far, torch.arange(4.0)[None], injected=torch.zeros(1, 4, dtype=torch.bool))
    assert free.mean.norm() > 1e6


def test_injecting_the_lowest_point_is_quicker() -> None:
    finals = []
    for helped in (False, True):
        rule = CMA(clip_injected=True)
        state = rule.start(normal(1, 8) + 3)
        for generation in range(25):
            points = rule.ask(state, draws((1, 10, 8), generation))
            points = points / 2 if helped else points
            rule.tell(state, points, valley(points))
        finals.append(valley(state.mean).item())
    assert finals[1] < finals[0] / 100


def test_a_collapsed_population_stays_finite() -> None:
    rule = CMA(population=4)
    state = rule.start(torch.ones(1, 2), sigma=1e-99)
    for _ in range(50):
        rule.tell(state, torch.ones(1, 4, 2), torch.zeros(1, 4))
    assert all(value.isfinite().all() for value in numbers(state).values())
    assert state.sigma.item() == 1e-100


def test_a_line_of_points_leaves_a_covariance_that_can_be_sampled() -> None:
    rule = CMA(population=12, active=False)
    state = rule.start(torch.zeros(1, 2))
    along = torch.tensor([1.0, 0.0]).double()
    for generation in range(150):
        points = rule.ask(state, draws((1, 12, 2), generation)) * along
        rule.tell(state, points, points[..., 0])
    assert (state.lengths[0, 1] / state.lengths[0, 0]).square().item() == pytest.approx(1e14)
    assert rule.ask(state, draws((1, 12, 2), 150)).isfinite().all()


def test_the_default_size_follows_the_dimension() -> None:
    assert [CMA().size(d) for d in (1, 2, 10, 128)] == [4, 6, 10, 18]
    assert CMA(population=7).size(128) == PyCMA(population=7).size(128) == 7


def test_float32_is_taken_and_answered_in_float64() -> None:
    state = CMA().start(torch.zeros(1, 3, dtype=torch.float32))
    assert state.sigma.item() == 0.3
    points = CMA().ask(state, torch.zeros(1, 7, 3))
    assert points.dtype == torch.float64
    CMA().tell(state, points.float(), torch.zeros(1, 7))
    assert state.mean.dtype == torch.float64


@pytest.mark.parametrize("rule", [CMA(population=6), PyCMA(population=6)])
def test_wrong_shapes_are_named(rule: CMA | PyCMA) -> None:
    state: Any = rule.start(normal(2, 3))
    with pytest.raises(ShapeError, match=r"standard normal numbers of shape \(2, .*\(2, 6, 4\)"):
        rule.ask(state, normal(2, 6, 4))
    rule.ask(state, normal(2, 6, 3))
    with pytest.raises(ShapeError, match=r"points of shape \(2, 6, 3\).*\(2, 5, 3\)"):
        rule.tell(state, normal(2, 5, 3), normal(2, 5))
