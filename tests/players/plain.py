"""What the players compute, written slowly and plainly: loops over images, PyTorch's own layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from invertkit.models.critics.patch_critic import PatchCriticNet
from invertkit.models.segmenters.encoder_decoder import EncoderDecoder

Form = Literal["pixel", "sample"]


def plain(net: PatchCriticNet | EncoderDecoder, network: int = 0) -> nn.Sequential:
    """One network of the stack, from a copy of its weights, ready to learn."""
    layers: list[nn.Module] = []
    for layer in net.stack:
        weight, bias = layer.weight[network], layer.bias[network]
        if layer.transposed:
            layers.append(nn.ConvTranspose2d(*weight.shape[:2], weight.shape[-1]))
        else:
            layers.append(nn.Conv2d(*weight.shape[:2][::-1], weight.shape[-1], layer.stride))
        fill(layers[-1], weight, bias)
        if layer.norm != "none":  # train-mode batch norm of one image is instance norm
            norms = {"instance": nn.InstanceNorm2d, "batch": nn.BatchNorm2d}
            layers.append(norms[layer.norm](len(bias), affine=True, track_running_stats=False))
            fill(layers[-1], layer.scale[network], layer.shift[network])
        if layer.activated:
            layers.append(nn.LeakyReLU(0.2))
    return nn.Sequential(*layers)


def fill(module: nn.Module, weight: Tensor, bias: Tensor) -> None:
    module.weight = nn.Parameter(weight.detach().clone())
    module.bias = nn.Parameter(bias.detach().clone())


def penalty(critic: Callable[[Tensor], Tensor], images: Tensor, form: Form) -> Tensor:
    """Mean of (‖gradient‖ - 1)²; see `PenaltyForm`."""
    images = images.detach().requires_grad_()
    scores = critic(images)
    total = scores.sum() if form == "pixel" else scores.flatten(1).mean(1).sum()
    (slope,) = torch.autograd.grad(total, images, create_graph=True)
    length = slope.norm(dim=1) if form == "pixel" else slope.flatten(1).norm(dim=1)
    return (length - 1).square().mean()


def critic_loss(
    critic: Callable[[Tensor], Tensor],
    fake: Tensor,
    real: Tensor,
    mix: Tensor,
    weight: float,
    form: Form,
) -> Tensor:
    """Mean D(fake) - mean D(real) + weight · penalty at the mixed images."""
    loss = critic(fake).mean() - critic(real).mean()
    return loss + weight * penalty(critic, mix * real + (1 - mix) * fake, form)


def learnt(
    start: nn.Sequential, losses: Sequence[Callable[[nn.Sequential], Tensor]], lr: float
) -> nn.Sequential:
    """After one update of Adam for each loss."""
    optimizer = torch.optim.Adam(start.parameters(), lr=lr, betas=(0.5, 0.999))
    for loss in losses:
        optimizer.zero_grad()
        loss(start).backward()
        optimizer.step()
    return start


def assert_same_network(
    net: PatchCriticNet | EncoderDecoder, network: int, other: nn.Sequential
) -> None:
    """Equal to rounding.

    But for what has no gradient, which Adam moves by rounding errors: biases that a normalisation
    cancels, and the last bias of a critic, which fake and real images pull equally.
    """
    copy = plain(net, network)
    for number, (ours, theirs) in enumerate(zip(copy, other, strict=True)):
        if isinstance(ours, nn.LeakyReLU):
            continue
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-9, atol=1e-10)
        cancelled = number + 1 == len(copy) or hasattr(copy[number + 1], "affine")
        tolerance = (
            1e-6 if cancelled and isinstance(ours, nn.Conv2d | nn.ConvTranspose2d) else 1e-10
        )
        torch.testing.assert_close(ours.bias, theirs.bias, rtol=1e-9, atol=tolerance)
