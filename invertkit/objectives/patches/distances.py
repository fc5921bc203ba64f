"""Squared distances between patches, exact whatever the networks round."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.precision import exactly

# Distances are small differences of large products: with factors rounded to 10 bits other patches
# would be nearest. As an operation of its own it is exact in a recording too.
_OURS = torch.library.Library("invertkit", "FRAGMENT")
_OURS.define("distances(Tensor squares, Tensor cross, Tensor features, Tensor lengths) -> Tensor")


def squared_distances(
    squares: Float[Tensor, " q"],
    cross: Float[Tensor, "f q"],
    features: Float[Tensor, "f k"],
    lengths: Float[Tensor, " k"],
) -> Float[Tensor, "q k"]:
    """|a - b|² = |a|² - 2 a·b + |b|² of all pairs, as one product; not below 0.

    Args:
        squares: |a|² of each of the `q` queries.
        cross: What is multiplied with `features`, -2 a for the plain distance.
        features: b of each of the `k` keys.
        lengths: |b|² of each key.

    Example:
        >>> a, b = torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0]])
        >>> squared_distances(a.square().sum(0), -2 * a, b, b.square().sum(0)).tolist()
        [[9.0], [4.0]]
    """
    apart: Tensor = torch.ops.invertkit.distances(squares, cross, features, lengths)
    return apart


@torch.library.impl(_OURS, "distances", "CompositeExplicitAutograd")
def _exact(squares: Tensor, cross: Tensor, features: Tensor, lengths: Tensor) -> Tensor:
    with exactly():
        return torch.addmm(lengths, cross.T, features).add_(squares[:, None]).clamp_(min=0)


torch.library.register_fake(
    "invertkit::distances",
    lambda squares, cross, features, lengths: squares.new_empty(len(squares), len(lengths)),
    lib=_OURS,
)
