"""What the nearest patches of one photograph say of every pixel of an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.resize import grow_mask
from invertkit.objectives.patches.background_search import BackgroundSearch
from invertkit.objectives.patches.object_search import ObjectSearch
from invertkit.objectives.patches.patch_grid import PatchGrid


@final
@dataclass(frozen=True)
class SearchOptions:
    """How patches are compared.

    Args:
        kernel: Side of the patches; at most 3 below 32 pixels and 5 below 64.
        place: Weight of the place in the distance of object patches.
        drift: The same for background.
        coherence: Of background, see `choose_keys`.
        keys: Background patches considered.
        margin: Width of the ring around both masks in which pixels may change, of the side.
    """

    kernel: int = 7
    place: float = 4.0
    drift: float = 0.05
    coherence: float = 0.6
    keys: int = 6000
    margin: float = 0.02


@final
class PatchSearch:
    """A photograph's patches of object and background, ready to be searched.

    Args:
        image: The photograph.
        inside: Where its object is, binary; None if that is not known.
        wanted: Where the object shall be; likewise.
        options: How patches are compared.

    Example:
        >>> photograph = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> search = PatchSearch(photograph, None, None, SearchOptions())
        >>> bool((search.goal(photograph) - photograph).abs().max() < 1e-5)
        True
    """

    def __init__(
        self,
        image: Float[Tensor, "1 3 h w"],
        inside: Float[Tensor, "1 1 h w"] | None,
        wanted: Float[Tensor, "1 1 h w"] | None,
        options: SearchOptions,
    ) -> None:
        size = (image.shape[-2], image.shape[-1])
        side = math.sqrt(size[0] * size[1])
        nothing = image.new_zeros(1, 1, *size)
        if inside is None or wanted is None:
            inside, wanted = nothing, nothing
        inside, wanted = (inside > 0.5).to(image), (wanted > 0.5).to(image)
        self._reference, self._wanted = image, wanted
        self.free: Float[Tensor, "1 1 h w"] = torch.ones_like(wanted)
        """Pixels that are asked to change."""
        if bool(wanted.any()):
            self.free = grow_mask(torch.maximum(inside, wanted), options.margin * side)
        largest = 3 if side < 32 else 5 if side < 64 else options.kernel
        self._patches = PatchGrid(size, min(options.kernel, largest))
        self._object = ObjectSearch(image, inside, wanted, self._patches, place=options.place)
        self._background = BackgroundSearch(
            image,
            inside,
            wanted,
            self.free,
            self._patches,
            drift=options.drift,
            coherence=options.coherence,
            most=options.keys,
        )

    def goal(self, image: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 h w"]:
        """What the nearest patches say of every pixel; the photograph where none does."""
        goal = self._reference.clone()
        if len(self._background.queries):
            votes = self._patches.vote(self._background.match(image), self._reference)
            goal = torch.where(self._wanted > 0, goal, votes)
        if len(self._object.queries):
            votes = self._patches.vote(self._object.match(image), self._reference)
            goal = torch.where(self._wanted > 0, votes, goal)
        return goal
