from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from invertkit.errors import InputError, ShapeError
from invertkit.variables.transforms.base import Transform
from invertkit.variables.transforms.colour import Brightness, Contrast, Gamma, Hue, Saturation
from invertkit.variables.transforms.composition import Composition
from invertkit.variables.transforms.spatial import (
    BIGGAN_CENTRE,
    BIGGAN_SIZE,
    Spatial,
    spatial_start,
)
from tests.helpers import normal, rectangle, uniform

COLOURS: tuple[Transform, ...] = (
    Brightness(),
    Brightness(form="offset"),
    Contrast(),
    Saturation(),
    Hue(),
    Gamma(),
)
MOVES: tuple[Transform, ...] = (Spatial(), Spatial(anisotropic=True))
WHOLE = Composition((Brightness(), Contrast(), Hue(), Spatial()))
ALL: tuple[Transform, ...] = (*COLOURS, *MOVES, WHOLE)
colours = pytest.mark.parametrize("transform", COLOURS, ids=repr)
moves = pytest.mark.parametrize("transform", MOVES, ids=repr)
every = pytest.mark.parametrize("transform", ALL, ids=repr)
seeds = st.integers(0, 999)
scales = st.floats(0.6, 1.6)
shifts = st.floats(-0.4, 0.4)
LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).reshape(1, 3, 1, 1)


def some(transform: Transform, images: int = 2, *, seed: int = 0) -> Tensor:
    """Parameters from the whole range, or from [-1, 1] where it has no ends."""
    low, high = torch.tensor(transform.ranges, dtype=torch.float64).clamp(-1, None).T
    high = torch.where(high.isinf(), 1, high)
    share = uniform(images, transform.size, seed=seed)
    factor = low.abs() * (high / low.abs()) ** share  # as often below 1 as above
    return torch.where(low > 0, factor, low + (high - low) * share)


def near_identity(transform: Transform, images: int = 2, *, seed: int = 0) -> Tensor:
    return transform.identity().double() + 0.1 * normal(images, transform.size, seed=seed)


def smooth(batch: int, size: tuple[int, int]) -> Tensor:
    """Waves of a few periods, the same at every size."""
    y, x = (torch.linspace(0.5 / n, 1 - 0.5 / n, n, dtype=torch.float64) for n in size)
    waves = [
        0.5 + 0.3 * torch.sin(5 * x + 3 * y[:, None] + k) + 0.1 * torch.cos(4 * y[:, None] - k)
        for k in range(3 * batch)
    ]
    return torch.stack(waves).reshape(batch, 3, *size)


def box(mask: Tensor) -> tuple[float, ...]:
    """Centre and size of a soft mask, from its moments: rows, columns; fractions of its sides."""
    found = []
    for axis in (3, 2):
        line = mask.sum((0, 1, axis))
        n = len(line)
        places = (torch.arange(n, dtype=mask.dtype) + 0.5) / n
        found.append(((line * places).sum() / line.sum()).item())
    height = (mask.amax((0, 1, 3))).sum().item() / mask.shape[2]
    width = (mask.amax((0, 1, 2))).sum().item() / mask.shape[3]
    return (*found, height, width)


@every
def test_it_has_as_many_parameters_as_names(transform: Transform) -> None:
    assert transform.size == len(transform.names) == len(transform.ranges)
    assert transform.identity().shape == (transform.size,)
    for value, (low, high) in zip(transform.identity(), transform.ranges, strict=True):
        assert low <= value <= high
    assert {transform: 1}[transform] == 1
    with pytest.raises((FrozenInstanceError, AttributeError)):
        transform.names = ()  # type: ignore[misc]


def test_parameters_are_those_of_the_paper_and_of_the_released_code() -> None:
    assert Spatial().names == ("s", "t_x", "t_y")
    assert Spatial(anisotropic=True).names == ("s_x", "s_y", "t_x", "t_y")
    assert WHOLE.names == ("brightness", "contrast", "hue", "s", "t_x", "t_y")
    assert (BIGGAN_CENTRE, BIGGAN_SIZE) == ((137 / 256, 127 / 256), (213 / 256, 210 / 256))


@every
@given(seed=seeds)
def test_undoing_what_undoes_gives_the_parameters_back(transform: Transform, seed: int) -> None:
    parameters = some(transform, seed=seed)
    back = transform.inverse(transform.inverse(parameters))
    torch.testing.assert_close(back, parameters, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(transform.clamp(parameters), parameters)


@every
def test_what_lies_beyond_the_range_acts_like_its_end(transform: Transform) -> None:
    images = uniform(2, 3, 6, 6)
    wild = torch.full((2, transform.size), -30.0, dtype=torch.float64)
    wild[1] = 30
    ends = transform.clamp(wild)
    assert torch.equal(transform.apply(images, wild, (6, 6)), transform.apply(images, ends, (6, 6)))
    assert torch.equal(transform.inverse(wild), transform.inverse(ends))
    undone = transform.inverse(ends)
    torch.testing.assert_close(transform.clamp(undone), undone)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_identity_changes_nothing(transform: Transform, dtype: torch.dtype) -> None:
    images = 1.4 * uniform(2, 3, 17, 12, dtype=dtype) - 0.2
    parameters = transform.identity().to(dtype).expand(2, -1)
    assert torch.equal(transform.apply(images, parameters, (17, 12)), images)
    assert torch.equal(transform.invert(images, parameters, (17, 12)), images)
    masks = (images[:, :1] > 0.5).to(dtype)
    assert torch.equal(transform.weights(masks, parameters, (17, 12)), masks)
    assert torch.equal(transform.coverage(parameters, (17, 12), (17, 12)).amin(), masks.max())


@colours
@given(seed=seeds)
def test_colours_come_back(transform: Transform, seed: int) -> None:
    images = 1.6 * uniform(3, 3, 4, 5, seed=seed, dtype=torch.float32) - 0.3
    images[0, 0, 0] = 0
    parameters = some(transform, 3, seed=seed).float()
    there = transform.apply(images, parameters, (4, 5))
    back = transform.invert(there, parameters, (4, 5))
    torch.testing.assert_close(back, images, atol=1e-5, rtol=1e-5)
    back = transform.apply(transform.invert(images, parameters, (4, 5)), parameters, (4, 5))
    torch.testing.assert_close(back, images, atol=1e-5, rtol=1e-5)


@colours
def test_colours_leave_masks_alone(transform: Transform) -> None:
    mask = uniform(2, 1, 6, 5)
    parameters = some(transform)
    assert not transform.moves_pixels
    assert torch.equal(transform.weights(mask, parameters, (6, 5)), mask)
    assert torch.equal(transform.invert_weights(mask, parameters, (6, 5)), mask)
    images = uniform(2, 3, 6, 4)
    assert transform.apply(images, parameters, (3, 2)).shape == (2, 3, 3, 2)
    assert transform.weights(images[:, :1], parameters, (3, 2)).shape == (2, 1, 3, 2)


@given(scale_x=scales, scale_y=scales, shift_x=shifts, shift_y=shifts)
def test_what_moved_comes_back(
    scale_x: float, scale_y: float, shift_x: float, shift_y: float
) -> None:
    transform, size, out = Spatial(anisotropic=True), (64, 56), (72, 80)
    images = smooth(2, size)
    parameters = torch.tensor([[scale_x, scale_y, shift_x, shift_y]] * 2, dtype=torch.float64)
    there = transform.apply(images, parameters, out)
    back = transform.invert(there, parameters, size)
    seen = transform.invert_weights(
        transform.coverage(parameters, size, out), parameters, size
    ).expand_as(back)
    valid = seen > 1 - 1e-9
    assert valid.float().mean() > 0.2
    assert (back - images)[valid].abs().max() < 0.01


@every
def test_it_is_undone_by_its_inverse_parameters(transform: Transform) -> None:
    images, parameters = smooth(2, (12, 12)), near_identity(transform)
    undone = transform.invert(images, parameters, (10, 11))
    if not isinstance(transform, Composition):
        wanted = transform.apply(images, transform.inverse(parameters), (10, 11))
        assert torch.equal(undone, wanted)
    else:
        reverse = Composition(tuple(reversed(transform.parts)))
        own = transform.inverse(parameters).split([part.size for part in transform.parts], 1)
        wanted = reverse.apply(images, torch.cat(own[::-1], 1), (10, 11))
        torch.testing.assert_close(undone, wanted)


@given(scale=st.floats(0.1, 0.99), shift_x=shifts, shift_y=shifts)
def test_where_nothing_shrinks_it_is_the_grid_sampler_of_the_released_code(
    scale: float, shift_x: float, shift_y: float
) -> None:
    images = uniform(2, 3, 9, 14)
    parameters = torch.tensor([[scale, shift_x, shift_y]] * 2, dtype=torch.float64)
    theta = torch.tensor([[scale, 0, shift_x], [0, scale, shift_y]], dtype=torch.float64)
    grid = F.affine_grid(theta.expand(2, -1, -1), [2, 3, 10, 15], align_corners=False)
    wanted = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    torch.testing.assert_close(Spatial().apply(images, parameters, (10, 15)), wanted)


@given(height=st.integers(3, 30), width=st.integers(3, 30))
def test_to_another_size_the_identity_is_an_antialiased_resize(height: int, width: int) -> None:
    images = uniform(1, 3, 21, 16)
    parameters = Spatial().identity().double()[None]
    moved = Spatial().apply(images, parameters, (height, width))
    covered = Spatial().coverage(parameters, (21, 16), (height, width))
    wanted = F.interpolate(images, (height, width), mode="bilinear", antialias=True)
    torch.testing.assert_close(moved / covered, wanted)


@given(scale=st.floats(1.9, 12), shift=shifts)
def test_what_is_too_fine_turns_grey(scale: float, shift: float) -> None:
    board = torch.ones(1, 1, 64, 64, dtype=torch.float64)
    board[..., ::2, 1::2] = board[..., 1::2, ::2] = 0
    parameters = torch.tensor([[scale, shift, -shift]], dtype=torch.float64)
    small = Spatial().apply(board, parameters, (64, 64))
    covered = Spatial().coverage(parameters, (64, 64), (64, 64))
    inside = covered > 1 - 1e-9
    assert inside.any()
    assert (small - 0.5)[inside].abs().max() < 0.05
    assert covered.max() < 1 + 1e-9


@given(scale=st.floats(0.05, 20), shift=shifts)
def test_coverage_is_a_share(scale: float, shift: float) -> None:
    parameters = torch.tensor([[scale, shift, -shift]], dtype=torch.float64)
    for covered in (
        Spatial().coverage(parameters, (11, 18), (9, 16)),
        Spatial().invert_coverage(parameters, (11, 18), (9, 16)),
    ):
        assert covered.shape == (1, 1, 9, 16)
        assert covered.min() >= 0
        assert covered.max() <= 1 + 1e-9


def test_coverage_says_where_the_generated_image_reaches() -> None:
    zoom = torch.tensor([[0.5, 0.25, -0.5]], dtype=torch.float64)
    covered = Spatial().invert_coverage(zoom, (32, 32), (32, 32))
    assert box(covered) == pytest.approx((0.25, 0.625, 0.5, 0.5), abs=0.03)
    behind, generated = smooth(1, (32, 32)), torch.full((1, 3, 32, 32), 0.7, dtype=torch.float64)
    pasted = Spatial().invert(generated, zoom, (32, 32)) + (1 - covered) * behind
    torch.testing.assert_close(pasted, covered * 0.7 + (1 - covered) * behind)


def test_a_scale_below_one_zooms_in_and_shifts_are_right_and_down() -> None:
    spot = torch.zeros(1, 1, 40, 40, dtype=torch.float64)
    spot[..., 29:31, 19:21] = 1  # at x = 0, y = 0.5
    plain = Spatial().weights(spot, torch.tensor([[0.5, 0.0, 0.5]]).double(), (40, 40))
    assert box(plain) == pytest.approx((0.5, 0.5, 0.1, 0.1), abs=0.03)
    shifted = Spatial().weights(spot, torch.tensor([[1.0, 0.5, 0.0]]).double(), (40, 40))
    assert box(shifted)[:2] == pytest.approx((0.75, 0.25), abs=1e-6)


@given(scale=scales, shift_x=shifts, shift_y=shifts)
def test_equal_scales_are_one_scale(scale: float, shift_x: float, shift_y: float) -> None:
    images, masks = uniform(1, 3, 8, 9), uniform(1, 1, 8, 9)
    one = torch.tensor([[scale, shift_x, shift_y]], dtype=torch.float64)
    two = torch.tensor([[scale, scale, shift_x, shift_y]], dtype=torch.float64)
    free = Spatial(anisotropic=True)
    assert torch.equal(Spatial().apply(images, one, (7, 9)), free.apply(images, two, (7, 9)))
    assert torch.equal(Spatial().weights(masks, one, (7, 9)), free.weights(masks, two, (7, 9)))
    assert torch.equal(Spatial().invert(images, one, (7, 9)), free.invert(images, two, (7, 9)))


def test_scales_of_their_own_stretch_each_axis() -> None:
    mask = rectangle((40, 40), slice(10, 30), slice(10, 30), torch.float64)
    narrow = Spatial(anisotropic=True).weights(
        mask, torch.tensor([[2.0, 0.5, 0.0, 0.0]]).double(), (40, 40)
    )
    assert box(narrow) == pytest.approx((0.5, 0.5, 1, 0.25), abs=0.06)


@every
def test_images_do_not_see_their_neighbours(transform: Transform) -> None:
    images, parameters = uniform(3, 3, 8, 7), near_identity(transform, 3)
    for method in (transform.apply, transform.invert):
        together = method(images, parameters, (9, 6))
        for i in range(3):
            alone = method(images[i : i + 1], parameters[i : i + 1], (9, 6))
            torch.testing.assert_close(together[i : i + 1], alone)


@every
def test_one_photograph_serves_all_rows(transform: Transform) -> None:
    image, parameters = uniform(1, 3, 8, 7), near_identity(transform, 3)
    for method in (transform.apply, transform.invert):
        shared = method(image, parameters, (9, 6))
        assert shared.shape == (3, 3, 9, 6)
        copies = method(image.expand(3, -1, -1, -1), parameters, (9, 6))
        torch.testing.assert_close(shared, copies)


@every
@pytest.mark.parametrize("way", ["apply", "invert"])
def test_slopes_agree_with_differences(transform: Transform, way: str) -> None:
    images = smooth(2, (9, 8)).requires_grad_()
    parameters = near_identity(transform, seed=3).requires_grad_()
    method: Callable[..., Tensor] = getattr(transform, way)
    assert torch.autograd.gradcheck(
        lambda x, p: method(x, p, (7, 10)), (images, parameters), fast_mode=True, atol=1e-6
    )


@every
def test_slopes_are_finite_and_alive_at_the_identity(transform: Transform) -> None:
    images = smooth(2, (9, 8))
    images[:, :, :3] = 0
    images.requires_grad_()
    parameters = transform.identity().double().expand(2, -1).clone().requires_grad_()
    for method in (transform.apply, transform.invert):
        loss = (method(images, parameters, (9, 8)) - 0.4 * uniform(2, 3, 9, 8)).square().sum()
        for slope in torch.autograd.grad(loss, (images, parameters)):
            assert slope.isfinite().all()
            assert (slope.flatten(1).abs().amax(1) > 0).all()


def test_at_the_identity_a_shift_has_the_central_slope() -> None:
    images = uniform(1, 1, 1, 9)
    shift = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    parameters = torch.stack([torch.ones_like(shift), shift, torch.zeros_like(shift)], 1)
    moved = Spatial().apply(images, parameters, (1, 9))[0, 0, 0, 4]
    (slope,) = torch.autograd.grad(moved, shift)
    wanted = (images[..., 5] - images[..., 3]) / 2 * (9 / 2)
    torch.testing.assert_close(slope, wanted.flatten())


@every
def test_nothing_waits_for_values(transform: Transform, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("This waits for the device.")

    images, parameters = uniform(2, 3, 8, 7), near_identity(transform)
    with monkeypatch.context() as patched:
        for name in ("item", "tolist", "nonzero", "cpu", "__bool__", "__int__", "__float__"):
            patched.setattr(Tensor, name, refuse)
        moved = transform.apply(images, parameters, (5, 6))
        masks = transform.weights(images[:, :1], parameters, (9, 6))
        undone = transform.invert(images, parameters, (9, 6))
        covered = transform.invert_coverage(parameters, (8, 7), (9, 6))
    assert moved.shape == (2, 3, 5, 6)
    assert undone.shape == (2, 3, 9, 6)
    assert masks.shape == (2, 1, 9, 6)
    assert covered.shape[1:] == (1, 9, 6)


@given(seed=seeds)
def test_saturation_and_hue_keep_luma(seed: int) -> None:
    images = uniform(2, 3, 3, 4, seed=seed)
    grey = LUMA.sum(1, keepdim=True) * 0.6 + torch.zeros_like(images)
    for transform in (Saturation(), Hue()):
        parameters = some(transform, seed=seed)
        moved = transform.apply(images, parameters, (3, 4))
        torch.testing.assert_close((moved * LUMA).sum(1), (images * LUMA).sum(1))
        torch.testing.assert_close(transform.apply(grey, parameters, (3, 4)), grey)


@given(first=st.floats(-1, 1), second=st.floats(-1, 1))
def test_turns_of_hue_add_up(first: float, second: float) -> None:
    images = uniform(1, 3, 2, 3)

    def turn(x: Tensor, by: float) -> Tensor:
        return Hue().apply(x, torch.tensor([[by]], dtype=torch.float64), (2, 3))

    torch.testing.assert_close(turn(turn(images, first), second), turn(images, first + second))
    torch.testing.assert_close(turn(images, first), turn(images, first + 1))


def one_pixel(
    transform: Transform, value: float, colour: tuple[float, float, float]
) -> list[float]:
    image = torch.tensor(colour, dtype=torch.float64).reshape(1, 3, 1, 1)
    parameters = torch.tensor([[value]], dtype=torch.float64)
    found: list[float] = transform.apply(image, parameters, (1, 1)).flatten().tolist()
    return found


@pytest.mark.parametrize(
    ("transform", "value", "wanted"),
    [
        (Brightness(), 1.25, [0.25, 0.5, 1.0]),
        (Brightness(form="offset"), 0.25, [0.45, 0.65, 1.05]),
        (Contrast(), 2.0, [-0.1, 0.3, 1.1]),
        (Gamma(), 2.0, [0.04, 0.16, 0.64]),
    ],
    ids=repr,
)
def test_colours_by_hand(transform: Transform, value: float, wanted: list[float]) -> None:
    assert one_pixel(transform, value, (0.2, 0.4, 0.8)) == pytest.approx(wanted)


def test_a_third_of_a_turn_makes_red_green() -> None:
    red, green, blue = one_pixel(Hue(), 1 / 3, (1, 0, 0))
    assert green > red > blue
    red, green, blue = one_pixel(Hue(), -1 / 3, (1, 0, 0))
    assert blue > max(red, green)


def test_gamma_is_one_to_one_down_to_black_and_below() -> None:
    line = torch.linspace(-0.2, 1.2, 999, dtype=torch.float64).expand(1, 3, 1, -1)
    for gamma in (0.25, 0.7, 1.3, 4.0):
        curve = Gamma().apply(line, torch.tensor([[gamma]]).double(), (1, 999))
        assert (curve.diff(dim=-1) > 0).all()
        steps = curve.diff(dim=-1) / line.diff(dim=-1)
        assert steps.max() < 1100
        pure = line.clamp(min=0) ** gamma
        above = line > 0.01 ** (1 / math.sqrt(gamma))
        torch.testing.assert_close(curve[above], pure[above])


def test_a_composition_is_undone_from_the_end() -> None:
    transform = Composition([Contrast(), Brightness(form="offset")])
    parameters = torch.tensor([[2.0, 0.25]], dtype=torch.float64)
    image = uniform(1, 3, 2, 2)
    there = transform.apply(image, parameters, (2, 2))
    torch.testing.assert_close(there, 2 * image - 0.5 + 0.25)
    torch.testing.assert_close(transform.invert(there, parameters, (2, 2)), image)
    in_the_same_order = transform.apply(there, transform.inverse(parameters), (2, 2))
    assert (in_the_same_order - image).abs().min() > 0.1


def test_a_composition_moves_masks_there_and_back() -> None:
    transform = Composition([Brightness(), Spatial(), Contrast()])
    assert transform.moves_pixels
    assert not Composition(COLOURS).moves_pixels
    assert transform.parts == (Brightness(), Spatial(), Contrast())
    mask = rectangle((32, 32), slice(10, 22), slice(8, 20), torch.float64)
    parameters = torch.tensor([[1.2, 0.5, -0.1, 0.0, 1.1]], dtype=torch.float64)
    there = transform.weights(mask, parameters, (48, 48))
    assert torch.equal(there, Spatial().weights(mask, parameters[:, 1:4], (48, 48)))
    back = transform.invert_weights(there, parameters, (32, 32))
    assert box(back) == pytest.approx(box(mask), abs=0.02)


def test_colours_act_before_the_image_is_made_smaller() -> None:
    transform, image = Composition([Gamma(), Spatial()]), uniform(1, 3, 16, 16)
    parameters = torch.tensor([[2.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    wanted = Spatial().apply(image.square(), parameters[:, 1:], (4, 4))
    torch.testing.assert_close(
        transform.apply(image, parameters, (4, 4)), wanted, atol=1e-3, rtol=0
    )
    only = Composition([Gamma()]).apply(image, parameters[:, :1], (4, 4))
    assert only.shape == (1, 3, 4, 4)


@given(
    rows=st.tuples(st.integers(2, 16), st.integers(4, 22)),
    columns=st.tuples(st.integers(2, 20), st.integers(4, 26)),
    centre=st.tuples(st.floats(0.4, 0.6), st.floats(0.4, 0.6)),
)
def test_the_start_puts_the_object_where_the_generator_has_its_own(
    rows: tuple[int, int], columns: tuple[int, int], centre: tuple[float, float]
) -> None:
    (top, height), (left, width) = rows, columns
    mask = rectangle((40, 48), slice(top, top + height), slice(left, left + width), torch.float64)
    for anisotropic in (False, True):
        start = spatial_start(mask, centre=centre, size=(0.7, 0.6), anisotropic=anisotropic)
        there = Spatial(anisotropic=anisotropic).weights(mask, start[None], (128, 128))
        y, x, tall, wide = box(there)
        assert (y, x) == pytest.approx(centre, abs=0.01)
        assert max(tall / 0.7, wide / 0.6) == pytest.approx(1, abs=0.07)


def test_the_start_by_hand_and_as_published() -> None:
    mask = rectangle((100, 200), slice(10, 40), slice(60, 120), torch.float32)
    kind: Any = {"centre": (0.6, 0.5), "size": (0.8, 0.5)}
    exact = spatial_start(mask, **kind)
    assert exact.dtype == mask.dtype
    # s = max(0.3 / 0.8, 0.3 / 0.5) = 0.6; p_m = (-0.5, -0.1) and p̄ = (0.2, 0), rows first
    assert exact.tolist() == pytest.approx([0.6, -0.1, -0.5 - 0.6 * 0.2])
    published = spatial_start(mask, form="published", **kind)
    assert published.tolist() == pytest.approx([0.6, 2 * (0.45 - 0.5), 2 * (0.25 - 0.6)])
    wide = spatial_start(mask, anisotropic=True, **kind)
    assert wide.tolist() == pytest.approx([0.6, *exact.tolist()])


def test_an_object_at_home_starts_at_the_identity() -> None:
    mask = rectangle((256, 256), slice(31, 243), slice(22, 232), torch.float64)
    start = spatial_start(mask, size=(212 / 256, 210 / 256))
    assert start.tolist() == pytest.approx([1, 0, 0], abs=1e-9)


def test_a_tiny_object_starts_at_the_smallest_scale_and_in_place() -> None:
    mask = rectangle((200, 200), slice(40, 41), slice(90, 91), torch.float64)
    start = spatial_start(mask)
    assert start[0] == pytest.approx(0.05)
    assert box(Spatial().weights(mask, start[None], (128, 128)))[:2] == pytest.approx(
        BIGGAN_CENTRE, abs=0.01
    )


def test_what_cannot_be_used_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="mask is empty"):
        spatial_start(torch.full((1, 1, 4, 4), 0.5))
    with pytest.raises(ShapeError, match="one mask"):
        spatial_start(torch.ones(2, 1, 4, 4))
    with pytest.raises(InputError, match="at least one transform"):
        Composition([])
    with pytest.raises(ShapeError, match=r"3\) parameters, s, t_x, t_y; got \(1, 4\)"):
        Spatial().apply(torch.ones(1, 3, 4, 4), torch.ones(1, 4), (4, 4))
    with pytest.raises(ShapeError, match="Composition takes"):
        WHOLE.invert(torch.ones(1, 3, 4, 4), torch.ones(6), (4, 4))
