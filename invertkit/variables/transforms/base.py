"""Transforms with exact inverses: where a generator's object goes, and in what light.

A generator paints objects where its training photographs had them. To invert a photograph, a
transform T_φ brings the photograph to where the generator is at home, and T_φ⁻¹ brings the
generated image back. Every image of a batch has its own row of parameters φ.

Nothing here cuts pixel values to [0, 1]: a cut forgets what was beyond it, and then no inverse
could be exact. Whoever saves or composites the image cuts it, once, at the end.

Source: Huh, Zhang, Zhu, Paris & Hertzmann 2020, "Transforming and Projecting Images into
Class-conditional Generative Networks", §3.3, and the released code (pix2latent).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.pixel_space import per_channel
from invertkit.core.view import resize_image, resize_mask
from invertkit.errors import InputError, ShapeError
from invertkit.variables.base import Size

Range = tuple[float, float]
"""Lowest and highest value of a parameter."""

Point = tuple[float, float]
"""Row and column, or height and width, as fractions of the image's sides."""

BIGGAN_CENTRE: Point = (137 / 256, 127 / 256)
"""Mean centre of the objects in images of BigGAN at 256 pixels; rows, columns.

The paper's text prints (137, 127) as the size and (213, 210) as the centre; its code has them
this way round.
"""
BIGGAN_SIZE: Point = (213 / 256, 210 / 256)
"""Most frequent height and width of those objects."""

_SCALES: Range = (0.05, 20.0)
_FACTORS: Range = (0.25, 4.0)
_FREE: Range = (-math.inf, math.inf)


class Transform(ABC):
    """Images to images, by a few parameters each, and back.

    The object is configuration; parameters are handed to it, `(b, size)`, one row an image.
    Values outside their range act like the end of the range and get no gradient there; `clamp`
    brings them back. Pictures and masks may also come as a batch of one, shared by all rows.
    Everything is decided by shapes, never by the parameters' values, so nothing waits for a
    device.

    Raises:
        ShapeError: Any method that takes parameters: they are not `(b, size)`.
    """

    @property
    def moves_pixels(self) -> bool:
        """Whether pixels change place, so that masks must follow."""
        return False

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """What the parameters of one image are called."""

    @property
    @abstractmethod
    def ranges(self) -> tuple[Range, ...]:
        """Between which values each parameter acts; mapped onto themselves by the inverse."""

    @property
    def size(self) -> int:
        """How many parameters one image has."""
        return len(self.names)

    @abstractmethod
    def identity(self) -> Float[Tensor, " size"]:
        """The parameters that change nothing."""

    @abstractmethod
    def inverse(self, parameters: Float[Tensor, "b size"]) -> Float[Tensor, "b size"]:
        """The parameters that undo these."""

    @abstractmethod
    def apply(
        self, images: Float[Tensor, "#b c h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "b c h2 w2"]:
        """The images transformed, at the size `out`; nominally in [0, 1], free to leave it."""

    @abstractmethod
    def weights(
        self, masks: Float[Tensor, "#b 1 h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "#b 1 h2 w2"]:
        """The masks moved along with the images, 0 where nothing comes from; colours do nothing."""

    def invert(
        self, images: Float[Tensor, "#b c h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "b c h2 w2"]:
        """What `apply` with these parameters was given."""
        return self.apply(images, self.inverse(parameters), out)

    def invert_weights(
        self, masks: Float[Tensor, "#b 1 h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "#b 1 h2 w2"]:
        """The masks moved along with the images of `invert`."""
        return self.weights(masks, self.inverse(parameters), out)

    @final
    def coverage(
        self, parameters: Float[Tensor, "b size"], source: Size, out: Size
    ) -> Float[Tensor, "#b 1 h2 w2"]:
        """How far an image of size `source` reaches once applied: 1 inside, 0 beyond its edge."""
        return self.weights(parameters.new_ones(1, 1, *source), parameters, out)

    @final
    def invert_coverage(
        self, parameters: Float[Tensor, "b size"], source: Size, out: Size
    ) -> Float[Tensor, "#b 1 h2 w2"]:
        """How far a generated image of size `source` reaches once inverted, for compositing."""
        return self.invert_weights(parameters.new_ones(1, 1, *source), parameters, out)

    @final
    def clamp(self, parameters: Float[Tensor, "b size"]) -> Float[Tensor, "b size"]:
        """The parameters, each brought to the nearest value of its range."""
        if parameters.ndim != 2 or parameters.shape[1] != self.size:
            raise ShapeError(
                f"{type(self).__name__} takes (images, {self.size}) parameters, "
                f"{', '.join(self.names)}; got {tuple(parameters.shape)}."
            )
        lowest, highest = (
            per_channel(ends, parameters).flatten() for ends in zip(*self.ranges, strict=True)
        )
        return parameters.clamp(lowest, highest)


@final
@dataclass(frozen=True, kw_only=True)
class Spatial(Transform):
    """Scale and shift: T_φ(y) has at p what y has at s·p + t.

    Coordinates run from -1 to 1 between the outer edges of each image, x to the right and y down,
    as in `torch.nn.functional.affine_grid` with `align_corners=False`. So s < 1 zooms into the
    photograph, t is in half-sides of it, and the inverse is [1/s, -t/s]. Beyond its edge an image
    is 0. Between images of other proportions the identity stretches.

    The parameter is s itself, so that the published starts and step sizes hold; it acts between
    0.05 and 20.

    Pixels are weighed by a triangle as wide as one pixel of the coarser grid. Where nothing
    shrinks that is bilinear interpolation, the same as `grid_sample`; where the image shrinks, by
    its scale or between sizes, it is the low-pass of an antialiased resize, and fine patterns turn
    grey at any scale instead of aliasing. (The paper suspects that aliasing behind the failure of
    gradients through T_φ⁻¹ with a plain grid sampler.) The weights are separable: one matrix for
    rows and one for columns, and gradients need no scattered additions.

    At equal sizes the identity is exact. Along its edge a transformed image fades into the 0
    beyond as `coverage` does, so `image + (1 - coverage) * behind` is a seamless composite.

    Args:
        anisotropic: Parameters [s_x, s_y, t_x, t_y], as in the paper; by default [s, t_x, t_y],
            as in the released code.
    """

    anisotropic: bool = False

    @property
    def moves_pixels(self) -> bool:
        return True

    @property
    def names(self) -> tuple[str, ...]:
        return (("s_x", "s_y") if self.anisotropic else ("s",)) + ("t_x", "t_y")

    @property
    def ranges(self) -> tuple[Range, ...]:
        return (_SCALES,) * (self.size - 2) + (_FREE, _FREE)

    def identity(self) -> Float[Tensor, " size"]:
        return torch.tensor([1.0] * (self.size - 2) + [0.0, 0.0])

    def inverse(self, parameters: Float[Tensor, "b size"]) -> Float[Tensor, "b size"]:
        parameters = self.clamp(parameters)
        scales, shifts = parameters[:, :-2], parameters[:, -2:]
        return torch.cat([1 / scales, -shifts / scales], 1)

    def apply(
        self, images: Float[Tensor, "#b c h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "b c h2 w2"]:
        parameters = self.clamp(parameters)
        scale_x, scale_y = parameters[:, 0], parameters[:, -3]
        shift_x, shift_y = parameters[:, -2], parameters[:, -1]
        height, width = images.shape[-2:]
        rows = _resampling(scale_y, shift_y, height, out[0]).to(images)
        columns = _resampling(scale_x, shift_x, width, out[1]).to(images)
        lines = torch.einsum("bih,bchw->bciw", rows, images)
        return torch.einsum("bjw,bciw->bcij", columns, lines)

    def weights(
        self, masks: Float[Tensor, "#b 1 h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "b 1 h2 w2"]:
        return self.apply(masks, parameters, out)


def _resampling(
    scale: Float[Tensor, " b"], shift: Float[Tensor, " b"], source: int, target: int
) -> Float[Tensor, "b target source"]:
    """The weight of each old pixel of a line in each new one."""
    step = source / target
    old, new = (torch.arange(n, dtype=scale.dtype, device=scale.device) for n in (source, target))
    centres = (new + 0.5 - target / 2) * step
    places = scale[:, None] * centres + (shift * (source / 2))[:, None] + (source - 1) / 2
    reach = _larger(scale * step, 1)[:, None]
    distances = (old - places[..., None]) / reach[..., None]
    weights = _larger(1 - distances.abs(), 0) / reach[..., None]
    # What these would add up to if the line had no ends: 1 - B(x + r) / 2r² + ..., where B is the
    # periodic second Bernoulli polynomial, since a triangle is a second difference of |x| / 2.
    left, middle, right = (_bernoulli(places + k * torch.remainder(reach, 1)) for k in (-1, 0, 1))
    total = 1 - (left - 2 * middle + right) / (2 * reach.square())
    return weights / total[..., None]


def _larger(values: Tensor, least: float) -> Tensor:
    """As `clamp`, but with half the slope at the kink: the identity sits on kinks."""
    return torch.maximum(values, values.new_full((), least))


def _bernoulli(x: Tensor) -> Tensor:
    """The second Bernoulli polynomial of the fractional part, less its constant."""
    fraction = torch.remainder(x, 1)
    return fraction.square() - fraction


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
        return (_FACTORS,)

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
    """

    @property
    def names(self) -> tuple[str, ...]:
        return ("hue",)

    @property
    def ranges(self) -> tuple[Range, ...]:
        return (_FREE,)

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


@final
@dataclass(frozen=True)
class Unmoved(Transform):
    """No transform: no parameters; images are resized to where they are wanted."""

    @property
    def moves_pixels(self) -> bool:
        return True

    @property
    def names(self) -> tuple[str, ...]:
        return ()

    @property
    def ranges(self) -> tuple[Range, ...]:
        return ()

    def identity(self) -> Float[Tensor, " 0"]:
        return torch.zeros(0)

    def inverse(self, parameters: Float[Tensor, "b 0"]) -> Float[Tensor, "b 0"]:
        return parameters

    def apply(
        self, images: Float[Tensor, "#b c h w"], parameters: Float[Tensor, "b 0"], out: Size
    ) -> Float[Tensor, "#b c h2 w2"]:
        return resize_image(images, out)

    def weights(
        self, masks: Float[Tensor, "#b 1 h w"], parameters: Float[Tensor, "b 0"], out: Size
    ) -> Float[Tensor, "#b 1 h2 w2"]:
        return resize_mask(masks, out)


@final
@dataclass(frozen=True)
class Composition(Transform):
    """Several transforms, one after the other; undone in reverse, the last first.

    The released code undoes them in the order in which it applies them, which is wrong as soon as
    two do not commute, as contrast and a brightness offset do not.

    Parameters are those of the parts, side by side. `inverse` gives each part the inverse of its
    own; they belong to the reversed composition, so call `invert` and not `apply` with them. The
    first part that moves pixels brings the image to its new size; colours before it act at full
    size. The paper's T = spatial ∘ colour has the colour first; its inverse then recolours the 0
    beyond a moved image's edge as well, so composite by `coverage * image`.

    Args:
        parts: In the order of application.

    Raises:
        InputError: There are no parts.
    """

    parts: Sequence[Transform]

    def __post_init__(self) -> None:
        if not self.parts:
            raise InputError("A composition needs at least one transform; give it some `parts`.")
        object.__setattr__(self, "parts", tuple(self.parts))

    @property
    def moves_pixels(self) -> bool:
        return any(part.moves_pixels for part in self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(chain.from_iterable(part.names for part in self.parts))

    @property
    def ranges(self) -> tuple[Range, ...]:
        return tuple(chain.from_iterable(part.ranges for part in self.parts))

    def identity(self) -> Float[Tensor, " size"]:
        return torch.cat([part.identity() for part in self.parts])

    def inverse(self, parameters: Float[Tensor, "b size"]) -> Float[Tensor, "b size"]:
        return torch.cat([part.inverse(own) for part, own in self._each(parameters)], 1)

    def apply(
        self, images: Float[Tensor, "#b c h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "b c h2 w2"]:
        for part, own in self._each(parameters):
            images = part.apply(images, own, _size_after(part, images, out))
        return resize_image(images, out)

    def invert(
        self, images: Float[Tensor, "#b c h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "b c h2 w2"]:
        for part, own in reversed([*self._each(parameters)]):
            images = part.invert(images, own, _size_after(part, images, out))
        return resize_image(images, out)

    def weights(
        self, masks: Float[Tensor, "#b 1 h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "#b 1 h2 w2"]:
        for part, own in self._each(parameters):
            masks = part.weights(masks, own, _size_after(part, masks, out))
        return resize_mask(masks, out)

    def invert_weights(
        self, masks: Float[Tensor, "#b 1 h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "#b 1 h2 w2"]:
        for part, own in reversed([*self._each(parameters)]):
            masks = part.invert_weights(masks, own, _size_after(part, masks, out))
        return resize_mask(masks, out)

    def _each(self, parameters: Float[Tensor, "b size"]) -> Iterator[tuple[Transform, Tensor]]:
        own = self.clamp(parameters).split([part.size for part in self.parts], 1)
        return zip(self.parts, own, strict=True)


def _size_after(part: Transform, images: Tensor, out: Size) -> Size:
    height, width = images.shape[-2:]
    return out if part.moves_pixels else (height, width)


def spatial_start(
    mask: Float[Tensor, "1 1 h w"],
    *,
    centre: Point = BIGGAN_CENTRE,
    size: Point = BIGGAN_SIZE,
    anisotropic: bool = False,
    form: Literal["exact", "published"] = "exact",
) -> Float[Tensor, " n"]:
    """φ₀: parameters of `Spatial` that bring the object to where a generator paints objects.

    The scale is s = max(h_m / h̄, w_m / w̄) along both axes, so that the box of the mask just fits
    into the generator's usual one. The generator's centre p̄ = 2·centre - 1 then shows what the
    photograph has at s·p̄ + t, which is the centre p_m of the box for t = p_m - s·p̄.

    Args:
        mask: Where the object is; its box holds every pixel above 0.5.
        centre: Row and column of the generator's objects, as fractions of its image.
        size: Height and width of the generator's objects, as fractions of its image.
        anisotropic: For `Spatial(anisotropic=True)`: four numbers instead of three.
        form: `exact`, as above; `published`, t = p_m - p̄ as in the released code, which leaves out
            s and so misses by (s - 1)·p̄, little for centres near the middle. (The paper prints
            half the opposite difference.)

    Returns:
        [s, t_x, t_y], or [s, s, t_x, t_y], in the dtype and on the device of the mask.

    Raises:
        InputError: No pixel of the mask is above 0.5.
        ShapeError: The mask is not `(1, 1, h, w)`.

    Source: Huh et al. 2020, §3.4, and the released code.
    """
    if mask.ndim != 4 or mask.shape[:2] != (1, 1):
        raise ShapeError(f"A start needs one mask, (1, 1, height, width); got {tuple(mask.shape)}.")
    inside = mask[0, 0] > 0.5
    if not inside.any():
        raise InputError("The mask is empty: no pixel is above 0.5, so there is no object to find.")
    (top, bottom), (left, right) = (_ends(inside.any(axis)) for axis in (1, 0))
    scale = max((bottom - top) / size[0], (right - left) / size[1])
    scale = min(max(scale, _SCALES[0]), _SCALES[1])
    shown = scale if form == "exact" else 1.0
    shift_y = (top + bottom - 1) - shown * (2 * centre[0] - 1)
    shift_x = (left + right - 1) - shown * (2 * centre[1] - 1)
    return mask.new_tensor([scale] * (2 if anisotropic else 1) + [shift_x, shift_y])


def _ends(line: Tensor) -> Range:
    """Where the true values of a line begin and end, as fractions of its length."""
    places = line.nonzero()
    return int(places[0]) / len(line), (int(places[-1]) + 1) / len(line)
