"""The middle of a picture."""

from __future__ import annotations

from torch import Tensor


def central_square(values: Tensor) -> Tensor:
    """The largest square in the middle of images `(..., h, w)`, without a copy.

    Example:
        >>> import torch
        >>> central_square(torch.arange(8).reshape(2, 4))
        tensor([[1, 2],
                [5, 6]])
    """
    height, width = values.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return values[..., top : top + side, left : left + side]
