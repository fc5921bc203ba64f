"""ResNets for 32×32 images, with the names of the robustness library, so that its files load."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, final

from jaxtyping import Float
from torch import Tensor, nn

DEPTHS: Final[Mapping[int, tuple[int, ...]]] = MappingProxyType(
    {
        18: (2, 2, 2, 2),
        34: (3, 4, 6, 3),
        50: (3, 4, 6, 3),
        101: (3, 4, 23, 3),
        152: (3, 8, 36, 3),
    }
)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


@final
class _Block(nn.Module):
    """Two 3×3 convolutions, or 1×1, 3×3, 1×1 with four times the width at the end."""

    def __init__(self, inputs: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        kernels = (1, 3, 1) if bottleneck else (3, 3)
        widths = (inputs, *(width for _ in kernels[:-1]), outputs)
        for i, kernel in enumerate(kernels):
            step = stride if i == len(kernels) - 2 else 1
            setattr(self, f"conv{i + 1}", _convolution(widths[i], widths[i + 1], kernel, step))
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(widths[i + 1]))
        self.depth = len(kernels)
        self.relu = nn.ReLU()
        self.shortcut = (
            nn.Sequential()
            if stride == 1 and inputs == outputs
            else nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
        )

    def forward(self, features: Tensor) -> Tensor:
        out = features
        for i in range(1, self.depth + 1):
            out = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(out))
            if i < self.depth:
                out = self.relu(out)
        last: Tensor = self.relu(out + self.shortcut(features))
        return last


@final
class CifarResNet(nn.Module):
    """A ResNet whose stem is one 3×3 convolution without stride or pooling.

    Layers to tap, with their size for a 32×32 input: `relu` (the stem, 32²), `layer1` (32²),
    `layer2` (16²), `layer3` (8²), `layer4` (4²), `linear` (the logits). It takes any image of at
    least 8×8 pixels; the library's own takes 32×32 only, where both are the same function.

    Args:
        depth: 18, 34, 50, 101 or 152.
        classes: Number of logits.

    Example:
        >>> import torch
        >>> CifarResNet(18, classes=5).eval()(torch.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 5])

    Source: He et al. 2016 (arXiv:1512.03385) as in MadryLab/robustness 1.2.1,
    `cifar_models/resnet.py`.
    """

    def __init__(self, depth: int = 50, *, classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(3, 64, 3), nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        inputs, bottleneck = 64, depth >= 50
        for i, blocks in enumerate(DEPTHS[depth]):
            width, group = 64 * 2**i, []
            for block in range(blocks):
                stride = 2 if i > 0 and block == 0 else 1
                group.append(_Block(inputs, width, stride, bottleneck=bottleneck))
                inputs = 4 * width if bottleneck else width
            setattr(self, f"layer{i + 1}", nn.Sequential(*group))
        self.linear = nn.Linear(inputs, classes)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Logits of a normalised image."""
        features = self.relu(self.bn1(self.conv1(image)))
        for i in range(1, 5):
            features = self.get_submodule(f"layer{i}")(features)
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits
