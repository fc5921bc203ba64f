"""Batch norm with a scale and a shift for each class."""

from __future__ import annotations

from typing import Final, final

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.models.generators.class_maps import Condition, mixed

EPS: Final = 2e-5
"""Added to variances, as Chainer does by default."""


@final
class CategoricalBatchNorm(nn.Module):
    """Batch norm whose scale and shift are mixtures of those of the classes.

    `γ(w) · (F - E F) / √(Var F + ε) + β(w)`, `γ(w) = Σ_c w(c) γ(c)` and β likewise. Weights w that
    are 1 at one class make the ordinary conditional norm, to the bit; a mixture makes sCBN.

    Args:
        channels: Of the features.
        classes: Number of classes.

    Example:
        >>> import torch
        >>> norm = CategoricalBatchNorm(8, classes=3)
        >>> norm(torch.rand(2, 8, 4, 4), torch.eye(3)[:2]).shape
        torch.Size([2, 8, 4, 4])

    Source: Miyato & Koyama 2018 (categorical conditional batch norm); Suzuki et al. 2018, Eq. 1
    and 2.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False, eps=EPS)
        self.gammas = nn.Embedding(classes, channels)
        self.betas = nn.Embedding(classes, channels)
        nn.init.ones_(self.gammas.weight)
        nn.init.zeros_(self.betas.weight)

    def forward(
        self, features: Float[Tensor, "b c h w"], condition: Condition
    ) -> Float[Tensor, "b c h w"]:
        """Normalised features.

        Args:
            features: To be normalised.
            condition: A weight for each class, `(b, k)`, or a mixture of several such rows.
        """
        normal: Tensor = self.norm(features)
        scale, shift = mixed(self._affine, condition)
        return shift.to(normal).addcmul(normal, scale.to(normal))

    def _affine(self, weights: Float[Tensor, "n k"]) -> tuple[Tensor, Tensor]:
        return F.linear(weights, self.gammas.weight.T), F.linear(weights, self.betas.weight.T)
