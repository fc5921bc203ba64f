"""Equality with what was given: the photograph, pixel by pixel, or a network's own weights."""

from __future__ import annotations

from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.ranges import NonNegative
from invertkit.core.view import View
from invertkit.errors import TapError
from invertkit.objectives.base import Objective, expect_one_shape
from invertkit.objectives.functional import faded, weighted_mean


@final
class PixelDistance(Objective):
    """Mean absolute or mean squared difference to the reference at the same place.

    In a region it is the weighted mean with weights m + (1 - m)·`outside`, m those of the region
    in the result.

    Args:
        form: `l1` or `l2` (squared).
        outside: Weight of what lies outside the region.

    Example:
        >>> from invertkit.core.images.inputs import Inputs
        >>> from invertkit.core.randomness import Randomness
        >>> from invertkit.core.scene import Scene
        >>> scene = Scene((4, 4), Inputs.of({"image": torch.zeros(1, 3, 4, 4)}))
        >>> PixelDistance().forward(View(torch.full((1, 3, 4, 4), 0.5), scene, Randomness((0,))))
        tensor([0.5000])

    Source: the masked form is that of Huh et al. 2020 (arXiv:2005.01703), Appendix B, with
    `outside` 0.3; there the mask is cut from below, which differs at soft edges only.
    """

    weighs_region: ClassVar[bool] = True

    def __init__(self, *, form: Literal["l1", "l2"] = "l1", outside: NonNegative = 0.0) -> None:
        self.form, self.outside = form, outside

    def forward(self, view: View) -> Float[Tensor, " b"]:
        expect_one_shape(view.image, view.reference, of=view.of, who="pixel_distance")
        difference = view.image - view.reference
        distance = difference.abs() if self.form == "l1" else difference.square()
        weights = view.region(distance.shape[-2:])
        return weighted_mean(distance, faded(weights, self.outside))


@final
class WeightDeviation(Objective):
    """‖θ - θ₀‖₂: how far the weights of a network have moved from where they started.

    The length of one of the variable's tensors, which holds the difference θ - θ₀ itself, one row
    per image. Its slope at 0 is 0. A region means nothing to it.

    Args:
        tensor: Name of that tensor.
        squared: Do not take the root.

    Example:
        >>> from invertkit.core.randomness import Randomness
        >>> from invertkit.core.scene import Scene
        >>> image, moved = torch.zeros(1, 3, 4, 4), {"weights": torch.tensor([[3.0, 4.0]])}
        >>> WeightDeviation().forward(View(image, Scene((4, 4)), Randomness((0,)), tensors=moved))
        tensor([5.])

    Source: Huh et al. 2020 (arXiv:2005.01703), Eq. 6.
    """

    weighs_region: ClassVar[bool] = True  # as it does not look at the image, none is cut out for it

    def __init__(self, *, tensor: str = "weights", squared: bool = False) -> None:
        self.tensor, self.squared = tensor, squared

    def forward(self, view: View) -> Float[Tensor, " b"]:
        if self.tensor not in view.tensors:
            known = ", ".join(view.tensors) or "none"
            raise TapError(
                f"`weight_deviation` reads tensor {self.tensor!r}, which this recipe's variable "
                f"does not have; it has: {known}."
            )
        difference = view.tensors[self.tensor].flatten(1)
        if self.squared:
            return difference.square().sum(1)
        # Not the root of a sum of squares, whose slope at 0, where every run begins, is no number.
        length: Tensor = torch.linalg.vector_norm(difference, dim=1)
        return length
