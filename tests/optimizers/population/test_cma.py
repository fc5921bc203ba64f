from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from invertkit.errors import ShapeError
from invertkit.optimizers.population.cma import CMA, CMAState, ranking
from invertkit.optimizers.population.constants import constants
from invertkit.optimizers.population.pycma import PyCMA
from tests.helpers import normal, same, through_a_file
from tests.optimizers.population.climbing import Losses, climb, draws, numbers, valley


def turns(count: int, dimension: int, seed: int) -> Tensor:
    """A rotation for each population."""
    return torch.linalg.qr(normal(count, dimension, dimension, seed=seed)).Q


@pytest.mark.parametrize(
    ("dimension", "active"), [(2, True), (3, False), (7, True), (12, False), (12, True)]
)
def test_it_finds_the_lowest_point_of_a_quadratic(dimension: int, *, active: bool) -> None:
    """Four populations at once, each in a valley of its own."""
    goal, turn = normal(4, dimension, seed=1), turns(4, dimension, seed=2)
    curve = torch.logspace(0, 1, dimension).double()
    rule = CMA(active=active)
    state = rule.start(normal(4, dimension))

    def losses(points: Tensor) -> Tensor:
        return (((points - goal[:, None]) @ turn).square() * curve).sum(-1)

    climb(rule, state, losses, range(80 + 25 * dimension))
    assert (losses(state.mean[:, None]) < 1e-6).all()


def test_only_the_order_of_the_losses_counts() -> None:
    bends: tuple[Losses, ...] = (
        lambda x: x,
        lambda x: x**3,
        lambda x: 1 - 1 / (1 + x),
        lambda x: 5 * x.log() - 9,
    )
    first, *others = [CMA().start(normal(2, 5)) for _ in bends]
    for state, bend in zip((first, *others), bends, strict=True):
        climb(CMA(), state, lambda points, bend=bend: bend(valley(points)), range(40))
    for other in others:
        assert same(vars(first), vars(other))


@pytest.mark.parametrize("dimension", [2, 5, 8])
def test_a_rotated_and_moved_landscape_has_a_rotated_and_moved_trajectory(dimension: int) -> None:
    """Three populations at once, each with a rotation of its own."""
    turn, shift = turns(3, dimension, seed=4), normal(3, 1, dimension, seed=5)
    rule, start = CMA(), normal(3, 1, dimension, seed=6)
    here, there = rule.start(start[:, 0]), rule.start((start @ turn + shift)[:, 0])
    for generation in range(40):
        normals = draws((3, rule.size(dimension), dimension), generation)
        points, moved = rule.ask(here, normals), rule.ask(there, normals @ turn)
        width = here.sigma[:, None, None]
        torch.testing.assert_close(
            (points @ turn + shift) / width, moved / width, rtol=0, atol=1e-8
        )
        rule.tell(here, points, valley(points))
        rule.tell(there, moved, valley((moved - shift) @ turn.mT))
    torch.testing.assert_close(turn.mT @ here.C @ turn, there.C, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dimension", [1, 2, 3, 6, 9, 19, 64, 128])
def test_a_population_does_not_depend_on_its_neighbours(dimension: int) -> None:
    """The slow way is a search for each: the same numbers to the last bit, at all sizes."""
    rule = CMA(population=6, clip_injected=True)
    start, sigma = normal(5, dimension), torch.linspace(0.1, 2, 5)
    crowd = rule.start(start, sigma)
    alone = {place: rule.start(start[[place]], sigma[[place]]) for place in (0, 2, 4)}
    for generation in range(12):
        normals = draws((5, 6, dimension), generation)
        points = rule.ask(crowd, normals)
        rule.tell(crowd, points, valley(points))
        for place, state in alone.items():
            mine = rule.ask(state, normals[[place]])
            assert torch.equal(mine[0], points[place])
            rule.tell(state, mine, valley(mine))
    for place, state in alone.items():
        for name, value in vars(state).items():
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


def test_the_order_of_the_candidates_does_not_matter() -> None:
    rule = CMA()
    states = [rule.start(normal(2, 6)) for _ in range(2)]
    for generation in range(30):
        points = rule.ask(states[0], draws((2, 9, 6), generation))
        order = draws((2, 9), generation, seed=5).argsort(1)  # another for each population
        rule.tell(states[0], points, valley(points))
        shuffled = points.take_along_dim(order[..., None], 1)
        rule.tell(states[1], shuffled, valley(shuffled))
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


def test_away_from_the_cpu_its_tensors_keep_their_shapes() -> None:
    """On `meta` there are shapes and no numbers."""
    rule = CMA(clip_injected=True)
    state = rule.start(torch.zeros(3, 4, device="meta"))
    before = {name: value.shape for name, value in vars(state).items() if hasattr(value, "shape")}
    points = rule.ask(state, torch.zeros(3, rule.size(4), 4, device="meta"))
    rule.tell(state, points, points.sum(-1))
    assert {name: getattr(state, name).shape for name in before} == before
