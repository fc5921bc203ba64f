"""What Gatys, Ecker & Bethge call style and content: Gram matrices and features of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

from jaxtyping import Float
from torch import Tensor

from invertkit.core.ranges import NonNegative
from invertkit.core.scene import Needs
from invertkit.core.view import View
from invertkit.errors import InputError, RecipeError
from invertkit.objectives.functional import gram_matrix, weighted_mean
from invertkit.objectives.layers import LayersObjective


@final
class GramMatrices(LayersObjective):
    """Distance of the layers' Gram matrices to those of the reference: texture without layout.

    Σ_l w_l mean_ij (G_ij - A_ij)², with G the mean over the pixels of f fᵀ, f a pixel's channels,
    and A that of the reference, which may have another shape. 0 at the reference and at whatever
    has its second moments.

    In a region, pixels are weighted by the share of them that the region covers at the layer's
    resolution, in the result and in the reference.

    Args:
        layers: Any layers with spatial output; `default` stands for the model's own list.
        weights: w_l, one for each layer; by default 1 / number of layers.
        model: Name of the network.
        axis: Of the channels in what the layers put out, -1 where they come last; found by itself
            if not named.

    Example:
        >>> import torch
        >>> from invertkit.core.images.inputs import Inputs
        >>> from invertkit.core.network import Network
        >>> from invertkit.core.randomness import Randomness
        >>> from invertkit.core.scene import Scene
        >>> class Colours(Network):
        ...     def observe(self, image, layers):
        ...         return {"colours": image}
        >>> photograph = torch.rand(1, 3, 4, 4, generator=torch.Generator())
        >>> scene = Scene(
        ...     (4, 4),
        ...     Inputs.of({"image": photograph}),
        ...     {"classifier": Colours(default_layers=["colours"])},
        ...     needs={"classifier": ("colours",)},
        ... )
        >>> gram = GramMatrices()
        >>> gram.prepare(View(photograph, scene, Randomness((0,)), is_reference=True))
        >>> gram.forward(View(photograph.flip(-1), scene, Randomness((0,)))).item() < 1e-9
        True

    Source: Gatys, Ecker & Bethge, CVPR 2016, Eq. 3 to 5, with w_l = 1/5 there. Their matrices are
    sums over pixels and their distance is divided by 4 N² M²: a quarter of this one where both
    images have M pixels.
    """

    weighs_region: ClassVar[bool] = True
    holds_reference: ClassVar[bool] = True

    def __init__(
        self,
        *,
        layers: Sequence[str] = ("default",),
        weights: Sequence[NonNegative] = (),
        model: str = "classifier",
        axis: int | None = None,
    ) -> None:
        super().__init__(layers=layers, model=model, axis=axis)
        self.weights = tuple(weights)
        if self.weights and "default" not in layers and len(self.weights) != len(self.layers):
            raise RecipeError(
                f"weights: expected one for each of {len(self.layers)} layers, got "
                f"{len(self.weights)}."
            )
        self._wanted: dict[str, Tensor] = {}

    def needs(self, models: Mapping[str, Any]) -> Needs:
        """The layers, with `default` resolved by the model.

        Raises:
            RecipeError: The model is missing, has no default layers, or not as many as weights.
            TapError: A layer does not exist.
        """
        names = self.names(models)
        if self.weights and len(names) != len(self.weights):
            raise RecipeError(
                f"weights: expected one for each of {len(names)} layers, got {len(self.weights)}."
            )
        return {self.model: names}

    def prepare(self, reference: View | None) -> None:
        """The matrices of the reference."""
        if reference is None:
            raise InputError("`gram_matrices` compares with a reference; give an image.")
        names = self.names(reference.scene.models)
        self._wanted = {name: self._matrix(reference, name) for name in names}

    def forward(self, view: View) -> Float[Tensor, " b"]:
        total = view.image.new_zeros(len(view.image))
        weights = self.weights or (1 / len(self._wanted),) * len(self._wanted)
        for weight, (name, wanted) in zip(weights, self._wanted.items(), strict=True):
            difference = self._matrix(view, name) - view.rows(wanted)
            total = total + weight * difference.square().mean((1, 2))
        return total

    def _matrix(self, view: View, name: str) -> Float[Tensor, "b c c"]:
        features = self.spatial(view, name, who="gram_matrices")
        return gram_matrix(features, view.region(features.shape[-2:]))


@final
class FeatureDistance(LayersObjective):
    """Mean squared difference to the features of the reference at the same place.

    The mean is over channels, pixels and layers; in a region the pixels are weighted by the share
    of them that the region of the result covers at the layer's resolution.

    Args:
        layers: Any layers with spatial output; `default` stands for the model's own list.
        model: Name of the network.
        axis: Of the channels in what the layers put out, -1 where they come last; found by itself
            if not named.

    Raises:
        InputError: The features of both have different shapes.

    Source: the content loss of Gatys, Ecker & Bethge, CVPR 2016, Eq. 1, which is half the sum
    where this is the mean.
    """

    weighs_region: ClassVar[bool] = True
    holds_reference: ClassVar[bool] = True

    def __init__(
        self,
        *,
        layers: Sequence[str] = ("default",),
        model: str = "classifier",
        axis: int | None = None,
    ) -> None:
        super().__init__(layers=layers, model=model, axis=axis)
        self._wanted: dict[str, Tensor] = {}

    def prepare(self, reference: View | None) -> None:
        """The features of the reference."""
        if reference is None:
            raise InputError("`feature_distance` compares with a reference; give an image.")
        names = self.names(reference.scene.models)
        self._wanted = {name: self._features(reference, name) for name in names}

    def forward(self, view: View) -> Float[Tensor, " b"]:
        total = view.image.new_zeros(len(view.image))
        for name, of_reference in self._wanted.items():
            features, wanted = self._features(view, name), view.rows(of_reference)
            if features.shape[1:] != wanted.shape[1:]:
                raise InputError(
                    f"`feature_distance` compares place by place, and the reference {view.of!r} "
                    "has another shape; let it be the first image, or use `gram_matrices`."
                )
            weights = view.region(features.shape[-2:])
            total = total + weighted_mean((features - wanted).square(), weights)
        return total / len(self._wanted)

    def _features(self, view: View, name: str) -> Float[Tensor, "b c h w"]:
        return self.spatial(view, name, who="feature_distance")
