"""EfficientNet-Lite0, the network that the package carries: 4.65 million parameters.

Its tensors have the names of timm's `tf_efficientnet_lite0`, so files of either serve both; written
here, a run need not wait seconds for timm to be imported.
"""

from __future__ import annotations

from typing import Final, final

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_EPSILON: Final = 1e-3
# Channels, kernel, stride, expansion and depth of the seven groups: Table 1 of the paper without
# its squeeze-and-excite.
_GROUPS: Final = (
    (16, 3, 1, 1, 1),
    (24, 3, 2, 6, 2),
    (40, 5, 2, 6, 2),
    (80, 3, 2, 6, 3),
    (112, 5, 1, 6, 3),
    (192, 5, 2, 6, 4),
    (320, 3, 1, 6, 1),
)


@final
class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0: inverted residuals with ReLU6, without squeeze-and-excite.

    It takes any image, padded as TensorFlow pads: a layer of stride 2 halves its side and rounds
    up.

    Layers to tap, with channels and side for a 224×224 input: `conv_stem` (32, 112²), `blocks.0`
    (16, 112²), `blocks.1` (24, 56²), `blocks.2` (40, 28²), `blocks.3` (80, 14²), `blocks.4` (112,
    14²), `blocks.5` (192, 7²), `blocks.6` (320, 7²), `classifier` (the logits); and what is inside
    them. A batch norm (`bn1`) shows its output before the activation, where timm's shows it after.

    Args:
        classes: Number of logits.

    Example:
        >>> import torch
        >>> EfficientNetLite0(5).eval()(torch.zeros(2, 3, 32, 40)).shape
        torch.Size([2, 5])

    Source: Tan & Le 2019 (arXiv:1905.11946), Table 1; tensorflow/tpu, `efficientnet/lite`.
    """

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv_stem = _Strided(3, 32, 3)
        self.bn1 = _norm(32)
        self.act1 = nn.ReLU6()  # a module, so that the network can be cut into a sequence
        groups, inputs = [], 32
        for outputs, kernel, stride, expansion, depth in _GROUPS:
            blocks: list[nn.Module] = []
            for place in range(depth):
                step = stride if place == 0 else 1
                if expansion == 1:
                    blocks.append(_Separable(inputs, outputs, kernel))
                else:
                    blocks.append(_Inverted(inputs, outputs, kernel, step, inputs * expansion))
                inputs = outputs
            groups.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*groups)
        self.conv_head = _pointwise(inputs, 1280)
        self.bn2 = _norm(1280)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        features = self.blocks(self.act1(self.bn1(self.conv_stem(image))))
        features = F.relu6(self.bn2(self.conv_head(features)))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


@final
class _Separable(nn.Module):
    """A depthwise convolution and a pointwise one, which changes the number of channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = _depthwise(inputs, kernel, 1), _norm(inputs)
        self.conv_pw, self.bn2 = _pointwise(inputs, outputs), _norm(outputs)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(features)))))
        return out


@final
class _Inverted(nn.Module):
    """Widened, convolved channel by channel, and narrowed; added to its input where it can be."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, wide: int) -> None:
        super().__init__()
        self.conv_pw, self.bn1 = _pointwise(inputs, wide), _norm(wide)
        self.conv_dw, self.bn2 = _depthwise(wide, kernel, stride), _norm(wide)
        self.conv_pwl, self.bn3 = _pointwise(wide, outputs), _norm(outputs)
        self._adds = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        wide = F.relu6(self.bn1(self.conv_pw(features)))
        wide = F.relu6(self.bn2(self.conv_dw(wide)))
        out: Tensor = self.bn3(self.conv_pwl(wide))
        return out + features if self._adds else out


@final
class _Strided(nn.Conv2d):
    """Stride 2, padded as TensorFlow's "same": what is odd of it at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, 2, groups=groups, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        kernel = self.kernel_size[0]
        sides = []
        for side in features.shape[:-3:-1]:
            more = max((-(-side // 2) - 1) * 2 + kernel - side, 0)
            sides += [more // 2, more - more // 2]
        return super().forward(F.pad(features, sides))


def _depthwise(channels: int, kernel: int, stride: int) -> nn.Conv2d:
    if stride == 2:
        return _Strided(channels, channels, kernel, groups=channels)
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)


def _pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, _EPSILON)
