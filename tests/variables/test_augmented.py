from __future__ import annotations

import pytest
import torch

from invertkit.core.images.augment import Augmentation
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.errors import RecipeError
from invertkit.variables.augmented import Augmented
from invertkit.variables.pixels import Pixels
from tests.helpers import uniform


def test_a_look_is_the_inner_picture_augmented() -> None:
    variable = Augmented(
        inner=Pixels(), zoom=(0.4, 1.2), rotation=5, flip=0.3, colour=0.1, noise=0.1
    )
    image, randomness = uniform(2, 3, 6, 8, dtype=torch.float32), Randomness((3, 4))
    looks = variable.look({"pixels": image}, Scene((6, 8)), randomness, 7)
    wanted = Augmentation((0.4, 1.2), 5, 0.3, 0.1, 0.1)(image, randomness, 7)
    assert torch.equal(looks, wanted)
    assert not torch.allclose(looks, image)


def test_what_is_saved_is_neither_cropped_nor_noisy() -> None:
    variable, image = Augmented(inner=Pixels()), uniform(1, 3, 8, 8, dtype=torch.float32)
    params, scene = {"pixels": image}, Scene((8, 8))
    assert variable.moves_pixels
    assert torch.equal(variable.image(params, scene), image)
    look = variable.look(params, scene, Randomness((0,)), 0)
    assert torch.equal(variable.still(look, params, scene), image)


def test_the_smallest_crop_comes_first() -> None:
    with pytest.raises(RecipeError, match=r"zoom: the smallest crop comes first, got \[1.0, 0.5\]"):
        Augmented(inner=Pixels(), zoom=(1.0, 0.5))
