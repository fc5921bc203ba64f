"""Photographs and made pictures are changed alike, differentiably."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invertkit.training.generator.augmentation import CHANGES, changed
from tests.helpers import uniform


def draws(*, hole: tuple[float, float] = (9.0, 9.0), **set_: float) -> torch.Tensor:
    """Nothing changes but what is set; a hole at 9 is outside."""
    names = ("brightness", "saturation", "contrast", "across", "down")
    return torch.tensor([[set_.get(name, 0.5) for name in names] + list(hole)]).double()


def test_the_middle_of_all_draws_changes_nothing_but_the_size() -> None:
    image = uniform(1, 3, 8, 8) * 2 - 1
    torch.testing.assert_close(changed(image, draws(), size=8), image, rtol=1e-6, atol=1e-6)
    larger = torch.nn.functional.interpolate(image, (12, 12), mode="bilinear", align_corners=False)
    inside = changed(image, draws(), size=12)[..., 1:-1, 1:-1]
    torch.testing.assert_close(inside, larger[..., 1:-1, 1:-1], rtol=1e-6, atol=1e-6)


def test_colours_are_those_of_diffaugment() -> None:
    image = uniform(1, 3, 8, 8) * 2 - 1
    brighter = changed(image, draws(brightness=0.75), size=8)
    torch.testing.assert_close(brighter, image + 0.25, rtol=1e-6, atol=1e-6)
    grey = changed(image, draws(saturation=0.0), size=8)
    torch.testing.assert_close(grey, image.mean(1, keepdim=True).expand_as(image))
    flat = changed(image, draws(contrast=0.0), size=8)
    middle = image.mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(flat, (image - middle) / 2 + middle, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("across", "pixels"), [(1.0, 2), (0.75, 1), (0.0, -2)])
def test_a_shift_is_up_to_an_eighth_and_grey_comes_in(across: float, pixels: int) -> None:
    image = uniform(1, 3, 16, 16) * 2 - 1
    moved = changed(image, draws(across=across), size=16)
    rolled = image.roll(-pixels, 3)
    (rolled[..., -pixels:] if pixels > 0 else rolled[..., :-pixels]).zero_()
    torch.testing.assert_close(moved, rolled, rtol=1e-6, atol=1e-6)


@given(row=st.floats(0, 1), column=st.floats(0, 1))
def test_the_hole_has_a_third_of_the_side_and_may_reach_over_the_edge(
    row: float, column: float
) -> None:
    image = torch.ones(1, 3, 24, 24, dtype=torch.float64)
    seen = changed(image, draws(hole=(row, column)), size=24)
    hole = seen[0, 0] == 0
    heights, widths = int(hole.any(1).sum()), int(hole.any(0).sum())
    assert hole.sum() == heights * widths  # a rectangle
    for place, side in ((row, heights), (column, widths)):
        assert 3 <= side <= 9
        assert side in (7, 8, 9) or not 0.17 < place < 0.83


def test_gradients_flow_and_pictures_are_changed_one_by_one() -> None:
    image = (uniform(2, 3, 6, 6) * 2 - 1).requires_grad_()
    numbers = torch.rand(2, CHANGES, generator=torch.Generator().manual_seed(0)).double()
    pull = uniform(2, 3, 9, 9, seed=1)
    assert torch.autograd.gradcheck(lambda x: (changed(x, numbers, size=9) * pull).sum(), (image,))
    alone = changed(image[1:], numbers[1:], size=9)
    torch.testing.assert_close(changed(image, numbers, size=9)[1:], alone)
