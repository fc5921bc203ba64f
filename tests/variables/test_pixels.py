from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from invertkit.core.pixel_space import IMAGENET_MEAN, IMAGENET_STD, from_space, in_space
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.errors import InputError
from invertkit.variables.pixels import Pixels
from tests.helpers import SIZE, make_scene, uniform

SEEDS = (3, 5)


spaces = pytest.mark.parametrize("space", ["unit", "imagenet"])


def scene32() -> Scene:
    return make_scene(dtype=torch.float32)


def started(variable: Pixels, scene: Scene | None = None) -> Tensor:
    params = variable.start(scene or scene32(), Randomness(SEEDS))
    return variable.image(params, Scene(SIZE))


def smooth(size: tuple[int, int]) -> Tensor:
    """A slow ramp to the right, a slower one down; the same picture at every size."""
    y, x = (torch.linspace(0.5 / n, 1 - 0.5 / n, n) for n in size)
    return (0.2 + 0.4 * x[None, :] + 0.2 * y[:, None]).expand(1, 3, *size)


@given(space=st.sampled_from(["unit", "imagenet"]), seed=st.integers(0, 99))
def test_units_are_there_and_back(space: Any, seed: int) -> None:
    image = uniform(2, 3, 2, 3, seed=seed)
    torch.testing.assert_close(from_space(in_space(image, space), space), image)


@spaces
def test_noise_has_its_size_in_the_units_of_the_space(space: Any) -> None:
    scene = replace(scene32(), size=(64, 64))
    params = Pixels(space=space, noise=0.5).start(scene, Randomness(SEEDS))["pixels"]
    assert params.std((1, 2, 3)).tolist() == pytest.approx([0.5, 0.5], rel=0.05)
    assert params.mean().item() == pytest.approx(0, abs=0.02)
    assert torch.equal(params, 0.5 * Randomness(SEEDS).normal("start", (3, 64, 64)))


def test_normalised_pixels_become_an_image_by_the_statistics_of_imagenet() -> None:
    pixels = torch.tensor([1.0, -1.0, 0.5]).reshape(1, 3, 1, 1).expand(1, 3, *SIZE)
    image = Pixels(space="imagenet").image({"pixels": pixels}, Scene(SIZE))
    wanted = [m + s * v for m, s, v in zip(IMAGENET_MEAN, IMAGENET_STD, (1, -1, 0.5), strict=True)]
    assert image[0, :, 0, 0].tolist() == pytest.approx(wanted)
    assert torch.equal(Pixels().image({"pixels": pixels}, Scene(SIZE)), pixels)


@spaces
def test_without_noise_it_starts_where_it_is_told(space: Any) -> None:
    scene = scene32()
    reference, mask, target = scene.reference, scene.inputs["mask"], scene.inputs["target"]
    assert reference is not None
    assert mask is not None
    assert target is not None

    def close(variable: Pixels, wanted: Tensor) -> None:
        torch.testing.assert_close(
            started(variable), wanted.expand(2, -1, -1, -1), atol=1e-5, rtol=1e-5
        )

    close(Pixels(space=space, start="image", noise=0), reference)
    colour = torch.tensor([0.2, 0.4, 0.6]).reshape(1, 3, 1, 1).expand(1, 3, *SIZE)
    close(Pixels(space=space, start="constant", colour=(0.2, 0.4, 0.6), noise=0), colour)
    inside = reference[0][:, mask[0, 0] == 1].mean(1).reshape(1, 3, 1, 1)
    outside = reference[0][:, mask[0, 0] == 0].mean(1).reshape(1, 3, 1, 1)
    means = torch.where(target == 1, inside, outside)
    close(Pixels(space=space, start="region_means", noise=0), means)


def test_noise_is_added_to_any_start() -> None:
    plain, noisy = (Pixels(start="constant", noise=n) for n in (0.0, 0.1))
    difference = started(noisy) - started(plain)
    torch.testing.assert_close(difference, 0.1 * Randomness(SEEDS).normal("start", (3, *SIZE)))


def test_a_start_without_what_it_needs_is_an_error() -> None:
    bare = Scene(SIZE)
    for start in ("image", "region_means"):
        with pytest.raises(InputError, match=f"{start}.*give an image"):
            started(Pixels(start=start), bare)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a mask and a target"):
        started(Pixels(start="region_means"), make_scene(dtype=torch.float32, masks=False))


@spaces
@pytest.mark.parametrize("new", [(32, 40), (8, 10), (24, 20), (17, 33)])
def test_resizing_keeps_the_picture(space: Any, new: tuple[int, int]) -> None:
    variable = Pixels(space=space)
    params = {"pixels": in_space(smooth(SIZE), space)}
    resized = variable.resize(params, SIZE, new)
    found = variable.image(resized, Scene(new))
    assert found.shape == (1, 3, *new)
    assert (found - smooth(new))[:, :, 1:-1, 1:-1].abs().max() < 0.03
    assert variable.resize(params, SIZE, SIZE) is params


def test_a_tensor_of_fixed_size_is_averaged_for_smaller_stages() -> None:
    variable = Pixels(size=8, noise=0.5)
    params = variable.start(replace(scene32(), size=(4, 4)), Randomness(SEEDS))
    assert params["pixels"].shape == (2, 3, 8, 8)
    small = variable.image(params, Scene((4, 4)))
    for y in range(4):
        for x in range(4):
            cell = params["pixels"][:, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((2, 3))
            torch.testing.assert_close(small[:, :, y, x], cell)
    assert variable.resize(params, (4, 4), (8, 8)) is params
    assert torch.equal(variable.image(params, Scene((8, 8))), params["pixels"])
