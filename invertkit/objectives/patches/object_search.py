"""Which patches of an object belong where it shall be."""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.objectives.patches.correspondence import grid, register_masks
from invertkit.objectives.patches.distances import squared_distances
from invertkit.objectives.patches.patch_grid import FAINT, Match, PatchGrid

_FULL_SIZE = 96  # from this side on places weigh as asked; below, up to ten times as much


@final
class ObjectSearch:
    """Patches centred in the target look among those centred in the source mask.

    Their distance includes their place: a query of the target belongs somewhere in the source
    (`register_masks`), and a key far from there is far off. What is not the object counts as the
    object's mean colour, in both.

    Args:
        image: The photograph.
        inside: Where its object is, binary.
        wanted: Where it shall be, binary.
        patches: The patches of both.
        place: Weight of the place in the distance.
    """

    def __init__(
        self,
        image: Float[Tensor, "1 3 h w"],
        inside: Float[Tensor, "1 1 h w"],
        wanted: Float[Tensor, "1 1 h w"],
        patches: PatchGrid,
        *,
        place: float,
    ) -> None:
        self._grid, self._wanted = patches, wanted
        self.queries = wanted.flatten().nonzero()[:, 0]
        keys = inside.flatten().nonzero()[:, 0]
        if not len(self.queries) or not len(keys):
            self.queries = self.queries[:0]
            return
        self._colour = (image * inside).sum((2, 3), keepdim=True) / inside.sum()
        self._keys = patches.patches(image * inside + self._colour * (1 - inside))[:, keys]
        side = math.sqrt(patches.size[0] * patches.size[1])
        stronger = min(10.0, max(1.0, (_FULL_SIZE / side) ** 3))
        scale = (place * stronger * self._keys.shape[0]) ** 0.5
        source = scale * grid(patches.size, image).flatten(2)[0]
        goal = scale * register_masks(inside, wanted).flatten(2)[0]
        self._place = goal[:, self.queries]
        # A patch at the edge of the object is worth something outside too, or a pixel that only
        # such patches cover would be left without a vote.
        self._valid = patches.patches(inside)[:, keys].repeat(3, 1).clamp(min=FAINT)
        self._features = torch.cat([self._keys, source[:, keys]])
        self._lengths = self._features.square().sum(0)

    def match(self, image: Float[Tensor, "1 3 h w"]) -> Match:
        """The nearest patch of the object for each patch of the target."""
        filled = image * self._wanted + self._colour * (1 - self._wanted)
        features = torch.cat([self._grid.patches(filled)[:, self.queries], self._place])
        apart = squared_distances(
            features.square().sum(0), -2 * features, self._features, self._lengths
        )
        near, nearest = apart.min(1)
        near = near / self._keys.shape[0]
        return Match(self.queries, self._keys[:, nearest], self._valid[:, nearest], near)
