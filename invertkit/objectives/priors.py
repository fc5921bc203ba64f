"""What any natural image is expected to be: smooth, and not too bright."""

from __future__ import annotations

from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.pixel_space import Space, in_space
from invertkit.core.ranges import Positive
from invertkit.core.view import View
from invertkit.objectives.base import Objective
from invertkit.objectives.functional import (
    total_variation_l1,
    total_variation_l2,
    total_variation_mv,
)


@final
class TotalVariation(Objective):
    """Roughness of the image.

    Args:
        form: `l1`, the mean absolute difference in four directions; `l2`, the norm of the
            differences in four directions; `mahendran_vedaldi`, Σ(d_right² + d_down²)^(β/2).
        space: Units of the pixels.
        coupled: For `l2`: the norm over the whole batch, as the released loops take it.
        beta: For `mahendran_vedaldi`: the exponent β.

    Example:
        >>> from invertkit.core.randomness import Randomness
        >>> from invertkit.core.scene import Scene
        >>> flat = View(torch.ones(1, 3, 4, 4), Scene((4, 4)), Randomness((0,)))
        >>> TotalVariation().forward(flat)
        tensor([0.])

    Source: `l1`, `l2`: released DeepInversion and MAGIC code; Mahendran & Vedaldi 2015.
    """

    weighs_region: ClassVar[bool] = True

    def __init__(
        self,
        *,
        form: Literal["l1", "l2", "mahendran_vedaldi"] = "l1",
        space: Space = "unit",
        coupled: bool = False,
        beta: Positive = 2.0,
    ) -> None:
        self.form, self.space, self.coupled, self.beta = form, space, coupled, beta

    @property
    def couples_images(self) -> bool:
        """Whether the norm is taken over the whole batch."""
        return self.form == "l2" and self.coupled

    def forward(self, view: View) -> Float[Tensor, " b"]:
        image = in_space(view.image, self.space)
        weights = view.region(image.shape[-2:])
        match self.form:
            case "l1":
                return total_variation_l1(image, weights)
            case "l2":
                return total_variation_l2(image, weights, coupled=self.coupled)
            case "mahendran_vedaldi":
                return total_variation_mv(image, weights, beta=self.beta)


@final
class Norm(Objective):
    """Length of the image as a vector.

    Args:
        squared: ‖x‖² (the papers) instead of ‖x‖ (the released loops).
        space: Units of the pixels; in `imagenet` units, 0 is the mean colour of photographs.

    Example:
        >>> from invertkit.core.randomness import Randomness
        >>> from invertkit.core.scene import Scene
        >>> white = View(torch.ones(1, 3, 2, 2), Scene((2, 2)), Randomness((0,)))
        >>> Norm().forward(white)
        tensor([12.])

    Source: MAGIC ρ(x'), Mahendran & Vedaldi 2015; plain form: released MAGIC code.
    """

    weighs_region: ClassVar[bool] = True

    def __init__(self, *, squared: bool = True, space: Space = "unit") -> None:
        self.squared, self.space = squared, space

    def forward(self, view: View) -> Float[Tensor, " b"]:
        image = in_space(view.image, self.space)
        weights = view.region(image.shape[-2:])
        if weights is not None:  # the root, so that squares count by the weight itself
            image = image * weights.sqrt()
        if self.squared:
            return image.square().sum((1, 2, 3))
        length: Tensor = torch.linalg.vector_norm(image.flatten(1), dim=1)
        return length


@final
class Range(Objective):
    """Mean squared distance of the pixels to [0, 1]; 0 inside.

    For variables that may leave the range, so that what the terms saw is what is saved.

    Example:
        >>> from invertkit.core.randomness import Randomness
        >>> from invertkit.core.scene import Scene
        >>> bright = View(torch.full((1, 3, 2, 2), 1.5), Scene((2, 2)), Randomness((0,)))
        >>> Range().forward(bright)
        tensor([0.2500])
    """

    weighs_region: ClassVar[bool] = True

    def __init__(self) -> None:
        pass

    def forward(self, view: View) -> Float[Tensor, " b"]:
        excess = (view.image - view.image.clamp(0, 1)).square()
        weights = view.region(view.image.shape[-2:])
        return (excess if weights is None else excess * weights).mean((1, 2, 3))
