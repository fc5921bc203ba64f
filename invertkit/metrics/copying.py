"""Whether a picture is a copy of another, moved or mirrored. No recipe optimises it."""

from __future__ import annotations

from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.errors import InputError


@torch.no_grad()
def pixel_correlation(
    image: Float[Tensor, "b 3 h w"], reference: Float[Tensor, "#b 3 h w"]
) -> Float[Tensor, " b"]:
    """Pearson's correlation of two pictures' pixels, colours told apart.

    Args:
        image: Any real values.
        reference: Of the same size.

    Returns:
        In [-1, 1]: 1 for equal pictures, also of other contrast; 0 where one is flat.

    Example:
        >>> image = torch.rand(1, 3, 8, 8)
        >>> round(pixel_correlation(image, 0.5 * image + 0.2).item(), 4)
        1.0
    """
    # Each colour has its own mean: two pictures of one tint alone are no copies of each other.
    here, there = (x - x.mean((2, 3), keepdim=True) for x in (image, reference))
    both = (here * there).sum((1, 2, 3))
    lengths = here.square().sum((1, 2, 3)) * there.square().sum((1, 2, 3))
    return both / lengths.sqrt().clamp(min=1e-12)


@torch.no_grad()
def displaced_correlation(
    image: Float[Tensor, "b 3 h w"],
    reference: Float[Tensor, "#b 3 h w"],
    *,
    reach: float = 0.125,
    step: int = 2,
) -> Float[Tensor, " b"]:
    """The highest correlation with the reference, moved and perhaps mirrored.

    1 for a copy, wherever within reach it was moved to. Only what both pictures show is compared.

    Args:
        image: Any real values.
        reference: Of the same size.
        reach: Largest shift along either axis, as a share of the side, below 1.
        step: Try every so-many-th pixel.

    Returns:
        In [-1, 1], at least `pixel_correlation`.

    Raises:
        InputError: `reach` leaves nothing to compare.

    Example:
        >>> image = torch.rand(1, 3, 16, 16)
        >>> round(displaced_correlation(image.roll(2, 3).flip(3), image).item(), 4)
        1.0
    """
    if not 0 <= reach < 1:
        raise InputError(f"reach: expected a share of the side from 0 to below 1, got {reach}.")
    height, width = image.shape[-2:]
    best = image.new_full((len(image),), -1.0)
    rows, columns = (_shifts(int(reach * side), step) for side in (height, width))
    for seen, down, right in product((reference, reference.flip(3)), rows, columns):
        here = image[..., max(down, 0) : height + min(down, 0), :]
        there = seen[..., max(-down, 0) : height + min(-down, 0), :]
        here = here[..., max(right, 0) : width + min(right, 0)]
        there = there[..., max(-right, 0) : width + min(-right, 0)]
        best = torch.maximum(best, pixel_correlation(here, there))
    return best


def _shifts(most: int, step: int) -> list[int]:
    """Whole pixels from -most to most, 0 among them."""
    forward = range(0, most + 1, step)
    return sorted({*forward, *(-shift for shift in forward)})
