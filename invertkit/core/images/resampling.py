"""Lines of pixels at another scale and place: one rule for photographs, masks and features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def line_weights(
    scale: Float[Tensor, " b"], shift: Float[Tensor, " b"], source: int, target: int
) -> Float[Tensor, "b target source"]:
    """The weight of each old pixel of a line in each new one.

    A triangle as wide as one pixel of the coarser grid: bilinear where nothing shrinks, a low-pass
    where it does.

    Args:
        scale: How many old half-lines a new one spans.
        shift: Of the middle, in half-lines of the old.
        source: Old pixels.
        target: New pixels.

    Example:
        >>> line_weights(torch.ones(1), torch.ones(1), 2, 2)[0].tolist()  # by one of two pixels
        [[0.0, 1.0], [0.0, 0.0]]
    """
    step = source / target
    old, new = (torch.arange(n, dtype=scale.dtype, device=scale.device) for n in (source, target))
    centres = (new + 0.5 - target / 2) * step
    places = scale[:, None] * centres + (shift * (source / 2))[:, None] + (source - 1) / 2
    reach = _larger(scale * step, 1)[:, None]
    distances = (old - places[..., None]) / reach[..., None]
    weights = _larger(1 - distances.abs(), 0) / reach[..., None]
    # What these would add up to if the line had no ends: 1 - B(x + r) / 2r² + ..., where B is the
    # periodic second Bernoulli polynomial, since a triangle is a second difference of |x| / 2.
    left, middle, right = (_bernoulli(places + k * torch.remainder(reach, 1)) for k in (-1, 0, 1))
    total = 1 - (left - 2 * middle + right) / (2 * reach.square())
    return weights / total[..., None]


def _larger(values: Tensor, least: float) -> Tensor:
    """As `clamp`, but with half the slope at the kink: the identity sits on kinks."""
    return torch.maximum(values, values.new_full((), least))


def _bernoulli(x: Tensor) -> Tensor:
    """The second Bernoulli polynomial of the fractional part, less its constant."""
    fraction = torch.remainder(x, 1)
    return fraction.square() - fraction


def moved(
    features: Float[Tensor, "b c h w"], shift: tuple[float, float]
) -> Float[Tensor, "b c h w"]:
    """Images or feature maps moved by a share of their sides; 0 comes in at the edge.

    Args:
        features: At any size: the same shift moves a picture and the maps that it is made of
            alike, between pixels by the rule of `line_weights`.
        shift: To the right and down, in sides.

    Example:
        >>> moved(torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]), (0.25, 0.0))[0, 0, 0].tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    if shift == (0, 0):
        return features
    one = torch.ones(1, dtype=torch.float64)
    height, width = features.shape[-2:]
    right, down = (torch.tensor([-2.0 * share], dtype=torch.float64) for share in shift)
    rows = line_weights(one, down, height, height)[0].to(features)
    columns = line_weights(one, right, width, width)[0].to(features)
    return rows @ features @ columns.mT
