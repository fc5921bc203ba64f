from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invertkit.core.schedules import Cosine, Linear, Piecewise, value_at

MAGIC = Cosine("cosine", peak=0.2, warmup=100)
numbers = st.floats(-10, 10)
steps = st.integers(0, 500)


@pytest.mark.parametrize(
    ("step", "wanted"),
    [(0, 0.002), (99, 0.2), (5_000, 0.165), (10_000, 0.083), (15_000, 0.0135)],
)
def test_the_released_learning_rate_of_magic(step: int, wanted: float) -> None:
    assert value_at(MAGIC, step, 18_000) == pytest.approx(wanted, rel=0.01)


@given(step=steps, warmup=st.integers(0, 50), floor=st.floats(0, 0.1))
def test_cosine_equals_its_formula(step: int, warmup: int, floor: float) -> None:
    found = value_at(Cosine("cosine", peak=0.3, warmup=warmup, floor=floor), step, 500)
    if step < warmup:
        assert found == pytest.approx(0.3 * (step + 1) / warmup)
    else:
        angle = math.pi * (step - warmup) / (500 - warmup)
        assert found == pytest.approx(floor + (0.3 - floor) * (1 + math.cos(angle)) / 2)


def test_cosine_rises_to_its_peak_and_falls_to_its_floor() -> None:
    schedule = Cosine("cosine", peak=1.0, warmup=10, floor=0.25)
    values = [value_at(schedule, step, 100) for step in range(101)]
    assert values[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert values[10] == 1.0
    assert all(a > b for a, b in pairwise(values[10:]))
    assert values[100] == pytest.approx(0.25)
    assert value_at(schedule, 1000, 100) == pytest.approx(0.25)
    assert value_at(Cosine("cosine", peak=1.0, warmup=5), 4, 3) == 1.0


@given(start=numbers, stop=numbers, step=steps, length=st.integers(1, 100))
def test_linear_goes_from_start_to_stop_and_stays(
    start: float, stop: float, step: int, length: int
) -> None:
    found = value_at(Linear("linear", start, stop, steps=length), step, 7)
    wanted = stop if step >= length else start + (stop - start) * step / length
    assert found == pytest.approx(wanted, abs=1e-9)


def test_linear_without_a_length_ends_with_the_last_step() -> None:
    schedule = Linear("linear", start=1.0, stop=3.0)
    assert [value_at(schedule, step, 5) for step in range(5)] == [1, 1.5, 2, 2.5, 3]
    assert value_at(schedule, 0, 1) == 1


@given(points=st.dictionaries(steps, numbers, min_size=1, max_size=5), step=steps)
def test_piecewise_keeps_the_last_value_reached(points: dict[int, float], step: int) -> None:
    reached = [start for start in points if start <= step]
    wanted = points[max(reached)] if reached else -7.0
    schedule = Piecewise("piecewise", tuple(points.items()), before=-7.0)
    assert value_at(schedule, step, 500) == wanted


def test_before_the_first_point_piecewise_is_zero_by_default() -> None:
    schedule = Piecewise("piecewise", ((5_000, 0.05),))
    assert [value_at(schedule, step, 18_000) for step in (0, 4_999, 5_000)] == [0, 0, 0.05]


@given(value=numbers, step=steps)
def test_a_number_is_itself_at_every_step(value: float, step: int) -> None:
    assert value_at(value, step, 500) == value
    assert value_at(3, step, 500) == 3
