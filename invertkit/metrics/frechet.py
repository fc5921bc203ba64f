"""Fréchet distance of two sets of features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frechet(first: Float[Tensor, "n c"], second: Float[Tensor, "m c"]) -> float:
    """Fréchet distance between Gaussians: `‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)`.

    Of `last_features` it is not FID: Inception's weights do not come with the package. Where the
    classifier also guided the training, the number flatters.

    Args:
        first: A cloud of points; many more than coordinates, or the number is biased upwards.
        second: Another.

    Returns:
        In squared units of the features; 0 for equal means and covariances.

    Example:
        >>> points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double()
        >>> round(frechet(points, points + 1), 6)
        3.0

    Source: Dowson & Landau 1982; of a network's features, Heusel et al. 2017.
    """
    one, other = torch.cov(first.T), torch.cov(second.T)
    # The trace needs the spectrum of Σ₁Σ₂ alone, which is no symmetric matrix. With Σ₁ = R Rᵀ it
    # has that of RᵀΣ₂R, which is one: no root of a matrix is taken, and nothing turns complex.
    values, vectors = torch.linalg.eigh(one)
    root = vectors * values.clamp(min=0).sqrt()
    shared = torch.linalg.eigvalsh(root.T @ other @ root).clamp(min=0).sqrt().sum()
    means = (first.mean(0) - second.mean(0)).square().sum()
    return float(means + one.trace() + other.trace() - 2 * shared)
