"""Affine normalisation by the statistics of what is passed, and LeakyReLU 0.2, as one function.

`instance` takes the statistics over the pixels of each image: this is what train-mode batch
normalisation computes for a batch of one. `batch` takes them over pixels and batch, as the
released code does, and so makes the images of a batch depend on each other.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

aten = torch.ops.aten

NormKind = Literal["instance", "batch", "none"]
"""Statistics over each image alone, over the whole batch, or no normalisation."""

SLOPE = 0.2
"""Of LeakyReLU below 0."""
EPSILON = 1e-5
"""Beside the variance, as PyTorch's norms have it."""


def leaky(features: Tensor) -> Tensor:
    """LeakyReLU 0.2, written over the features, which nobody else may hold."""
    return F.leaky_relu_(features, SLOPE)


def normed_leaky(
    features: Float[Tensor, "r c h w"],
    scale: Float[Tensor, " c"],
    shift: Float[Tensor, " c"],
    kind: NormKind,
) -> Float[Tensor, "r c h w"]:
    """Features normalised, scaled, shifted and activated. Can be differentiated once.

    Args:
        features: Are left as they are.
        scale: Of each channel.
        shift: Of each channel, after scaling.
        kind: Whose statistics.

    Example:
        >>> features = torch.tensor([-1.0, 1.0]).reshape(1, 1, 1, 2)
        >>> normed_leaky(features, torch.ones(1), torch.zeros(1), "instance").flatten()
        tensor([-0.2000,  1.0000])
    """
    scale, shift = scale.to(features.dtype), shift.to(features.dtype)  # alike, under autocast
    output: Tensor = _NormedLeaky.apply(features, scale, shift, kind)
    return output


class _NormedLeaky(torch.autograd.Function):
    """Keeps two tensors where two layers would keep three, and the memory's layout throughout.

    For one image all of PyTorch's norms are equal. On a CPU `batch_norm` is the fastest with
    channels last, `group_norm` with channels first.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, scale: Tensor, shift: Tensor, kind: NormKind) -> Tensor:
        rows, channels, height, width = features.shape
        ctx.layout = _layout(features)
        features = features.contiguous(memory_format=ctx.layout)
        ctx.batch = kind == "batch" or (rows == 1 and ctx.layout is torch.channels_last)
        if ctx.batch:
            output, mean, inverse = torch.native_batch_norm(
                features, scale, shift, None, None, True, 0.0, EPSILON
            )
        else:
            output, mean, inverse = torch.native_group_norm(
                features, scale, shift, rows, channels, height * width, channels, EPSILON
            )
        leaky(output)
        ctx.save_for_backward(features, output, scale, mean, inverse)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        features, output, scale, mean, inverse = ctx.saved_tensors
        rows, channels, height, width = features.shape
        # In another layout than its features', a gradient costs many times as much.
        slope = slope.contiguous(memory_format=ctx.layout)
        slope = aten.leaky_relu_backward(slope, output, SLOPE, True)
        wanted = list(ctx.needs_input_grad[:3])
        if ctx.batch:
            slopes = aten.native_batch_norm_backward(
                slope, features, scale, None, None, mean, inverse, True, EPSILON, wanted
            )
        else:
            sizes = (rows, channels, height * width, channels)
            slopes = aten.native_group_norm_backward(
                slope, features, mean, inverse, scale, *sizes, wanted
            )
        return *slopes, None


def _layout(features: Tensor) -> torch.memory_format:
    last = features.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last and not features.is_contiguous() else torch.contiguous_format
