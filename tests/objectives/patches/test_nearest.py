from __future__ import annotations

import torch

from invertkit.core.randomness import Randomness
from invertkit.core.view import View
from invertkit.objectives.base import evaluate
from invertkit.objectives.patches.nearest import NearestPatches
from tests.helpers import scene_of, uniform


def test_a_moved_object_of_the_reference_is_what_the_patches_ask_for() -> None:
    reference = uniform(1, 3, 40, 40, seed=1)
    mask = torch.zeros(1, 1, 40, 40, dtype=reference.dtype)
    mask[..., 10:22, 4:16] = 1
    target = mask.roll((6, 18), (2, 3))
    moved = reference.roll((6, 18), (2, 3)) * target + reference * (1 - target)
    scene = scene_of((40, 40), reference, mask, target)
    term = NearestPatches()
    term.prepare(View(reference, scene, Randomness((0,)), is_reference=True))
    right = evaluate(term, View(moved, scene, Randomness((0,))), "object")
    wrong = evaluate(term, View(reference, scene, Randomness((0,)), now=8), "object")
    assert right.item() < 1e-6
    assert wrong.item() > 1e-3
