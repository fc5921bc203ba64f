"""The library as an oracle: `CMA` gives its numbers, up to rounding."""

from __future__ import annotations

import pytest
import torch

from invertkit.optimizers.population import pycma
from invertkit.optimizers.population.cma import CMA
from invertkit.optimizers.population.pycma import PyCMA, PyCMAState
from tests.helpers import global_generators_unmoved, normal, same, through_a_file
from tests.optimizers.population.climbing import assert_near, climb, draws, numbers, valley


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
