"""Changes of a photograph's colours."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.resize import resize_image, resize_mask
from invertkit.core.pixel_space import per_channel
from invertkit.variables.base import Size
from invertkit.variables.transforms.base import FACTORS, FREE, Range, Transform

_LUMA = (0.299, 0.587, 0.114)


_YIQ = np.array([_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])


# Colour differences turned by 90°, luma dropped; the sign takes red towards yellow.
_TURN = tuple(
    np.linalg.solve(_YIQ, np.array([(0, 0, 0), (0, 0, 1), (0, -1, 0)]) @ _YIQ).flatten().tolist()
)


class _Colour(Transform):
    """One parameter, a factor unless said otherwise; no pixel changes place."""

    @property
    def ranges(self) -> tuple[Range, ...]:
        return (FACTORS,)

    def identity(self) -> Float[Tensor, " 1"]:
        return torch.ones(1)

    def inverse(self, parameters: Float[Tensor, "b 1"]) -> Float[Tensor, "b 1"]:
        return 1 / self.clamp(parameters)

    def apply(
        self, images: Float[Tensor, "#b c h w"], parameters: Float[Tensor, "b 1"], out: Size
    ) -> Float[Tensor, "b c h2 w2"]:
        amount = self.clamp(parameters).to(images)[:, :, None, None]
        return resize_image(self._recolour(images, amount), out)

    def weights(
        self, masks: Float[Tensor, "#b 1 h w"], parameters: Float[Tensor, "b 1"], out: Size
    ) -> Float[Tensor, "#b 1 h2 w2"]:
        return resize_mask(masks, out)

    @abstractmethod
    def _recolour(self, images: Tensor, amount: Float[Tensor, "b 1 1 1"]) -> Tensor:
        """The images in other colours, exactly the same at the identity."""


@final
@dataclass(frozen=True, kw_only=True)
class Brightness(_Colour):
    """Brighter or darker.

    The paper starts γ at 1 but inverts it by -γ, which do not fit together: the identity is 1 for
    a factor and 0 for an offset.

    Args:
        form: `factor`, x·γ with inverse 1/γ, as in the released code, γ between 2/3 and 3/2 (it
            has 0.667); `offset`, x + γ with inverse -γ, as in the paper, γ between -1 and 1.

    Example:
        >>> Brightness().apply(torch.full((1, 3, 1, 1), 0.5), torch.tensor([[1.2]]), (1, 1))[0, 0]
        tensor([[0.6000]])
    """

    form: Literal["factor", "offset"] = "factor"

    @property
    def names(self) -> tuple[str, ...]:
        return ("brightness",)

    @property
    def ranges(self) -> tuple[Range, ...]:
        return ((2 / 3, 3 / 2),) if self.form == "factor" else ((-1.0, 1.0),)

    def identity(self) -> Float[Tensor, " 1"]:
        return torch.ones(1) if self.form == "factor" else torch.zeros(1)

    def inverse(self, parameters: Float[Tensor, "b 1"]) -> Float[Tensor, "b 1"]:
        parameters = self.clamp(parameters)
        return 1 / parameters if self.form == "factor" else -parameters

    def _recolour(self, images: Tensor, amount: Float[Tensor, "b 1 1 1"]) -> Tensor:
        return images * amount if self.form == "factor" else images + amount


@final
@dataclass(frozen=True)
class Contrast(_Colour):
    """Distance from mid-grey, times a factor between 1/4 and 4.

    Torchvision scales about the mean grey of each image. That mean is another one once the image
    has been moved or brightened, so 1/γ would not undo γ in a composition; 0.5 stays where it is.

    Example:
        >>> Contrast().apply(torch.full((1, 3, 1, 1), 0.6), torch.tensor([[2.0]]), (1, 1))[0, 0]
        tensor([[0.7000]])
    """

    @property
    def names(self) -> tuple[str, ...]:
        return ("contrast",)

    def _recolour(self, images: Tensor, amount: Float[Tensor, "b 1 1 1"]) -> Tensor:
        return images + (amount - 1) * (images - 0.5)


@final
@dataclass(frozen=True)
class Saturation(_Colour):
    """Distance of each pixel from the grey of its luma, times a factor between 1/4 and 4.

    Luma (ITU-R BT.601) stays, so the inverse is 1/γ. For images of three channels.

    Example:
        >>> grey = torch.full((1, 3, 1, 1), 0.5)
        >>> Saturation().apply(grey, torch.tensor([[2.0]]), (1, 1))[0, :, 0, 0]
        tensor([0.5000, 0.5000, 0.5000])
    """

    @property
    def names(self) -> tuple[str, ...]:
        return ("saturation",)

    def _recolour(self, images: Tensor, amount: Float[Tensor, "b 1 1 1"]) -> Tensor:
        return images + (amount - 1) * (images - _luma(images))


@final
@dataclass(frozen=True)
class Hue(_Colour):
    """Colours turned about the grey axis, in YIQ, by an angle in turns; red goes by way of yellow.

    It is a linear map that keeps luma, with the negative angle as its inverse. The hue of HSV,
    which torchvision turns, jumps at grey and keeps no luma. Angles beyond ±0.5 come round. For
    images of three channels.

    Example:
        >>> red, whole_turn = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1), torch.ones(1, 1)
        >>> torch.allclose(Hue().apply(red, whole_turn, (1, 1)), red, atol=1e-6)
        True
    """

    @property
    def names(self) -> tuple[str, ...]:
        return ("hue",)

    @property
    def ranges(self) -> tuple[Range, ...]:
        return (FREE,)

    def identity(self) -> Float[Tensor, " 1"]:
        return torch.zeros(1)

    def inverse(self, parameters: Float[Tensor, "b 1"]) -> Float[Tensor, "b 1"]:
        return -self.clamp(parameters)

    def _recolour(self, images: Tensor, amount: Float[Tensor, "b 1 1 1"]) -> Tensor:
        angle = 2 * math.pi * amount
        turned = torch.einsum("ij,bjhw->bihw", per_channel(_TURN, images).reshape(3, 3), images)
        return images + (angle.cos() - 1) * (images - _luma(images)) + angle.sin() * turned


@final
@dataclass(frozen=True)
class Gamma(_Colour):
    """Pixels to the power of γ, between 1/4 and 4.

    Near black a power has no slope or an infinite one. So below θ = 0.01^(1/√γ) the curve is the
    straight line from 0 to (θ, θ^γ), on through negative values. The inverse's own line then ends
    at θ^γ, just where this one arrives, and 1/γ undoes γ for every number.

    Example:
        >>> Gamma().apply(torch.full((1, 3, 1, 1), 0.5), torch.tensor([[2.0]]), (1, 1))[0, 0]
        tensor([[0.2500]])
    """

    @property
    def names(self) -> tuple[str, ...]:
        return ("gamma",)

    def _recolour(self, images: Tensor, amount: Float[Tensor, "b 1 1 1"]) -> Tensor:
        knee = 0.01 ** amount.rsqrt()
        curve = torch.maximum(images, knee) ** amount
        return torch.where(images > knee, curve, images * knee ** (amount - 1))


def _luma(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    return (images * per_channel(_LUMA, images)).sum(1, keepdim=True)
