"""Batch norm with a scale and a shift for each class."""

from __future__ import annotations

from typing import Final, final

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

EPS: Final = 2e-5
"""Added to variances, as Chainer does by default."""


@final
class CategoricalBatchNorm(nn.Module):
    """Batch norm whose scale and shift are mixtures of those of the classes.

    `γ(w) · (F - E F) / √(Var F + ε) + β(w)`, `γ(w) = Σ_c w(c) γ(c)` and β likewise. Weights w that
    are 1 at one class make the ordinary conditional norm, to the bit; those of a map make sCBN.

    Args:
        channels: Of the features.
        classes: Number of classes.

    Example:
        >>> import torch
        >>> norm = CategoricalBatchNorm(8, classes=3)
        >>> whole = torch.eye(3)[:1]
        >>> places = whole[:, :, None, None].expand(-1, -1, 4, 4)
        >>> features = torch.rand(1, 8, 4, 4)
        >>> torch.equal(norm(features, whole), norm(features, places))
        True

    Source: Miyato & Koyama 2018 (categorical conditional batch norm); Suzuki et al. 2018, Eq. 1
    and 2, for maps.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False, eps=EPS)
        self.gammas = nn.Embedding(classes, channels)
        self.betas = nn.Embedding(classes, channels)
        nn.init.ones_(self.gammas.weight)
        nn.init.zeros_(self.betas.weight)

    def forward(
        self, features: Float[Tensor, "b c h w"], weights: Float[Tensor, "b k ..."]
    ) -> Float[Tensor, "b c h w"]:
        """Normalised features.

        Args:
            features: To be normalised.
            weights: Of the classes, `(b, k)`, or `(b, k, h, w)` from place to place.
        """
        normal: Tensor = self.norm(features)
        scale, shift = (mixed(table.weight, weights) for table in (self.gammas, self.betas))
        return shift.to(normal).addcmul(normal, scale.to(normal))


def mixed(
    table: Float[Tensor, "k c"], weights: Float[Tensor, "b k ..."]
) -> Float[Tensor, "b c #h #w"]:
    """Rows of a table, mixed by weights of the classes.

    Example:
        >>> import torch
        >>> mixed(torch.tensor([[2.0], [4.0]]), torch.tensor([[0.5, 0.5]])).tolist()
        [[[[3.0]]]]
    """
    if weights.ndim == 4:
        return F.linear(weights.permute(0, 2, 3, 1), table.T).permute(0, 3, 1, 2)
    return F.linear(weights, table.T)[:, :, None, None]


def weights_at(weights: Float[Tensor, "b k ..."], side: int) -> Float[Tensor, "b k ..."]:
    """A map of class weights for features of that side; plain weights stay.

    By means over areas, so that weights which sum to 1 still do, and a map that is the same
    everywhere keeps its numbers to the bit.

    Example:
        >>> import torch
        >>> weights_at(torch.ones(1, 3, 8, 8), 4).shape, weights_at(torch.ones(1, 3), 4).shape
        (torch.Size([1, 3, 4, 4]), torch.Size([1, 3]))
    """
    if weights.ndim == 2 or weights.shape[-2:] == (side, side):
        return weights
    return F.adaptive_avg_pool2d(weights, (side, side))
