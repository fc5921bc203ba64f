from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.variables.fourier import Fourier

SEEDS = (3, 5)
GREY = Fourier(noise=0.1, decorrelate=False)
sizes = st.tuples(st.integers(4, 13), st.integers(4, 13))


def started(variable: Fourier, size: tuple[int, int]) -> Params:
    params = variable.start(Scene(size), Randomness(SEEDS))
    return {"spectrum": params["spectrum"].double()}


def spectrum(image: Tensor) -> Tensor:
    """Of what goes into the sigmoid, in units that do not depend on the size."""
    return torch.fft.fft2(torch.logit(image.double()), norm="forward")


def coefficient(image: Tensor, row: int, column: int) -> Tensor:
    return spectrum(image)[:, :, row, column]


@given(old=sizes, new=sizes)
def test_resizing_keeps_every_frequency_that_both_sizes_hold(
    old: tuple[int, int], new: tuple[int, int]
) -> None:
    params = started(GREY, old)
    before, after = (
        GREY.image(params, Scene(old)),
        GREY.image(GREY.resize(params, old, new), Scene(new)),
    )
    rows = (min(old[0], new[0]) - 1) // 2  # the highest below the Nyquist frequency of both
    columns = (min(old[1], new[1]) - 1) // 2
    for row in range(-rows, rows + 1):
        for column in range(columns + 1):
            torch.testing.assert_close(
                coefficient(after, row, column),
                coefficient(before, row, column),
                atol=1e-9,
                rtol=1e-6,
            )


@given(old=sizes, grow=st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_what_is_new_at_a_larger_size_starts_at_zero(
    old: tuple[int, int], grow: tuple[int, int]
) -> None:
    new = (old[0] + grow[0], old[1] + grow[1])
    image = GREY.image(GREY.resize(started(GREY, old), old, new), Scene(new))
    for row in range(old[0] // 2 + 1, (new[0] - 1) // 2 + 1):
        assert coefficient(image, row, 0).abs().max() < 1e-9
    for column in range(old[1] // 2 + 1, (new[1] - 1) // 2 + 1):
        assert coefficient(image, 0, column).abs().max() < 1e-9


@pytest.mark.parametrize("width", [9, 12, 17])
def test_the_highest_frequency_is_shared_with_its_mirror(width: int) -> None:
    old, new = (6, 8), (6, width)
    params = started(GREY, old)
    before, after = (
        GREY.image(params, Scene(old)),
        GREY.image(GREY.resize(params, old, new), Scene(new)),
    )
    wanted = coefficient(before, 0, 4) / 2
    torch.testing.assert_close(coefficient(after, 0, 4).real, wanted.real)
    torch.testing.assert_close(coefficient(after, 0, -4).real, wanted.real)


@pytest.mark.parametrize("odd", [0, 1])
def test_there_and_back_is_where_it_was(odd: int) -> None:
    old, new = (8 + odd, 10 + odd), (16, 21)
    variable = Fourier(noise=0.3)
    params = started(variable, old)
    back = variable.resize(variable.resize(params, old, new), new, old)
    assert back["spectrum"].shape == params["spectrum"].shape
    torch.testing.assert_close(back["spectrum"], params["spectrum"], atol=1e-9, rtol=1e-6)
    assert variable.resize(params, old, old) is params


@pytest.mark.parametrize("new", [(24, 32), (48, 64), (17, 33)])
def test_contrast_does_not_change_with_size(new: tuple[int, int]) -> None:
    """A resized picture keeps its mean and its deviation, and so does a picture of fresh noise."""
    old, variable = (12, 16), Fourier(noise=0.1)
    params = started(variable, old)
    before, after = variable.image(params, Scene(old)), variable.image(
        variable.resize(params, old, new), Scene(new))  # fmt: skip
    torch.testing.assert_close(before.mean((2, 3)), after.mean((2, 3)), atol=0.01, rtol=0)
    torch.testing.assert_close(before.std((2, 3)), after.std((2, 3)), rtol=0.15, atol=0)
    fresh = variable.image(started(variable, new), Scene(new)).std()
    assert 0.6 < (fresh / before.std()).item() < 1.8


def test_pixels_are_between_zero_and_one() -> None:
    variable = Fourier(noise=2.0)
    image = variable.image(started(variable, (9, 12)), Scene((9, 12)))
    assert image.shape == (2, 3, 9, 12)
    assert image.min() >= 0
    assert image.max() <= 1
    small = Fourier(noise=0.01)
    assert (small.image(started(small, (9, 12)), Scene((9, 12))) - 0.5).abs().max() < 0.2


def test_the_start_has_the_size_it_is_told() -> None:
    params = started(Fourier(noise=0.02), (32, 32))["spectrum"]
    assert params.shape == (2, 3, 32, 17, 2)
    assert params.std().item() == pytest.approx(0.02, rel=0.05)


def test_every_coefficient_moves_the_image_in_proportion_to_its_wavelength() -> None:
    size = (16, 16)
    for row, column in ((0, 1), (2, 0), (3, 4), (-5, 2)):
        params = torch.zeros(1, 3, 16, 9, 2)
        params[:, :, row, column, 0] = 0.01
        found = torch.logit(Fourier(decorrelate=False).image({"spectrum": params}, Scene(size))) / 4
        amplitude = found.abs().max().item()
        frequency = (row**2 + column**2) ** 0.5
        twice = 1 if column == 0 else 2  # its mirror is stored too, where column is 0
        assert amplitude == pytest.approx(0.01 * twice / frequency, rel=0.01)


def test_the_first_colour_is_grey_and_the_others_are_contrasts() -> None:
    shifts = []
    for k in range(3):
        params = torch.zeros(1, 3, 8, 5, 2)
        params[:, k, 0, 0, 0] = 0.01
        shifts.append(torch.logit(Fourier().image({"spectrum": params}, Scene((8, 8))))[0, :, 0, 0])
    grey, blue_yellow, green = shifts
    assert (grey > 0).all()
    assert (grey.max() / grey.min()).item() < 1.1
    assert blue_yellow[1].item() == pytest.approx(0, abs=1e-6)
    assert blue_yellow[0].item() == pytest.approx(-blue_yellow[2].item(), rel=1e-3)
    assert green[1] < 0 < green[0]
    assert grey.norm() > blue_yellow.norm() > green.norm()


def test_decay_is_the_power_by_which_frequencies_fall() -> None:
    params = {"spectrum": torch.zeros(1, 3, 16, 9, 2, dtype=torch.float64)}
    params["spectrum"][:, 0, 3, 4, 0] = 0.01  # 3 down and 4 across: a frequency of 5
    plain, steep = (
        coefficient(Fourier(decorrelate=False, decay=decay).image(params, Scene((16, 16))), 3, 4)
        for decay in (1.0, 2.5)
    )
    torch.testing.assert_close(plain[0, 0] / steep[0, 0], torch.tensor(5**1.5 + 0j).to(plain))
