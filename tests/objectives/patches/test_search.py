"""The search, by its words."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from invertkit.objectives.patches.correspondence import grid, register_masks
from invertkit.objectives.patches.search import PatchSearch, SearchOptions
from tests.helpers import uniform

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
