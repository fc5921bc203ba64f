"""How much of a set of features lies within another, and how much of that it reaches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class PrecisionRecall(NamedTuple):
    """Two shares from 0 to 1.

    Attributes:
        precision: Of the made, how many are among the real.
        recall: Of the real, how many are among the made.
    """

    precision: float
    recall: float


def precision_recall(
    real: Float[Tensor, "n c"], made: Float[Tensor, "m c"], *, neighbours: int = 3
) -> PrecisionRecall:
    """Precision and recall of made features: quality and variety, apart.

    A point is among a set if it is nearer to one of the set than that one's k-th neighbour there.

    Args:
        real: More than `neighbours` of them.
        made: More than `neighbours` of them.
        neighbours: k.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> found = precision_recall(real, torch.tensor([[0.5], [0.6], [9.0]]), neighbours=1)
        >>> round(found.precision, 2), found.recall
        (0.67, 0.75)

    Source: Kynkäänniemi et al. 2019, Eq. 1 and 2.
    """
    precision = _within(made, real, neighbours).double().mean()
    recall = _within(real, made, neighbours).double().mean()
    return PrecisionRecall(float(precision), float(recall))


def _within(
    points: Float[Tensor, "n c"], others: Float[Tensor, "m c"], neighbours: int
) -> Bool[Tensor, " n"]:
    # The nearest of its own set is the point itself, at 0.
    radii = _apart(others, others).kthvalue(neighbours + 1, dim=1).values
    return (_apart(points, others) <= radii).any(1)


def _apart(first: Float[Tensor, "n c"], second: Float[Tensor, "m c"]) -> Float[Tensor, "n m"]:
    # By products of matrices it would be faster, and a point would not be at 0 from itself.
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
