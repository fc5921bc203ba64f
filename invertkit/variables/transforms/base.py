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
from typing import Final, final

from jaxtyping import Float
from torch import Tensor

from invertkit.core.pixel_space import per_channel
from invertkit.errors import ShapeError
from invertkit.variables.base import Size

Range = tuple[float, float]
"""Lowest and highest value of a parameter."""


SCALES: Final[Range] = (0.05, 20.0)
"""Between which a scale acts."""

FACTORS: Final[Range] = (0.25, 4.0)
"""Between which a colour's factor acts."""

FREE: Final[Range] = (-math.inf, math.inf)
"""Any value."""


class Transform(ABC):
    """Images to images, by a few parameters each, and back.

    The object is configuration; parameters are handed to it, `(b, size)`, one row an image.
    Values outside their range act like the end of the range and get no gradient there; `clamp`
    brings them back. Pictures and masks may also come as a batch of one, shared by all rows.
    Everything is decided by shapes, never by the parameters' values, so nothing waits for a
    device.

    Raises:
        ShapeError: Any method that takes parameters: they are not `(b, size)`.

    Example:
        >>> import torch
        >>> from invertkit.variables.transforms.colour import Brightness
        >>> brighter, images = Brightness(), torch.full((1, 3, 2, 2), 0.25)
        >>> parameters = torch.full((1, brighter.size), 2.0)
        >>> there = brighter.apply(images, parameters, (2, 2))
        >>> torch.allclose(brighter.invert(there, parameters, (2, 2)), images)
        True
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
