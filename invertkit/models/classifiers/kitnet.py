"""KitNet: the small residual classifier that the package carries.

Average pooling instead of strides after the stem, and SiLU instead of ReLU, keep the gradient
with respect to the image smooth: aliasing and dead units both show up as grid noise in a
picture that is made by descending that gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from jaxtyping import Float
from torch import Tensor, nn


def _conv(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.SiLU(),
    )


@final
class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = features + self.second(self.first(features))
        return out


@final
class KitNet(nn.Module):
    """Residual network of seven 3×3 convolutions after a 4×4 stem.

    It takes any image of at least 16×16 pixels.

    Layers to tap, with their size for a 64×64 input: `stem` (32²), `layer1` (32²), `layer2`
    (16²), `layer3` (8²), `fc` (the logits).

    Args:
        classes: Number of logits.
        widths: Channels of `stem`, `layer1`, `layer2`, `layer3`.

    Example:
        >>> import torch
        >>> KitNet(5, widths=(4, 4, 8, 8)).eval()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 5])

    Source: ours, after He et al. 2016 (arXiv:1512.03385); smooth activations after Xie et al.
    2020 (arXiv:2006.14536).
    """

    def __init__(self, classes: int = 10, *, widths: Sequence[int] = (24, 48, 96, 192)) -> None:
        super().__init__()
        a, b, c, d = widths
        self.stem = _conv(3, a, kernel=4, stride=2)
        self.layer1 = _conv(a, b)
        self.layer2 = nn.Sequential(nn.AvgPool2d(2), _conv(b, c), _Residual(c))
        self.layer3 = nn.Sequential(nn.AvgPool2d(2), _conv(c, d), _Residual(d))
        self.fc = nn.Linear(d, classes)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Logits of a normalised image."""
        features = self.layer3(self.layer2(self.layer1(self.stem(image))))
        logits: Tensor = self.fc(features.mean((2, 3)))
        return logits
