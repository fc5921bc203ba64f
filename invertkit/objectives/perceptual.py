"""Equality with the reference as a network sees it, layer by layer, at the same place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.ranges import NonNegative
from invertkit.core.scene import Needs
from invertkit.core.view import View
from invertkit.errors import RecipeError
from invertkit.models.perceptual import PerceptualNet, distance_map, unit_channels
from invertkit.objectives.base import Objective
from invertkit.objectives.functional import faded, weighted_mean


@final
class LPIPS(Objective):
    """Learned perceptual distance to the reference; 0 at the reference, never negative.

    Every layer gives a map of distances, Σ_c w_c (f̂_c - ĝ_c)² with channels of length 1 and the
    model's heads w; the value is the sum over layers of each map's mean.

    In a region, the pixels of the result are weighed by m + (1 - m)·`outside`, m the region's
    weights there, and the means become weighted means: either with the weights brought to each
    layer's size (`layers`), or as if each map were enlarged to the image's size (`maps`). The two
    are computed alike, since a weighted mean of an enlarged map is one of the map itself. Neither
    keeps the gradient inside the region: a layer sees as far as its receptive field reaches. Of
    the gradient of a 64×64 region in 128×128 noise, 44 % lies outside with AlexNet (random trunk)
    and 21 % with the embedded features, in both forms.

    Args:
        model: Name of a model of type `lpips`.
        mask: `layers`: weights shrunk bilinearly, without a low-pass, so that a region thinner
            than a layer's pixel may be missed there; `maps`: maps enlarged bilinearly.
        outside: Weight of what lies outside the region.

    Source: Zhang et al. 2018 (arXiv:1801.03924). Masks: Huh et al. 2020 (arXiv:2005.01703),
    Appendix B (`layers`, `outside` 0.3) and released code (`maps`); there weights are the mask cut
    from below at 0.3, which differs at soft edges only.
    """

    weighs_region: ClassVar[bool] = True

    def __init__(
        self,
        *,
        model: str = "perceptual",
        mask: Literal["layers", "maps"] = "layers",
        outside: NonNegative = 0.0,
    ) -> None:
        self.model, self.mask, self.outside = model, mask, outside

    def needs(self, models: Mapping[str, Any]) -> Needs:
        """Every layer of the model.

        Raises:
            RecipeError: The model is missing or has no heads.
        """
        net = _model(models, self.model, kind="lpips")
        if not isinstance(net, PerceptualNet):
            raise RecipeError(
                f"model: {self.model!r} has no heads for its channels; `lpips` needs a model of "
                f"type `lpips`, as in `models: {{{self.model}: {{type: lpips}}}}`."
            )
        return {self.model: tuple(net.heads)}

    def forward(self, view: View) -> Float[Tensor, " b"]:
        heads: Mapping[str, Tensor] = view.scene.models[self.model].heads
        wanted = view.kept(
            (id(self), "features"), lambda: self._features(view.of_reference(), heads)
        )
        total = view.image.new_zeros(len(view.image))
        for name, here in self._features(view, heads).items():
            distances = distance_map(here, wanted[name], heads[name])
            total = total + weighted_mean(distances, self._weights(view, distances.shape[-2:]))
        return total

    def _features(self, view: View, heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: unit_channels(view.tap(name, model=self.model)) for name in heads}

    def _weights(self, view: View, size: torch.Size) -> Float[Tensor, "#b 1 _ _"] | None:
        """The region's weights of a layer's pixels, computed once."""
        if view.region_name == "everywhere":
            return None

        def make() -> Tensor | None:
            weights = faded(view.region(view.image.shape[-2:]), self.outside)
            if weights is None:
                return None
            return _shrunk(weights, size) if self.mask == "layers" else _gathered(weights, size)

        return view.kept((id(self), view.region_name, view.is_reference, size), make)


def _shrunk(weights: Float[Tensor, "b 1 h w"], size: torch.Size) -> Float[Tensor, "b 1 _ _"]:
    return F.interpolate(weights, tuple(size), mode="bilinear", align_corners=False)


def _gathered(weights: Float[Tensor, "b 1 h w"], size: torch.Size) -> Float[Tensor, "b 1 _ _"]:
    """Uᵀ m, where U enlarges from `size` bilinearly: <U d, m> = <d, Uᵀ m>, and the sums agree."""
    down, across = (
        F.interpolate(torch.eye(small).to(weights)[None], large, mode="linear")[0]
        for small, large in zip(size, weights.shape[-2:], strict=True)
    )
    return down @ weights @ across.T


@final
class FeatureCosine(Objective):
    """Mean over layers of 1 - cos(features of the image, features of the reference).

    The features of a layer are one vector per image, over channels and pixels. Computed as half the
    squared distance of the two unit vectors: in [0, 2], and exactly 0 at the reference. Where a
    vector is 0 it stays 0.

    In a region, both features are multiplied by the weights that the region of the result has at
    the layer's size.

    Args:
        model: Name of any model that shows its layers: a discriminator, a classifier.
        layers: Of that model; `default` stands for its own list.
    """

    weighs_region: ClassVar[bool] = True

    def __init__(
        self, *, model: str = "discriminator", layers: Sequence[str] = ("default",)
    ) -> None:
        self.model, self.layers = model, tuple(layers)
        self._names: tuple[str, ...] = ()

    def needs(self, models: Mapping[str, Any]) -> Needs:
        """The layers, with `default` resolved by the model.

        Raises:
            RecipeError: The model is missing, or has no default layers.
            TapError: A layer does not exist.
        """
        self._names = _model(models, self.model).resolve(self.layers)
        if not self._names:
            raise RecipeError(f"Model {self.model!r} has no default layers; name some in `layers`.")
        return {self.model: self._names}

    def forward(self, view: View) -> Float[Tensor, " b"]:
        key = (id(self), view.region_name, view.is_reference)
        wanted = view.kept(key, lambda: self._directions(view.of_reference(), view))
        total = view.image.new_zeros(len(view.image))
        for here, there in zip(self._directions(view, view), wanted, strict=True):
            total = total + (here - there).square().sum(1) / 2
        return total / len(self._names)

    def _directions(self, look: View, view: View) -> list[Float[Tensor, "b n"]]:
        """Unit vectors of the layers in `look`, weighed by the region of `view`."""
        found = []
        for name in self._names:
            features = look.tap(name, model=self.model)
            if view.region_name != "everywhere" and features.ndim != 4:
                raise RecipeError(
                    f"Layer {name!r} puts out shape {tuple(features.shape)}; in a region "
                    "`feature_cosine` needs (b, c, h, w). Choose a convolutional layer."
                )
            weights = view.region(features.shape[-2:])
            if weights is not None:
                features = features * weights
            found.append(F.normalize(features.flatten(1), dim=1))
        return found


def _model(models: Mapping[str, Any], name: str, *, kind: str = "…") -> Any:
    if name not in models:
        known = ", ".join(models) or "none"
        raise RecipeError(
            f"model: no model {name!r} in `models`; known: {known}. Add one, as in "
            f"`models: {{{name}: {{type: {kind}}}}}`, or name another."
        )
    return models[name]
