"""Kernel distance of two sets of features."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def kernel_distance(first: Float[Tensor, "n c"], second: Float[Tensor, "m c"]) -> float:
    """Squared maximum mean discrepancy under the kernel `(x·y / c + 1)³`, unbiased.

    Unlike the Fréchet distance it is on average the same for few points as for many, so sets of
    some hundreds can be compared. Of Inception's features it is known as KID; of another network's
    it cannot be compared with published ones.

    Args:
        first: A cloud of points, at least two.
        second: Another.

    Returns:
        About 0 for two samples of one distribution, and then as often below as above.

    Example:
        >>> import torch
        >>> points = torch.tensor([[0.0], [1.0], [2.0]]).double()
        >>> round(kernel_distance(points, points + 3), 2)
        4569.67

    Source: Gretton et al. 2012, Lemma 6; of a network's features, Bińkowski et al. 2018, §3.
    """

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        return (one @ other.T / one.shape[1] + 1) ** 3

    def among(points: Tensor) -> Tensor:
        similar, count = kernel(points, points), len(points)
        # Of a point with itself, the kernel would tell of its length, not of its neighbours.
        return (similar.sum() - similar.diagonal().sum()) / (count * (count - 1))

    return float(among(first) + among(second) - 2 * kernel(first, second).mean())
