from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invertkit.errors import InputError
from invertkit.models.generators.layer_choice import layer_strengths

SIDES = st.lists(st.sampled_from([4, 8, 16, 32, 64]), min_size=1, max_size=12).map(sorted)


@given(sides=SIDES)
def test_early_and_late_are_all_and_share_nothing(sides: list[int]) -> None:
    early, late = layer_strengths("early", sides), layer_strengths("late", sides)
    assert all(a + b == 1 for a, b in zip(early, late, strict=True))
    first = layer_strengths("first", sides)
    assert [side for side, on in zip(sides, first, strict=True) if on] == [
        side for side in sides if side == min(sides)
    ]
    assert layer_strengths("all", sides) == (1.0,) * len(sides)
    assert layer_strengths("none", sides) == (0.0,) * len(sides)
    if early.count(1) and late.count(1):
        assert max(s for s, on in zip(sides, early, strict=True) if on) < min(
            s for s, on in zip(sides, late, strict=True) if on
        )


@given(sides=SIDES, data=st.data())
def test_numbers_and_strengths(sides: list[int], data: st.DataObject) -> None:
    numbers = data.draw(st.sets(st.integers(0, len(sides) - 1)))
    strengths = {number: data.draw(st.floats(0, 1)) for number in numbers}
    assert layer_strengths(sorted(numbers), sides) == tuple(
        float(number in numbers) for number in range(len(sides))
    )
    assert layer_strengths(strengths, sides) == tuple(
        strengths.get(number, 0.0) for number in range(len(sides))
    )


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("frist", "Did you mean 'first'?"),
        ([3], "there are 3, 0 to 2, with sides 4, 8, 8; got 3"),
        ([-1], "got -1"),
        ({1: 1.5}, r"in \[0, 1\]; layer 1 has 1.5"),
        (["bn"], "got 'bn'"),
        (0.5, "got 0.5"),
    ],
)
def test_what_is_no_choice_is_refused(choice: object, told: str) -> None:
    with pytest.raises(InputError, match=told):
        layer_strengths(choice, (4, 8, 8))  # type: ignore[arg-type]
