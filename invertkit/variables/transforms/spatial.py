"""Shift and scale of a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.resampling import line_weights
from invertkit.core.images.resize import resize_image, resize_mask
from invertkit.errors import InputError, ShapeError
from invertkit.variables.base import Size
from invertkit.variables.transforms.base import FREE, SCALES, Range, Transform

Point = tuple[float, float]
"""Row and column, or height and width, as fractions of the image's sides."""


BIGGAN_CENTRE: Point = (137 / 256, 127 / 256)
"""Mean centre of the objects in images of BigGAN at 256 pixels; rows, columns.

The paper's text prints (137, 127) as the size and (213, 210) as the centre; its code has them
this way round.
"""


BIGGAN_SIZE: Point = (213 / 256, 210 / 256)
"""Most frequent height and width of those objects."""


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

    Example:
        >>> halves = torch.tensor([[0.0, 1.0]]).expand(1, 1, 2, 2)
        >>> spatial, right = Spatial(), torch.tensor([[1.0, 1.0, 0.0]])  # by one of two pixels
        >>> spatial.apply(halves, right, (2, 2))[0, 0, 0].tolist()
        [1.0, 0.0]
        >>> spatial.coverage(right, (2, 2), (2, 2))[0, 0, 0].tolist()
        [1.0, 0.0]

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
        return (SCALES,) * (self.size - 2) + (FREE, FREE)

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
        rows = line_weights(scale_y, shift_y, height, out[0]).to(images)
        columns = line_weights(scale_x, shift_x, width, out[1]).to(images)
        lines = torch.einsum("bih,bchw->bciw", rows, images)
        return torch.einsum("bjw,bciw->bcij", columns, lines)

    def weights(
        self, masks: Float[Tensor, "#b 1 h w"], parameters: Float[Tensor, "b size"], out: Size
    ) -> Float[Tensor, "b 1 h2 w2"]:
        return self.apply(masks, parameters, out)


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

    Example:
        >>> mask = torch.zeros(1, 1, 4, 4)
        >>> mask[:, :, :2, :2] = 1
        >>> spatial_start(mask, centre=(0.5, 0.5), size=(1.0, 1.0))
        tensor([ 0.5000, -0.5000, -0.5000])

    Source: Huh et al. 2020, §3.4, and the released code.
    """
    if mask.ndim != 4 or mask.shape[:2] != (1, 1):
        raise ShapeError(f"A start needs one mask, (1, 1, height, width); got {tuple(mask.shape)}.")
    inside = mask[0, 0] > 0.5
    if not inside.any():
        raise InputError("The mask is empty: no pixel is above 0.5, so there is no object to find.")
    (top, bottom), (left, right) = (_ends(inside.any(axis)) for axis in (1, 0))
    scale = max((bottom - top) / size[0], (right - left) / size[1])
    scale = min(max(scale, SCALES[0]), SCALES[1])
    shown = scale if form == "exact" else 1.0
    shift_y = (top + bottom - 1) - shown * (2 * centre[0] - 1)
    shift_x = (left + right - 1) - shown * (2 * centre[1] - 1)
    return mask.new_tensor([scale] * (2 if anisotropic else 1) + [shift_x, shift_y])


def _ends(line: Tensor) -> Range:
    """Where the true values of a line begin and end, as fractions of its length."""
    places = line.nonzero()
    return int(places[0]) / len(line), (int(places[-1]) + 1) / len(line)
