from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invertkit.apps.ablation.table import Ablation, AblationRow


def measured(values: dict[str, dict[str, list[float]]], *, state: str = "finished") -> Ablation:
    """An ablation with an IoU for each variant, edit and seed."""
    rows = [
        AblationRow(edit, variant, seed, state, {"mask_iou": iou, "patch_distance": 1 - iou})  # type: ignore[arg-type]
        for variant, edits in values.items()
        for edit, ious in edits.items()
        for seed, iou in enumerate(ious)
    ]
    return Ablation(tuple(rows), {variant: {} for variant in values}, {}, {})


def test_differences_are_of_the_same_edit_and_seeds_are_averaged_first() -> None:
    made = measured(
        {
            "base": {"a": [0.2, 0.4], "b": [0.8], "c": [0.5]},
            "other": {"a": [0.4, 0.4], "b": [0.7], "d": [0.9]},
        }
    )
    (line,) = made.differences()
    assert (line["variant"], line["from"], line["edits"]) == ("other", "base", 2)
    # +0.1 and -0.1: the mean is 0, its error 0.1, and t with one degree of freedom 12.706.
    assert line["mask_iou"] == pytest.approx((0.0, -1.2706, 1.2706), abs=1e-4)
    assert line["patch_distance"] == pytest.approx((0.0, -1.2706, 1.2706), abs=1e-4)


@given(
    offsets=st.lists(st.floats(0, 100), min_size=3, max_size=6),
    gains=st.lists(st.floats(-1, 1), min_size=3, max_size=3),
)
def test_what_an_edit_adds_to_all_variants_does_not_count(
    offsets: list[float], gains: list[float]
) -> None:
    def differences(by: list[float]) -> tuple[float, ...]:
        edits = [f"edit {i}" for i in range(3)]
        base = {edit: [by[i]] for i, edit in enumerate(edits)}
        other = {edit: [by[i] + gains[i]] for i, edit in enumerate(edits)}
        (line,) = measured({"base": base, "other": other}).differences()
        return tuple(line["mask_iou"])

    assert differences(offsets) == pytest.approx(differences([0.0] * 3), abs=1e-9)


def test_what_is_not_finished_is_not_compared() -> None:
    one = {"a": [0.5], "b": [0.5]}
    made = measured({"base": one, "other": one}, state="failed")
    (line,) = made.differences()
    assert line == {"variant": "other", "from": "base", "edits": 0}
    assert "less base" not in made.table()
    assert measured({"base": one}).differences() == []
    assert Ablation((), {}, {}, {}).differences() == []


def test_the_text_shows_differences_with_their_signs() -> None:
    made = measured({"base": {"a": [0.5], "b": [0.5]}, "worse": {"a": [0.3], "b": [0.4]}})
    assert made.table().splitlines()[-2:] == [
        "less base  edits  mask IoU                   patch distance",
        "worse      2      -0.150 (-0.785 to +0.485)  +0.1500 (-0.4853 to +0.7853)",
    ]
    (line,) = measured({"base": {"a": [0.5]}, "worse": {"a": [0.4]}}).differences()
    assert math.isnan(line["mask_iou"][1])
