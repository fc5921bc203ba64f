"""Which patches of the background belong around the object, and where it was."""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.images.resize import grow_mask
from invertkit.objectives.patches.correspondence import choose_keys, grid
from invertkit.objectives.patches.distances import squared_distances
from invertkit.objectives.patches.patch_grid import Match, PatchGrid

_FEW = 60  # background patches below which less pure ones are taken too
_BESIDE = 2 / 128  # width of the ring around the source object that is not background, of the side


@final
class BackgroundSearch:
    """Patches around the masks look among those of the photograph that touch no object pixel.

    Their distance is that of the pixels which the new object leaves to be seen, with a weaker
    place than for the object; a key that continues a neighbour's piece is preferred.

    Args:
        image: The photograph.
        inside: Where its object is, binary.
        wanted: Where it shall be, binary.
        free: Pixels that are asked to change.
        patches: The patches of photograph and image.
        drift: Weight of the place in the distance.
        coherence: See `choose_keys`.
        most: How many keys are considered: the nearest to the place that is filled.
    """

    def __init__(
        self,
        image: Float[Tensor, "1 3 h w"],
        inside: Float[Tensor, "1 1 h w"],
        wanted: Float[Tensor, "1 1 h w"],
        free: Float[Tensor, "1 1 h w"],
        patches: PatchGrid,
        *,
        drift: float,
        coherence: float,
        most: int,
    ) -> None:
        self._grid, self._coherence = patches, coherence
        side = patches.side
        touched = F.max_pool2d(free, side, 1, side // 2) * (1 - wanted)
        self.queries = touched.flatten().nonzero()[:, 0]
        keys = _pure(inside, patches)
        if not len(keys):
            self.queries = self.queries[:0]
            return
        if len(keys) > most:
            hole = (free * (1 - wanted))[0, 0]
            keys = keys[_distance_to(hole).flatten()[keys].argsort(stable=True)[:most]]
        self._places, self._keys = keys, patches.patches(image)[:, keys]
        stretch = image.new_tensor([0.5, 1.0]).reshape(2, 1)  # sky stays above ground
        places = math.sqrt(drift) * stretch * grid(patches.size, image).flatten(2)[0]
        seen = patches.patches(1 - wanted)[:, self.queries].repeat(3, 1)
        # First those patches that have no pixel of the new object: their distances need one
        # product less.
        whole = seen.all(0)
        order = torch.cat([whole.nonzero()[:, 0], (~whole).nonzero()[:, 0]])
        self._whole = int(whole.sum())
        self.queries, self._seen = self.queries[order], seen[:, order]
        self._place = places[:, self.queries]
        self._features = torch.cat([self._keys, places[:, keys], self._keys.square()])
        self._lengths = places[:, keys].square().sum(0)

    def match(self, image: Float[Tensor, "1 3 h w"]) -> Match:
        """The chosen patch of the background for each patch that searches."""
        near, nearest = choose_keys(
            self._distances(image),
            self.queries,
            self._places,
            self._grid.size,
            coherence=self._coherence,
        )
        return Match(self.queries, self._keys[:, nearest], self._seen, near)

    def _distances(self, image: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "q k"]:
        """For one pixel and channel, over the pixels of each patch that are to be seen."""
        seen, places, features = self._seen, self._place, self._features
        count = seen.sum(0).clamp(min=1)
        patches = self._grid.patches(image)[:, self.queries] * seen
        squares = patches.square().sum(0) / count + places.square().sum(0)
        # |key|² is the same for all patches that are seen whole; for others it is a product too
        cross = torch.cat([-2 * patches / count, -2 * places, seen / count])
        whole, linear = self._whole, len(patches) + len(places)
        lengths = self._lengths + features[linear:].sum(0) / len(patches)
        return torch.cat(
            [
                squared_distances(
                    squares[:whole], cross[:linear, :whole], features[:linear], lengths
                ),
                squared_distances(squares[whole:], cross[:, whole:], features, self._lengths),
            ]
        )


def _pure(inside: Float[Tensor, "1 1 h w"], patches: PatchGrid) -> Int[Tensor, " k"]:
    """Flat positions of the patches without the object; less pure ones where there are few."""
    side = patches.side
    ring = grow_mask(inside, _BESIDE * math.sqrt(patches.size[0] * patches.size[1]))
    for avoided, reach in ((ring, side), (inside, side), (inside, 3), (inside, 1)):
        pure = 1 - F.max_pool2d(avoided, reach, 1, reach // 2)
        if pure.sum() >= _FEW:
            break
    return pure.flatten().nonzero()[:, 0]


def _distance_to(mask: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Distance of every pixel to the nearest one of the mask, in pixels."""
    from scipy.ndimage import distance_transform_edt  # takes longer to import than to compute

    away = distance_transform_edt(1 - mask.cpu().numpy())
    return torch.from_numpy(away).to(mask)
