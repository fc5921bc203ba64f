"""What an annotation promises about a tensor is checked wherever the tests pass by."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.apps.editing.directions import class_blend
from invertkit.core.view import View
from invertkit.errors import ShapeError
from invertkit.objectives.base import Objective
from invertkit.objectives.functional import total_variation_l1
from tests.helpers import score, setting
from tests.shapes import WrongShapeError, check_of, checked


def test_an_argument_of_another_shape_is_refused() -> None:
    total_variation_l1(torch.rand(2, 3, 4, 5))
    with pytest.raises(WrongShapeError, match=r"total_variation_l1: .*\(3, 4, 5\)"):
        total_variation_l1(torch.rand(3, 4, 5))


def test_what_a_function_refuses_itself_it_may_be_given() -> None:
    with pytest.raises(ShapeError, match="of one length"):
        class_blend(torch.rand(2, 3), torch.rand(4), 0.5)


class Averaged(Objective):
    """Averages over the batch, which no objective may."""

    def forward(self, view: View) -> Float[Tensor, " b"]:
        return view.image.mean()


def test_a_part_whose_result_has_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Averaged, "forward", checked(Averaged.forward))
    objective = Averaged()
    scene = setting(objective)
    with pytest.raises(WrongShapeError, match=r"Averaged.forward: return is Float.*float64 \(\)"):
        score(objective, scene, torch.rand(2, 3, *scene.size, dtype=torch.float64))


def pair(
    first: Float[Tensor, "b n"], *, second: Float[Tensor, "b m"] | None = None
) -> tuple[Float[Tensor, " n"], int]:
    return first[0], len(first) if second is None else len(second)


def test_axes_of_one_name_agree_within_a_call_and_not_between_calls() -> None:
    fits = checked(pair)  # type: ignore[arg-type]
    assert fits(torch.rand(2, 3), second=torch.rand(2, 4))[1] == 2
    assert fits(torch.rand(5, 1), second=None)[1] == 5
    assert fits(torch.rand(5, 1))[1] == 5
    with pytest.raises(WrongShapeError, match="second"):
        fits(torch.rand(2, 3), second=torch.rand(3, 4))


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (list[Float[Tensor, "b _"]], [torch.rand(2, 3), torch.rand(2, 5)], [torch.rand(2)]),
        (dict[str, Float[Tensor, " 3"]], {"a": torch.rand(3)}, {"a": torch.rand(4)}),
        (tuple[int, Float[Tensor, " 3"]], (1, torch.rand(3)), (1, torch.rand(2))),
        (Float[Tensor, " 3"] | str, "word", torch.rand(2)),
    ],
)
def test_shapes_inside_of_what_holds_them(hint: Any, good: Any, bad: Any) -> None:
    fits = check_of(hint)
    assert fits is not None
    assert fits(good)
    assert not fits(bad)


def test_what_names_no_shape_is_left_alone() -> None:
    assert check_of(dict[str, Tensor]) is None
    assert hasattr(total_variation_l1, "__wrapped__")
    assert not hasattr(setting, "__wrapped__")
