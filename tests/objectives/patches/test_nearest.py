from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.precision import exactly, products
from invertkit.core.randomness import Randomness
from invertkit.core.view import View
from invertkit.objectives.base import evaluate
from invertkit.objectives.patches.correspondence import grid, register_masks
from invertkit.objectives.patches.nearest import NearestPatches
from invertkit.objectives.patches.search import PatchSearch, SearchOptions
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


# ---------------------------------------------------------------------- the search, by its words

DRIFT, PLACE = 0.3, 0.7


def patches(image: Tensor) -> Tensor:
    """The 3×3 patch around every pixel, borders reflected: (h·w, channels, 9)."""
    padded = F.pad(image, (1, 1, 1, 1), mode="reflect")
    return F.unfold(padded, 3)[0].T.unflatten(1, (image.shape[1], 9))


def slow_goal(
    image: Tensor, reference: Tensor, mask: Tensor, target: Tensor, *, margin: float
) -> Tensor:
    """What the nearest patches say, patch by patch."""
    height, width = image.shape[-2:]
    points = grid((height, width), image).flatten(2)[0].T
    inside, wanted = mask.flatten() > 0, target.flatten() > 0
    rows = torch.arange(height * width)
    offsets = torch.stack([rows // width, rows % width], 1).double()
    edited = (inside | wanted).nonzero()[:, 0]
    free = (torch.cdist(offsets, offsets[edited]) <= margin).any(1)
    touches = patches(free.reshape(1, 1, height, width).double())[:, 0].any(1)
    goal = reference.clone()

    mean = (reference * mask).sum((2, 3), keepdim=True) / mask.sum()
    stronger = min(10.0, max(1.0, (96 / math.sqrt(mask.numel())) ** 3))
    belongs = register_masks(mask, target).flatten(2)[0].T
    of_object = {
        "queries": wanted, "keys": inside,
        "own": patches(image * target + mean * (1 - target)),
        "key": patches(reference * mask + mean * (1 - mask)),
        "here": belongs, "there": points, "far": PLACE * stronger,
        "seen": torch.ones(height * width, 1, 9, dtype=image.dtype),
        "vote": patches(mask).clamp(min=1e-4), "of_key": True,
    }  # fmt: skip
    flat = points * torch.tensor([0.5, 1.0])
    seen = patches(1 - target)
    of_ground = {
        "queries": touches & ~wanted, "keys": ~patches(mask)[:, 0].any(1),
        "own": patches(image), "key": patches(reference),
        "here": flat, "there": flat, "far": DRIFT,
        "seen": seen, "vote": seen, "of_key": False,
    }  # fmt: skip
    for part, place in ((of_ground, ~wanted), (of_object, wanted)):
        total, said = torch.zeros(height + 2, width + 2), torch.zeros(3, height + 2, width + 2)
        keys = part["keys"].nonzero()[:, 0].tolist()
        for q in part["queries"].nonzero()[:, 0].tolist():
            count = 3 * part["seen"][q].sum().clamp(min=1 / 3)
            distances = [
                ((part["own"][q] - part["key"][k]).square() * part["seen"][q]).sum() / count
                + part["far"] * (part["here"][q] - part["there"][k]).square().sum()
                for k in keys
            ]
            best = keys[int(torch.stack(distances).argmin())]
            vote = part["vote"][best if part["of_key"] else q]
            weight = (min(distances) + 1e-4) ** -0.4 * vote.reshape(1, 3, 3)
            y, x = q // width, q % width
            total[y : y + 3, x : x + 3] += weight[0]
            said[:, y : y + 3, x : x + 3] += weight * part["key"][best].reshape(3, 3, 3)
        answer = (said / total.clamp(min=1e-8))[None, :, 1:-1, 1:-1]
        answer = torch.where(total[1:-1, 1:-1] > 0, answer, reference)
        goal = torch.where(place.reshape(height, width), answer, goal)
    return goal


@pytest.mark.parametrize("shift", [(3, 4), (0, 6), (0, 0)])
@pytest.mark.parametrize("margin", [0.0, 1.5])
def test_the_search_does_what_its_words_say(shift: tuple[int, int], margin: float) -> None:
    size = (11, 13)
    reference, image = uniform(1, 3, *size, seed=1), uniform(1, 3, *size, seed=2)
    mask = torch.zeros(1, 1, *size, dtype=reference.dtype)
    mask[..., 2:6, 1:6] = 1
    target = mask.roll(shift, (2, 3))
    options = SearchOptions(
        kernel=3, place=PLACE, drift=DRIFT, coherence=1.0, keys=10**4,
        margin=margin / math.sqrt(size[0] * size[1]),
    )  # fmt: skip
    search = PatchSearch(reference, mask, target, options)
    torch.set_default_dtype(torch.float64)
    try:
        wanted = slow_goal(image, reference, mask, target, margin=margin)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(search.goal(image), wanted, rtol=1e-6, atol=1e-8)


def test_distances_are_exact_whatever_is_asked_of_networks() -> None:
    """On CUDA; here that the setting is put aside inside, and back afterwards."""
    seen: list[bool] = []
    matrices = torch.backends.cuda.matmul
    with products("tf32"):
        assert matrices.allow_tf32
        with exactly():
            seen.append(matrices.allow_tf32)
        assert matrices.allow_tf32
    assert seen == [False]


def test_distances_are_those_of_the_formula() -> None:
    queries, keys = uniform(5, 7, seed=1), uniform(5, 9, seed=2)
    found = torch.ops.invertkit.distances(
        queries.square().sum(0), -2 * queries, keys, keys.square().sum(0)
    )
    torch.testing.assert_close(found, torch.cdist(queries.T, keys.T).square())
    torch.library.opcheck(
        torch.ops.invertkit.distances.default,
        (queries.square().sum(0), -2 * queries, keys, keys.square().sum(0)),
        test_utils=("test_schema", "test_faketensor"),
    )
