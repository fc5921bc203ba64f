"""Frechet distance of two sets of features."""

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

    Source: Dowson & Landau 1982; of a network's features, Heusel et al. 2017.
    """
    here, there = torch.cov(first.T), torch.cov(second.T)
    values, vectors = torch.linalg.eigh(here)
    root = vectors * values.clamp(min=0).sqrt()  # Σ₁ = R Rᵀ, and Σ₁Σ₂ has the spectrum of RᵀΣ₂R
    shared = torch.linalg.eigvalsh(root.T @ there @ root).clamp(min=0).sqrt().sum()
    means = (first.mean(0) - second.mean(0)).square().sum()
    return float(means + here.trace() + there.trace() - 2 * shared)
