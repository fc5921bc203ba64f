"""A segmenter that only judges: no objective and no player ever sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.core.randomness import generator
from invertkit.core.recording.fused_adam import FusedAdam

_PAD: Final = 0.25  # largest shift of the training pictures, as a share of their sides
_Draw = Callable[[float, float], float]  # a uniform number between two


def _conv(inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, padding_mode="reflect"),
        nn.LeakyReLU(0.2),
    )


@final
class Judge(nn.Module):
    """A small U-shaped network without normalisation; it sees about 45 pixels around each.

    Unlike the encoder–decoder of the recipes it has skip connections, strides and no
    normalisation by the picture's own statistics, so what fools the one need not fool the other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.at_full = _conv(3, 12)
        self.at_half = _conv(12, 24, stride=2)
        self.at_quarter = nn.Sequential(
            _conv(24, 48, stride=2), _conv(48, 48, dilation=2), _conv(48, 48, dilation=2)
        )
        self.up_half = _conv(72, 24)
        self.up_full = _conv(36, 12)
        self.out = nn.Conv2d(12, 1, 3, 1, 1)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Logits, positive where it sees the object."""
        full = self.at_full((image - 0.5) * 4)
        half = self.at_half(full)
        quarter = self.at_quarter(half)
        up = F.interpolate(quarter, half.shape[-2:], mode="bilinear", align_corners=False)
        half = self.up_half(torch.cat([up, half], 1))
        up = F.interpolate(half, full.shape[-2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.out(self.up_full(torch.cat([up, full], 1)))
        return logits


def train_judge(
    image: Float[Tensor, "1 3 h w"],
    mask: Float[Tensor, "1 1 h w"],
    *,
    steps: int = 200,
    seed: int = 20230,
) -> Judge:
    """Learn what the object looks like from the source photograph and its mask, nothing else.

    The training pictures are the source mirrored, shifted by up to a quarter, with contrast,
    colour and noise slightly changed, and half of them with the object pasted a second time
    elsewhere on it, so that the place says nothing. About 15 s at 128×128 on one core.

    Args:
        image: The source, in [0, 1].
        mask: 1 on its object.
        steps: Adam updates, two pictures each.
        seed: Of weights and pictures.

    Example:
        >>> mask = torch.zeros(1, 1, 16, 16)
        >>> mask[..., 4:8, 4:8] = 1
        >>> judge = train_judge(torch.rand(1, 3, 16, 16), mask, steps=1)
        >>> judge(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 1, 16, 16])

    Source: ours.
    """
    numbers = generator(seed, "judge/pictures")
    # Layers draw their first weights from the global generator, which is nobody's to move.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Judge().to(image.device)
    optimizer = FusedAdam(judge.parameters(), lr=3e-3)
    with torch.enable_grad():
        for step in range(steps):
            optimizer.set_rate(3e-3 * min(1, (step + 1) / 20) * (1 - step / steps))
            pairs = [_varied(image, mask, numbers) for _ in range(2)]
            images, masks = (torch.cat(side) for side in zip(*pairs, strict=True))
            loss = F.binary_cross_entropy_with_logits(judge(images), masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return judge.eval().requires_grad_(False)


def _varied(image: Tensor, mask: Tensor, numbers: torch.Generator) -> tuple[Tensor, Tensor]:
    """A training picture and its mask: see `train_judge`. The order of the draws is its seed."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * torch.rand(1, generator=numbers).item()

    source, object_mask = image, mask
    if between(0, 1) < 0.5:
        image, mask = image.flip(3), mask.flip(3)
    image, mask = _shifted(image, mask, between)
    if between(0, 1) < 0.5:
        pasted, where = _elsewhere(source, object_mask, between)
        image, mask = image * (1 - where) + pasted * where, torch.maximum(mask, where)
    image = (image - 0.5) * between(0.93, 1.07) + 0.5
    tint = torch.randn(1, 3, 1, 1, generator=numbers).to(image) * 0.015
    noise = torch.randn(image.shape, generator=numbers).to(image) * between(0, 0.03)
    return image + tint + noise, mask


def _shifted(image: Tensor, mask: Tensor, between: _Draw) -> tuple[Tensor, Tensor]:
    """Both moved alike, with what comes in mirrored at the borders."""
    height, width = image.shape[-2:]
    across, down = int(_PAD * width), int(_PAD * height)
    top, left = int(between(0, 2 * down + 1)), int(between(0, 2 * across + 1))
    moved = (
        F.pad(values, (across, across, down, down), mode="reflect") for values in (image, mask)
    )
    image, mask = (each[..., top : top + height, left : left + width] for each in moved)
    return image, mask


def _elsewhere(source: Tensor, mask: Tensor, between: _Draw) -> tuple[Tensor, Tensor]:
    """The photograph and its mask rolled so that the whole object lies elsewhere in the frame."""
    height, width = source.shape[-2:]
    inside = mask[0, 0].nonzero()
    low, high = inside.min(0).values.tolist(), inside.max(0).values.tolist()
    shift = (
        int(between(-low[0], height - high[0])),
        int(between(-low[1], width - high[1])),
    )
    return source.roll(shift, (2, 3)), mask.roll(shift, (2, 3))
