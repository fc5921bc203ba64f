"""The tensors of a variable."""

from __future__ import annotations

from torch import Tensor

Params = dict[str, Tensor]
"""Tensors by name, in the variable's order; the first axis of each is the image."""


def count_rows(params: Params) -> int:
    """How many images, or candidates for images, the tensors are of.

    Example:
        >>> import torch
        >>> count_rows({"latent": torch.zeros(4, 128), "embedding": torch.zeros(4, 32)})
        4
    """
    return len(next(iter(params.values())))
