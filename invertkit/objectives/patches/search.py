"""What the nearest patches of one photograph say of every pixel of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.images.resize import grow_mask
from invertkit.core.precision import exactly
from invertkit.objectives.patches.correspondence import choose_keys, grid, register_masks

_FAINT = 1e-4  # added to distances and vote weights, so that none is infinite or 0
_FEW = 60  # background patches below which less pure ones are taken too
_FADE = 0.4  # a vote weighs distance to the power of minus this
_FULL_SIZE = 96  # from this side on places weigh as asked; below, up to ten times as much
_BESIDE = 2 / 128  # width of the ring around the source object that is not background, of the side


@dataclass
class _Keys:
    """Patches of the photograph that may be copied, and what is multiplied to find the nearest.

    Of a distance |a - b|² = |a|² - 2 a·b + |b|², b is in `features`. `lengths` is |b|², or of
    background that of the place alone, and the squares of b's pixels are in `features` as well.
    """

    places: Int[Tensor, " k"]
    patches: Float[Tensor, "d k"]
    valid: Float[Tensor, "d k"]
    features: Float[Tensor, "f k"]
    lengths: Float[Tensor, " k"]


@final
class PatchSearch:
    """A photograph's patches of object and background, ready to be searched.

    Args:
        image: The photograph.
        inside: Where its object is, binary; None if that is not known.
        wanted: Where the object shall be; likewise.
        kernel: Side of the patches; at most 3 below 32 pixels and 5 below 64.
        place: Weight of the place in the distance of object patches.
        drift: The same for background.
        coherence: Of background, see `choose_keys`.
        keys: Background patches considered.
        margin: Width of the ring around both masks in which pixels may change.
    """

    def __init__(
        self,
        image: Float[Tensor, "1 3 h w"],
        inside: Float[Tensor, "1 1 h w"] | None,
        wanted: Float[Tensor, "1 1 h w"] | None,
        *,
        kernel: int,
        place: float,
        drift: float,
        coherence: float,
        keys: int,
        margin: float,
    ) -> None:
        self.place, self.drift, self.coherence, self.keys = place, drift, coherence, keys
        size = (image.shape[-2], image.shape[-1])
        side = math.sqrt(size[0] * size[1])
        self._side = min(kernel, 3 if side < 32 else 5 if side < 64 else kernel)
        self._size, self._reference = size, image
        nothing = image.new_zeros(1, 1, *size)
        if inside is None or wanted is None:
            inside, wanted = nothing, nothing
        inside, wanted = (inside > 0.5).to(image), (wanted > 0.5).to(image)
        self._wanted = wanted
        self.free: Float[Tensor, "1 1 h w"] = grow_mask(
            torch.maximum(inside, wanted), margin * side
        )
        """Pixels that are asked to change."""
        if not bool(wanted.any()):
            self.free = torch.ones_like(wanted)
        self._prepare_object(image, inside, wanted)
        self._prepare_background(image, inside)

    def _prepare_object(self, image: Tensor, inside: Tensor, wanted: Tensor) -> None:
        self._object_queries = wanted.flatten().nonzero()[:, 0]
        keys = inside.flatten().nonzero()[:, 0]
        if not len(self._object_queries) or not len(keys):
            self._object_queries = self._object_queries[:0]
            return
        self._colour = (image * inside).sum((2, 3), keepdim=True) / inside.sum()
        filled = image * inside + self._colour * (1 - inside)
        known = self._patches(filled)[:, keys]
        side = math.sqrt(self._size[0] * self._size[1])
        stronger = min(10.0, max(1.0, (_FULL_SIZE / side) ** 3))
        scale = (self.place * stronger * known.shape[0]) ** 0.5
        here = scale * grid(self._size, image).flatten(2)[0]
        there = scale * register_masks(inside, wanted).flatten(2)[0]
        self._object_place = there[:, self._object_queries]
        valid = self._patches(inside)[:, keys].repeat(3, 1).clamp(min=_FAINT)
        features = torch.cat([known, here[:, keys]])
        self._object = _Keys(keys, known, valid, features, features.square().sum(0))

    def _prepare_background(self, image: Tensor, inside: Tensor) -> None:
        side = self._side
        touched = F.max_pool2d(self.free, side, 1, side // 2) * (1 - self._wanted)
        self._ground_queries = touched.flatten().nonzero()[:, 0]
        ring = grow_mask(inside, _BESIDE * math.sqrt(self._size[0] * self._size[1]))
        for avoided, reach in ((ring, side), (inside, side), (inside, 3), (inside, 1)):
            pure = 1 - F.max_pool2d(avoided, reach, 1, reach // 2)
            if pure.sum() >= _FEW:
                break
        keys = pure.flatten().nonzero()[:, 0]
        if not len(keys):
            self._ground_queries = self._ground_queries[:0]
            return
        if len(keys) > self.keys:
            hole = (self.free * (1 - self._wanted))[0, 0]
            distance = _distance_to(hole).flatten()[keys]
            keys = keys[distance.argsort(stable=True)[: self.keys]]
        known = self._patches(image)[:, keys]
        stretch = image.new_tensor([0.5, 1.0]).reshape(2, 1)  # sky stays above ground
        places = math.sqrt(self.drift) * stretch * grid(self._size, image).flatten(2)[0]
        seen = self._patches(1 - self._wanted)[:, self._ground_queries].repeat(3, 1)
        whole = seen.all(0)  # those first, whose patches have no pixel of the new object
        order = torch.cat([whole.nonzero()[:, 0], (~whole).nonzero()[:, 0]])
        self._whole = int(whole.sum())
        self._ground_queries, self._ground_seen = self._ground_queries[order], seen[:, order]
        self._ground_place = places[:, self._ground_queries]
        features = torch.cat([known, places[:, keys], known.square()])
        lengths = places[:, keys].square().sum(0)
        self._ground = _Keys(keys, known, torch.ones_like(known), features, lengths)

    def _patches(self, image: Float[Tensor, "1 c h w"]) -> Float[Tensor, "d hw"]:
        """The patch around every pixel, borders reflected."""
        reach = self._side // 2
        return F.unfold(F.pad(image, (reach,) * 4, mode="reflect"), self._side)[0]

    def goal(self, image: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 h w"]:
        """What the nearest patches say of every pixel."""
        goal = self._reference.clone()
        if len(self._ground_queries):
            goal = torch.where(self._wanted > 0, goal, self._search_background(image))
        if len(self._object_queries):
            goal = torch.where(self._wanted > 0, self._search_object(image), goal)
        return goal

    def _search_object(self, image: Tensor) -> Tensor:
        keys, queries = self._object, self._object_queries
        filled = image * self._wanted + self._colour * (1 - self._wanted)
        features = torch.cat([self._patches(filled)[:, queries], self._object_place])
        apart = _distances(features.square().sum(0), -2 * features, keys.features, keys.lengths)
        near, chosen = apart.min(1)
        near = near / keys.patches.shape[0]
        return self._vote(keys.patches[:, chosen], keys.valid[:, chosen], near, queries)

    def _search_background(self, image: Tensor) -> Tensor:
        """As above, over the pixels of each patch that the new object leaves to be seen."""
        keys, queries, seen = self._ground, self._ground_queries, self._ground_seen
        count, places = seen.sum(0).clamp(min=1), self._ground_place
        patches = self._patches(image)[:, queries] * seen
        own = patches.square().sum(0) / count + places.square().sum(0)
        # |key|² is the same for all patches that are seen whole; for others it is a product too
        cross = torch.cat([-2 * patches / count, -2 * places, seen / count])
        whole, linear = self._whole, len(patches) + len(places)
        lengths = keys.lengths + keys.features[linear:].sum(0) / len(patches)
        apart = torch.cat(
            [
                _distances(own[:whole], cross[:linear, :whole], keys.features[:linear], lengths),
                _distances(own[whole:], cross[:, whole:], keys.features, keys.lengths),
            ]
        )
        near, chosen = choose_keys(
            apart, queries, keys.places, self._size, coherence=self.coherence
        )
        return self._vote(keys.patches[:, chosen], seen, near, queries)

    def _vote(
        self,
        patches: Float[Tensor, "d q"],
        valid: Float[Tensor, "d q"],
        distances: Float[Tensor, " q"],
        queries: Int[Tensor, " q"],
    ) -> Float[Tensor, "1 3 h w"]:
        """Weighted mean over the patches that cover each pixel; the reference where none does."""
        weights = (distances.clamp(min=0) + _FAINT).pow(-_FADE) * valid
        total, said = self._fold(weights, queries), self._fold(patches * weights, queries)
        return torch.where(total > 0, said / total.clamp(min=1e-8), self._reference)

    def _fold(self, values: Float[Tensor, "d q"], queries: Int[Tensor, " q"]) -> Tensor:
        height, width = self._size
        reach = self._side // 2
        spread = values.new_zeros(values.shape[0], height * width)
        spread[:, queries] = values
        size = (height + 2 * reach, width + 2 * reach)
        summed = F.fold(spread[None], size, self._side)
        return summed[:, :, reach : reach + height, reach : reach + width]


# Distances are small differences of large products: with factors rounded to 10 bits other patches
# would be nearest. As an operation of its own it is exact in a recording too.
_OURS = torch.library.Library("invertkit", "FRAGMENT")
_OURS.define("distances(Tensor own, Tensor cross, Tensor features, Tensor lengths) -> Tensor")


def _distances(
    own: Float[Tensor, " q"],
    cross: Float[Tensor, "f q"],
    features: Float[Tensor, "f k"],
    lengths: Float[Tensor, " k"],
) -> Float[Tensor, "q k"]:
    """Own + lengths + crossᵀ features, not below 0."""
    apart: Tensor = torch.ops.invertkit.distances(own, cross, features, lengths)
    return apart


@torch.library.impl(_OURS, "distances", "CompositeExplicitAutograd")
def _exact_distances(own: Tensor, cross: Tensor, features: Tensor, lengths: Tensor) -> Tensor:
    with exactly():
        return torch.addmm(lengths, cross.T, features).add_(own[:, None]).clamp_(min=0)


torch.library.register_fake(
    "invertkit::distances",
    lambda own, cross, features, lengths: own.new_empty(len(own), len(lengths)),
    lib=_OURS,
)


def _distance_to(mask: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Distance of every pixel to the nearest one of the mask, in pixels."""
    from scipy.ndimage import distance_transform_edt

    away = distance_transform_edt(1 - mask.cpu().numpy())
    return torch.from_numpy(away).to(mask)
