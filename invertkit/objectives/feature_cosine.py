"""Equality of direction with the reference in a network's feature space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.view import View
from invertkit.objectives.base import expect_one_shape
from invertkit.objectives.layers import LayersObjective


@final
class FeatureCosine(LayersObjective):
    """Mean over layers of 1 - cos(features of the image, features of the reference).

    The features of a layer are one vector per image, over channels and pixels. Computed as half the
    squared distance of the two unit vectors: in [0, 2], and exactly 0 at the reference. Where a
    vector is 0 it stays 0.

    In a region, both features are multiplied by the weights that the region of the result has at
    the layer's size.

    Args:
        model: Name of any model that shows its layers: a discriminator, a classifier.
        layers: Of that model; `default` stands for its own list.
        axis: Of the channels in what the layers put out, which a region asks for; found by itself
            if not named.
    """

    weighs_region: ClassVar[bool] = True

    def __init__(
        self,
        *,
        model: str = "discriminator",
        layers: Sequence[str] = ("default",),
        axis: int | None = None,
    ) -> None:
        super().__init__(layers=layers, model=model, axis=axis)

    def forward(self, view: View) -> Float[Tensor, " b"]:
        expect_one_shape(view.image, view.reference, of=view.of, who="feature_cosine")
        key = (id(self), view.region_name, view.is_reference)
        wanted = view.kept(key, lambda: self._directions(view.of_reference(), view))
        total = view.image.new_zeros(len(view.image))
        for direction, goal in zip(self._directions(view, view), wanted, strict=True):
            total = total + (direction - goal).square().sum(1) / 2
        return total / len(wanted)

    def _directions(self, look: View, view: View) -> list[Float[Tensor, "b _"]]:
        """Unit vectors of the layers in `look`, weighed by the region of `view`."""
        names = view.kept((id(self), "layers"), lambda: self.names(view.scene.models))
        directions = []
        for name in names:
            if view.region_name == "everywhere":
                features = look.tap(name, model=self.model)
            else:
                features = self.spatial(look, name, who="feature_cosine")
                weights = view.region(features.shape[-2:])
                features = features if weights is None else features * weights
            directions.append(F.normalize(features.flatten(1), dim=1))
        return directions
