from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from invertkit.core.images.augment import Augmentation
from invertkit.core.randomness import Randomness
from invertkit.errors import RecipeError
from tests.helpers import uniform

HEIGHT, WIDTH = 24, 36


def shown(
    seen: Augmentation, image: Tensor, step: int = 0, seeds: tuple[int, ...] = (0,)
) -> Tensor:
    return seen(image, Randomness(seeds), step)


def places() -> Tensor:
    """A picture that says of every pixel where it is: column, row and nothing, `(1, 3, h, w)`."""
    rows, columns = torch.meshgrid(
        torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij"
    )
    return torch.stack([columns, rows, torch.zeros_like(rows)])[None]


def middle(look: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of a look at `places`: what is in its middle, a step to the right, and a step down."""
    y, x = HEIGHT // 2, WIDTH // 2
    here = look[0, :2, y, x]
    centre = look[0, :2, y - 1 : y + 1, x - 1 : x + 1].mean((1, 2))
    return centre, look[0, :2, y, x + 1] - here, look[0, :2, y + 1, x] - here


def test_with_nothing_to_change_the_look_is_the_picture() -> None:
    image = uniform(2, 3, 7, 9, dtype=torch.float32)
    torch.testing.assert_close(shown(Augmentation(), image, seeds=(0, 1)), image)


def test_a_crop_is_a_part_of_the_picture_and_reaches_its_edges() -> None:
    side, lowest, highest = 0.5, [], []
    for step in range(200):
        centre, right, down = middle(shown(Augmentation(zoom=(side, side)), places(), step))
        torch.testing.assert_close(right, torch.tensor([side, 0.0]), atol=1e-4, rtol=0)
        torch.testing.assert_close(down, torch.tensor([0.0, side]), atol=1e-4, rtol=0)
        half = side * torch.tensor([WIDTH, HEIGHT]) / 2
        lowest.append(centre - half)
        highest.append(torch.tensor([WIDTH, HEIGHT]) - centre - half)
    for margin in (torch.stack(lowest), torch.stack(highest)):
        assert margin.min() > -1e-3
        assert (margin.min(0).values < 1).all()  # some crop ends within a pixel of every edge


def test_a_crop_larger_than_the_picture_shows_all_of_it() -> None:
    image = torch.zeros(1, 3, HEIGHT, WIDTH)
    image[..., 2:-2, 2:-2] = 1
    for step in range(40):
        look = shown(Augmentation(zoom=(1.5, 1.5)), image, step)
        # 1.5 times smaller along either axis, and mirrored around: what was one comes at least once
        assert look.sum() > 0.95 * image.sum() / 1.5**2


def test_sides_are_drawn_between_the_two() -> None:
    sides = [
        middle(shown(Augmentation(zoom=(0.4, 0.8)), places(), step))[1][0] for step in range(300)
    ]
    assert 0.4 - 1e-4 <= min(sides) < 0.42
    assert 0.78 < max(sides) <= 0.8 + 1e-4


def test_a_turned_crop_is_not_sheared_even_where_the_picture_is_no_square() -> None:
    angles = []
    for step in range(100):
        seen = Augmentation(zoom=(0.3, 0.3), rotation=30, flip=0.5)
        _, right, down = middle(shown(seen, places(), step))
        assert right.norm() == pytest.approx(0.3, abs=1e-4)
        assert down.norm() == pytest.approx(0.3, abs=1e-4)
        assert float(right @ down) == pytest.approx(0, abs=1e-4)
        angles.append(math.degrees(math.atan2(float(-down[0]), float(down[1]))))
    assert -30.01 <= min(angles) < -27
    assert 27 < max(angles) <= 30.01


@pytest.mark.parametrize(("flip", "low", "high"), [(0.0, 0, 0), (1.0, 200, 200), (0.5, 75, 125)])
def test_it_mirrors_as_often_as_it_is_told(flip: float, low: int, high: int) -> None:
    image, mirrored = uniform(1, 3, 8, 8, dtype=torch.float32), 0
    for step in range(200):
        look = shown(Augmentation(flip=flip), image, step)
        mirrored += torch.allclose(look, image.flip(3), atol=1e-5)
        assert torch.allclose(look, image, atol=1e-5) or torch.allclose(
            look, image.flip(3), atol=1e-5
        )
    assert low <= mirrored <= high


def test_colours_change_by_channel_as_the_formula_says() -> None:
    image = torch.tensor([0.0, 0.5, 1.0]).expand(1, 3, 1, 3)  # black, grey and white
    contrasts, shifts = [], []
    for step in range(300):
        black, grey, white = shown(Augmentation(colour=0.4), image, step)[0, :, 0].unbind(1)
        torch.testing.assert_close(grey - black, white - grey)
        contrasts.append((white - black).log())
        shifts.append(2 * grey - 1)
    for reach in (torch.stack(contrasts), torch.stack(shifts)):
        assert reach.abs().max() <= 0.4 + 1e-5
        assert (reach.max(0).values > 0.37).all()
        assert (reach.min(0).values < -0.37).all()
        assert abs(torch.corrcoef(reach.T) - torch.eye(3)).max() < 0.2


def test_noise_has_its_deviation() -> None:
    image = torch.full((1, 3, 40, 40), 0.5)
    looks = torch.cat([shown(Augmentation(noise=0.3), image, step) for step in range(5)]) - 0.5
    assert looks.std().item() == pytest.approx(0.3, rel=0.02)
    assert looks.mean().item() == pytest.approx(0, abs=0.01)


def test_each_image_is_seen_by_its_own_seed_and_step() -> None:
    seen = Augmentation((0.6, 1.0), 0.0, 0.5, 0.5, 0.2)
    images = uniform(1, 3, 8, 8, dtype=torch.float32).expand(4, -1, -1, -1)
    looks = shown(seen, images, 0, (0, 1, 2, 3))
    torch.testing.assert_close(looks[2:3], shown(seen, images[:1], 0, (2,)))
    assert all(not torch.allclose(looks[0], look) for look in looks[1:])
    assert not torch.allclose(looks[:1], shown(seen, images[:1], 1, (0,)))


def test_the_smallest_crop_comes_first() -> None:
    with pytest.raises(RecipeError, match=r"zoom: the smallest crop comes first, got \[1.0, 0.5\]"):
        Augmentation(zoom=(1.0, 0.5))
