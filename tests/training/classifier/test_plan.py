"""Schedules of a training: their laws."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invertkit.errors import InputError
from invertkit.training.classifier.plan import (
    SCHEDULES,
    TrainingPlan,
    as_json,
    difference,
    read_eps_schedule,
    read_lr_schedule,
    read_points,
)
from invertkit.training.robustness.attack import Attack

counts = st.integers(1, 12)
multipliers = st.floats(0, 3)


def rates(plan: TrainingPlan, per_epoch: int) -> list[float]:
    return [plan.lr_at(step, per_epoch) for step in range(plan.epochs * per_epoch)]


@given(name=st.sampled_from(SCHEDULES), epochs=counts, per_epoch=counts, rise=st.floats(0, 0.9))
def test_no_schedule_leaves_the_peak_or_goes_below_zero(
    name: Any, epochs: int, per_epoch: int, rise: float
) -> None:
    plan = TrainingPlan(lr_schedule=name, epochs=epochs, rise=rise, lr=0.7)
    seen = rates(plan, per_epoch)
    assert min(seen) >= 0
    assert max(seen) <= 0.7 * (1 + 1e-12)


@given(rise=st.floats(0.05, 0.9), epochs=counts)
def test_the_triangle_rises_to_its_peak_and_falls_to_nothing(rise: float, epochs: int) -> None:
    per_epoch = 200
    plan = TrainingPlan(rise=rise, epochs=epochs, lr=1.0)
    seen = rates(plan, per_epoch)
    wanted = np.interp(np.arange(len(seen)) / len(seen), [0, rise, 1], [0, 1, 0])
    assert np.allclose(seen, wanted, atol=1e-9)


def test_the_step_schedule_drops_at_its_epochs() -> None:
    plan = TrainingPlan(lr_schedule="step", epochs=7, drop=0.1, drop_every=3, lr=1.0)
    assert np.allclose(rates(plan, 2), [1] * 6 + [0.1] * 6 + [0.01] * 2)


@given(epochs=st.integers(2, 40))
def test_the_cyclic_schedule_is_the_library_s(epochs: int) -> None:
    plan = TrainingPlan(lr_schedule="cyclic", epochs=epochs, lr=0.3)
    at = np.arange(epochs * 3) / 3
    wanted = np.interp(at, [0, epochs * 4 / 15, epochs], [0, 0.3, 0])
    assert np.allclose(rates(plan, 3), wanted, atol=1e-12)


@given(
    points=st.lists(st.tuples(st.integers(0, 30), multipliers), min_size=1, max_size=5),
    at=st.floats(0, 20),
)
def test_points_are_joined_by_lines_as_numpy_joins_them(
    points: list[tuple[int, float]], at: float
) -> None:
    kept = sorted(dict(points).items())
    text = ",".join(f"{epoch}={value!r}" for epoch, value in kept)
    read = read_points(text, option="--x")
    assert read == tuple(kept)
    plan = TrainingPlan(lr=1.0, lr_schedule="points", lr_points=read, epochs=40)
    wanted = np.interp(int(at * 10) / 10, *zip(*kept, strict=True))
    assert plan.lr_at(int(at * 10), 10) == pytest.approx(wanted, abs=1e-9)
    assert read_lr_schedule(text) == ("points", read)


@given(eps=st.floats(0.01, 3), norm=st.sampled_from(["l2", "linf"]), low=st.integers(16, 64))
def test_low_epochs_scale_an_l2_attack_with_the_side_and_leave_linf(
    eps: float, norm: Any, low: int
) -> None:
    plan = TrainingPlan(
        attack=Attack(norm, eps, 2, 0.5 * eps), epochs=4, low_epochs=2, low_size=low, size=64
    )
    first, last = plan.attack_at(1), plan.attack_at(2)
    assert (plan.size_at(1), plan.size_at(2)) == (low, 64)
    assert last == plan.attack
    assert first is not None
    assert first.step_size is not None
    share = low / 64 if norm == "l2" else 1
    assert first.eps == pytest.approx(eps * share)
    assert first.step_size == pytest.approx(0.5 * eps * share)


def test_the_radius_follows_its_schedule_and_a_given_step_does_not() -> None:
    plan = TrainingPlan(
        attack=Attack("l2", 1.0, 2, 0.25), epochs=6, clean_epochs=1,
        eps_points=read_eps_schedule("ramp:4"),
    )  # fmt: skip
    assert plan.attack_at(0, 0.9) is None  # clean
    seen = [plan.attack_at(epoch, 0.5) for epoch in range(1, 6)]
    assert [attack and attack.eps for attack in seen] == [0.375, 0.625, 0.875, 1, 1]
    assert {attack and attack.step_size for attack in seen} == {0.25}
    follows = replace(plan, attack=Attack("l2", 1.0, 2)).attack_at(1, 0.5)
    assert follows is not None
    assert follows.step_size is None  # its default is 2/3 of the radius
    assert read_eps_schedule("constant") == ()
    assert read_eps_schedule("0=1,5=0.5") == ((0, 1), (5, 0.5))


@pytest.mark.parametrize(
    "attack", [Attack(eps=0.0), Attack(steps=0), Attack(eps=0.0, random_start=True)]
)
def test_an_attack_that_does_nothing_is_none(attack: Attack) -> None:
    assert TrainingPlan(attack=attack).attack_at(3) is None


def test_noise_alone_is_an_attack() -> None:
    attack = Attack(steps=0, random_start=True)
    assert TrainingPlan(attack=attack).attack_at(0) == attack


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"size": 8}, "size: expected at least 16"),
        ({"lr": 0.0}, "lr: expected a number above 0"),
        ({"lr": float("nan")}, "lr: expected a number above 0"),
        ({"ema": 1.0}, "ema: expected at least 0 and at most"),
        ({"momentum": 0.0}, "nesterov: needs a momentum"),
        ({"low_epochs": 17}, "at most epochs"),
        ({"lr_schedule": "points"}, "lr_points: expected"),
        ({"attack": Attack(targeted=True)}, "untargeted"),
        ({"batch": 0}, "batch"),
    ],
)
def test_numbers_out_of_range_are_a_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingPlan(**change)


@pytest.mark.parametrize("text", ["", "3", "0=1,0=2", "2=1,1=0", "0=-1", "0=nan", "a=b", "1=2=3"])
def test_points_that_are_none_are_a_sentence(text: str) -> None:
    with pytest.raises(InputError, match=r"--x: expected EPOCH=MULTIPLIER"):
        read_points(text, option="--x")


@pytest.mark.parametrize("text", ["ramp:", "ramp:x", "ramp:0", "slow"])
def test_a_schedule_that_is_none_is_a_sentence(text: str) -> None:
    with pytest.raises(InputError, match="--eps-schedule"):
        read_eps_schedule(text)
    with pytest.raises(InputError, match=r"--lr-schedule: expected triangle, step"):
        read_lr_schedule("slow")


def test_a_difference_between_plans_is_named() -> None:
    plan = TrainingPlan(low_epochs=1)
    before = as_json(plan)
    assert difference(plan, before) == ""
    assert difference(replace(plan, batch=3), before) == "batch 256, not 3"
    assert "eps" in difference(replace(plan, attack=Attack(eps=2.0)), before)


def test_schedules_rise_where_they_should() -> None:
    plan = TrainingPlan(epochs=4, rise=0.5, lr=1.0)
    seen = rates(plan, 5)
    assert all(a < b for a, b in pairwise(seen[:10]))
    assert all(a > b for a, b in pairwise(seen[10:]))
