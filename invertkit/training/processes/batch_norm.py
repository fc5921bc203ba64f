"""Batch norm over the images of several processes, on CPUs too.

`torch.nn.SyncBatchNorm` refuses CPU tensors. What is here does the same on any device, so that a
training on several processes has the loss curve of one.
"""

from __future__ import annotations

from typing import Any, final

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from invertkit.errors import InputError


@final
class _Sum(torch.autograd.Function):
    """Sum over all processes; so is its gradient, since each process's loss depends on it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        total = slope.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


@final
class SharedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose mean and variance are those of all processes' images together.

    In evaluation mode it is plain batch norm. Every process must hold as many images as any other.
    Sums are taken in float32 or better.

    Args:
        norm: The layer whose parameters and statistics it takes over, not copies.

    Source: Ioffe & Szegedy 2015; across devices, Zhang et al. 2018.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(
            norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        for name, value in {**norm._parameters, **norm._buffers}.items():
            setattr(self, name, value)
        self.drop = getattr(norm, "drop", nn.Identity())
        self.act = getattr(norm, "act", nn.Identity())
        self.train(norm.training)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Normalised, scaled and shifted; activated where the layer it replaces does that."""
        out: Tensor
        if not self.training or dist.get_world_size() == 1:
            out = self.act(self.drop(super().forward(input)))
            return out
        # bfloat16 holds no sums of thousands.
        values = input if input.dtype == torch.float64 else input.float()
        count = dist.get_world_size() * values.numel() // values.shape[1]
        # First the mean, then squares around it: a difference of sums cancels for large means.
        mean = _Sum.apply(values.sum((0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum((0, 2, 3))) / count
        # As `nn.BatchNorm2d`: the running statistics, and they alone, hold the unbiased variance.
        self._follow(mean.detach(), variance.detach() * count / max(1, count - 1))
        scale = (variance + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        shifted = centred * scale[:, None, None]
        if self.bias is not None:
            shifted = shifted + self.bias[:, None, None]
        out = self.act(self.drop(shifted.to(input.dtype)))
        return out

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        counter = self.num_batches_tracked
        if self.running_mean is None or self.running_var is None or counter is None:
            return
        counter += 1
        share = 1 / float(counter) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


def share_batch_norms(net: nn.Module, *, device: torch.device) -> nn.Module:
    """`net` with its batch norms synchronised, in place: PyTorch's own on CUDA, ours elsewhere.

    Args:
        net: May hold plain batch norms and timm's with an activation.
        device: Where it will run.

    Raises:
        InputError: It has batch norms of another kind.
    """
    if device.type == "cuda":
        from timm.layers import convert_sync_batchnorm

        shared: nn.Module = convert_sync_batchnorm(net)
        return shared
    from timm.layers import BatchNormAct2d

    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and type(child) in (
                nn.BatchNorm2d,
                BatchNormAct2d,
            ):
                setattr(parent, name, SharedBatchNorm2d(child))
            elif isinstance(child, nn.modules.batchnorm._BatchNorm) and not isinstance(
                child, SharedBatchNorm2d
            ):
                raise InputError(
                    f"{type(child).__name__}: cannot be shared among processes without CUDA. Train "
                    "with --devices 1."
                )
    return net
