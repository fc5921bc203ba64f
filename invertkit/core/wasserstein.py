"""Wasserstein distances of samples in one dimension."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def wasserstein_1d(
    values: Float[Tensor, "*rows n"], wanted: Float[Tensor, "*rows m"]
) -> Float[Tensor, " *rows"]:
    """Mean absolute difference of the sorted `values` and the sorted, resampled `wanted`.

    The gradient goes to `values` only.

    Args:
        values: Any real numbers, at least one a row.
        wanted: The same rows, any number of columns.

    Example:
        >>> wasserstein_1d(torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 2.0]]))
        tensor([0.5000])
    """
    with torch.no_grad():
        goal = resample(_sorted(wanted), values.shape[-1])
        goal = torch.empty_like(values).scatter_(-1, _order(values.detach()), goal)
    return (values - goal).abs().mean(-1)


def resample(ordered: Float[Tensor, "*rows m"], count: int) -> Float[Tensor, "*rows n"]:
    """`count` evenly spaced points of sorted rows, linear in between, both ends kept.

    Example:
        >>> resample(torch.tensor([[0.0, 1.0, 4.0]]), 5)
        tensor([[0.0000, 0.5000, 1.0000, 2.5000, 4.0000]])
    """
    have = ordered.shape[-1]
    if have == count:
        return ordered
    if count == 1:
        return ordered.mean(-1, keepdim=True)
    # In float32 the shares between the columns of a long row would be rounded away.
    position = torch.linspace(0, have - 1, count, device=ordered.device, dtype=torch.float64)
    low = position.floor().long().clamp(max=have - 1)
    high = (low + 1).clamp(max=have - 1)
    share = (position - low).to(ordered.dtype)
    return ordered[..., low].lerp(ordered[..., high], share)


# On a CPU NumPy's vectorised sort is two to three times as fast as torch's. As operations of our
# own, whoever records a step sees them.
_OURS = torch.library.Library("invertkit", "FRAGMENT")
_OURS.define("sorted_rows(Tensor values) -> Tensor")
_OURS.define("order_of_rows(Tensor values) -> Tensor")
_OURS.impl("sorted_rows", lambda values: torch.from_numpy(np.sort(values.numpy())), "CPU")
_OURS.impl("order_of_rows", lambda values: torch.from_numpy(values.numpy().argsort()), "CPU")
_OURS.impl("sorted_rows", lambda values: values.sort().values, "CUDA")
_OURS.impl("order_of_rows", lambda values: values.argsort(), "CUDA")
torch.library.register_fake("invertkit::sorted_rows", torch.empty_like, lib=_OURS)
torch.library.register_fake(
    "invertkit::order_of_rows", lambda values: torch.empty_like(values, dtype=torch.long), lib=_OURS
)


def _sorted(values: Tensor) -> Tensor:
    """Each row in order."""
    ordered: Tensor = torch.ops.invertkit.sorted_rows(values)
    return ordered


def _order(values: Tensor) -> Tensor:
    """Indices that sort each row."""
    order: Tensor = torch.ops.invertkit.order_of_rows(values)
    return order
