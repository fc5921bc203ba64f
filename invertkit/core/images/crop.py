"""The middle of a picture."""

from __future__ import annotations

from torch import Tensor


def central_box(height: int, width: int) -> tuple[int, int, int]:
    """Top, left and side of the largest square in the middle.

    Example:
        >>> central_box(2, 5)
        (0, 1, 2)
    """
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side


def central_square(values: Tensor) -> Tensor:
    """The largest square in the middle of images `(..., h, w)`, without a copy.

    Example:
        >>> import torch
        >>> central_square(torch.arange(8).reshape(2, 4))
        tensor([[1, 2],
                [5, 6]])
    """
    top, left, side = central_box(values.shape[-2], values.shape[-1])
    return values[..., top : top + side, left : left + side]
