"""Equality with the reference photograph, pixel by pixel."""

from __future__ import annotations

from typing import ClassVar, Literal, final

from jaxtyping import Float
from torch import Tensor

from invertkit.errors import InputError
from invertkit.objectives.base import Objective
from invertkit.objectives.functional import weighted_mean
from invertkit.view import View


@final
class PixelDistance(Objective):
    """Mean absolute or mean squared difference to the reference at the same place.

    Args:
        form: `l1` or `l2` (squared).
    """

    weighs_region: ClassVar[bool] = True

    def __init__(self, *, form: Literal["l1", "l2"] = "l1") -> None:
        self.form = form

    def forward(self, view: View) -> Float[Tensor, " b"]:
        if view.scene.reference is None:
            raise InputError("`pixel_distance` compares with a reference; give an image.")
        difference = view.image - view.scene.reference
        distance = difference.abs() if self.form == "l1" else difference.square()
        return weighted_mean(distance, view.region(distance.shape[-2:]))
