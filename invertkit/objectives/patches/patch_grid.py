"""The patches of an image, and what they say of its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

FAINT: Final = 1e-4
"""Added to distances and weights of votes, so that none is infinite or 0."""

_FADE = 0.4  # a vote weighs distance to the power of minus this


class Match(NamedTuple):
    """What was found for the patches that searched.

    Attributes:
        queries: Flat positions of the patches that searched.
        patches: What each found, one column.
        valid: How much each pixel of that is worth.
        distances: How far off it is, for one pixel and channel.
    """

    queries: Int[Tensor, " q"]
    patches: Float[Tensor, "d q"]
    valid: Float[Tensor, "d q"]
    distances: Float[Tensor, " q"]


@final
@dataclass(frozen=True)
class PatchGrid:
    """A square patch around every pixel of images of one size.

    Args:
        size: Height and width of the images.
        side: Of the patches; odd.

    Example:
        >>> grid = PatchGrid((4, 5), side=3)
        >>> grid.patches(torch.zeros(1, 3, 4, 5)).shape  # 3·3² numbers around each of 20 pixels
        torch.Size([27, 20])
    """

    size: tuple[int, int]
    side: int

    def patches(self, image: Float[Tensor, "1 c h w"]) -> Float[Tensor, "d hw"]:
        """The patch around every pixel, borders reflected."""
        reach = self.side // 2
        return F.unfold(F.pad(image, (reach,) * 4, mode="reflect"), self.side)[0]

    def vote(self, match: Match, otherwise: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 3 h w"]:
        """Weighted mean over the patches that cover each pixel; `otherwise` where none does."""
        weights = (match.distances.clamp(min=0) + FAINT).pow(-_FADE) * match.valid
        total = self._fold(weights, match.queries)
        votes = self._fold(match.patches * weights, match.queries)
        return torch.where(total > 0, votes / total.clamp(min=1e-8), otherwise)

    def _fold(
        self, values: Float[Tensor, "d q"], queries: Int[Tensor, " q"]
    ) -> Float[Tensor, "1 3 h w"]:
        """Sum at every pixel of what the patches over it have there."""
        height, width = self.size
        reach = self.side // 2
        spread = values.new_zeros(values.shape[0], height * width)
        spread[:, queries] = values
        size = (height + 2 * reach, width + 2 * reach)
        # Patches at the border reach beyond the image; what they say there is cut off.
        summed = F.fold(spread[None], size, self.side)
        return summed[:, :, reach : reach + height, reach : reach + width]
