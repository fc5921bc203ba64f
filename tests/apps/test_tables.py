from __future__ import annotations

import csv
import io
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from invertkit.apps.tables import csv_of, mean_and_interval

NUMBERS = st.floats(-100, 100, allow_subnormal=False)


@given(values=st.lists(NUMBERS, min_size=2, max_size=12), level=st.floats(0.5, 0.99))
def test_the_interval_is_that_of_the_t_test(values: list[float], level: float) -> None:
    mean, low, high = mean_and_interval(values, level=level)
    assert mean == pytest.approx(sum(values) / len(values), abs=1e-9)
    assert mean - low == pytest.approx(high - mean, abs=1e-9)
    if max(values) - min(values) > 1e-6:  # theirs warns of values that are all but equal
        theirs = stats.ttest_1samp(values, 0.0).confidence_interval(level)
        assert (low, high) == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-9)


def test_the_interval_holds_the_true_mean_as_often_as_it_says() -> None:
    draws = random.Random(0)
    ends = [
        mean_and_interval([draws.gauss(3.0, 2.0) for _ in range(5)], level=0.8)[1:]
        for _ in range(2000)
    ]
    share = sum(low < 3.0 < high for low, high in ends) / len(ends)
    assert share == pytest.approx(0.8, abs=0.03)


def test_a_single_value_has_no_interval() -> None:
    mean, low, high = mean_and_interval([0.25])
    assert mean == 0.25
    assert math.isnan(low)
    assert math.isnan(high)
    assert all(math.isnan(number) for number in mean_and_interval([]))


def test_means_take_a_column_for_each_of_their_numbers() -> None:
    (row,) = csv.DictReader(
        io.StringIO(csv_of([{"name": "a", "iou": (0.5, 0.1), "step": (1.0, 0.5, 1.5)}]))
    )
    assert row == {"name": "a", "iou": "0.5", "iou_error": "0.1",
                   "step": "1.0", "step_low": "0.5", "step_high": "1.5"}  # fmt: skip
