from __future__ import annotations

import pytest
import torch
from torch import Tensor

from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.variables.pixels import Pixels
from invertkit.variables.wrappers import Jitter
from tests.helpers import uniform


def shown(jitter: Jitter, image: Tensor, step: int, seeds: tuple[int, ...] = (0,)) -> Tensor:
    size = (image.shape[-2], image.shape[-1])
    return jitter.look({"pixels": image}, Scene(size), Randomness(seeds), step)


def test_a_look_is_a_shift_within_reach_and_every_shift_occurs() -> None:
    jitter = Jitter(inner=Pixels(), pixels=2, at=8)
    image, found = uniform(1, 3, 8, 8, dtype=torch.float32), set()
    for step in range(200):
        look = shown(jitter, image, step)
        shifts = {
            (y, x)
            for y in range(-2, 3)
            for x in range(-2, 3)
            if torch.equal(look, image.roll((y, x), (2, 3)))
        }
        assert len(shifts) == 1
        found |= shifts
    assert len(found) == 25


def test_the_reach_follows_the_size_of_the_stage() -> None:
    jitter = Jitter(inner=Pixels(), pixels=4, at=16)  # 2 at 8
    image = torch.zeros(1, 3, 8, 8)
    image[..., 4, 4] = 1
    for step in range(60):
        place = shown(jitter, image, step)[0, 0].nonzero()[0] - 4
        assert place.abs().max() <= 2


@pytest.mark.parametrize(("flip", "low", "high"), [(0.0, 0, 0), (1.0, 200, 200), (0.5, 75, 125)])
def test_it_mirrors_as_often_as_it_is_told(flip: float, low: int, high: int) -> None:
    jitter = Jitter(inner=Pixels(), pixels=1, at=1000, flip=flip)  # no shift at 8
    image = uniform(1, 3, 8, 8, dtype=torch.float32)
    mirrored = 0
    for step in range(200):
        look = shown(jitter, image, step)
        mirrored += torch.equal(look, image.flip(3))
        assert torch.equal(look, image.flip(3)) or torch.equal(look, image)
    assert low <= mirrored <= high


def test_each_image_moves_by_its_own_seed_and_step() -> None:
    jitter = Jitter(inner=Pixels(), pixels=3, at=8)
    images = uniform(1, 3, 8, 8, dtype=torch.float32).expand(4, -1, -1, -1)
    looks = shown(jitter, images, 0, (0, 1, 2, 3))
    assert torch.equal(looks[2:3], shown(jitter, images[:1], 0, (2,)))
    assert any(not torch.equal(looks[0], look) for look in looks[1:])
    later = [shown(jitter, images[:1], step) for step in range(4)]
    assert any(not torch.equal(later[0], look) for look in later[1:])


def test_what_is_saved_does_not_move() -> None:
    jitter = Jitter(inner=Pixels(), pixels=3, at=8, flip=1.0)
    image = uniform(1, 3, 8, 8, dtype=torch.float32)
    assert jitter.moves_pixels
    assert torch.equal(jitter.image({"pixels": image}, Scene((8, 8))), image)
    assert not Pixels().moves_pixels
