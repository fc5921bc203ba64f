"""Whether two pictures are made of the same patches. No recipe optimises it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def bidirectional_similarity(
    image: Float[Tensor, "b 3 h w"],
    reference: Float[Tensor, "1 3 h w"],
    *,
    patch: int = 7,
    scales: Sequence[float] = (1.0, 0.5, 0.25),
    stride: int = 2,
) -> Float[Tensor, " b"]:
    """Mean distance of patches to their nearest neighbour in the other image, both ways.

    Small when every patch of the image comes from the reference (coherence) and every patch of
    the reference is in the image (completeness). In units of pixel values: the root mean square
    difference of a patch to its nearest one, averaged over patches, directions and scales.

    Args:
        image: In [0, 1].
        reference: In [0, 1], of the same size.
        patch: Side of the patches in pixels; smaller where a scale is smaller.
        scales: Of both images, reduced by area.
        stride: Take every so-many-th patch, along both axes, as a query; all are answers.

    Returns:
        In units of pixel values; 0 for equal images.

    Example:
        >>> image = torch.rand(1, 3, 16, 16)
        >>> bidirectional_similarity(image, torch.zeros_like(image)) > 0.1
        tensor([True])

    Source: after Simakov et al. 2008, "Summarizing visual data using bidirectional similarity";
    they take squared distances, we their roots.
    """
    height, width = image.shape[-2:]
    totals = image.new_zeros(len(image))
    for scale in scales:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        side = min(patch, *size)
        small = F.interpolate(image, size, mode="area")
        goal = F.interpolate(reference, size, mode="area")
        for i in range(len(image)):
            there = _nearest(small[i : i + 1], goal, side=side, stride=stride)
            back = _nearest(goal, small[i : i + 1], side=side, stride=stride)
            totals[i] += (there + back) / 2
    return totals / len(scales)


def _nearest(queries: Tensor, answers: Tensor, *, side: int, stride: int) -> Tensor:
    """Mean over the queries' patches of the distance to the nearest patch of the answers."""
    asked = F.unfold(queries, side, stride=stride)[0].T  # (q, 3·side²)
    known = F.unfold(answers, side)[0]  # (3·side², n)
    lengths = known.square().sum(0)
    # |q - a|² = |q|² - 2 qa + |a|². Every query meets every answer, in pieces that fit into memory;
    # what is the same for all answers of a query need not take part in the search.
    nearest = [
        (lengths - 2 * rows @ known).min(1).values + rows.square().sum(1)
        for rows in asked.split(512)
    ]
    return torch.cat(nearest).clamp(min=0).div(known.shape[0]).sqrt().mean()
