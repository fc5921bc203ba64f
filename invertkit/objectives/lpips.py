"""Learned perceptual distance to the reference, layer by layer, at the same place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.ranges import NonNegative
from invertkit.core.scene import Needs
from invertkit.core.view import View
from invertkit.errors import RecipeError
from invertkit.models.perceptual.network import PerceptualNet, distance_map, unit_channels
from invertkit.objectives.base import Objective, expect_one_shape, required_model
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
        net = required_model(models, self.model, kind="lpips")
        if not isinstance(net, PerceptualNet):
            raise RecipeError(
                f"model: {self.model!r} has no heads for its channels; `lpips` needs a model of "
                f"type `lpips`, as in `models: {{{self.model}: {{type: lpips}}}}`."
            )
        return {self.model: tuple(net.heads)}

    def forward(self, view: View) -> Float[Tensor, " b"]:
        expect_one_shape(view.image, view.reference, of=view.of, who="lpips")
        heads = cast(PerceptualNet, view.network(self.model)).heads  # as `needs` has checked
        wanted = view.kept(
            (id(self), "features"), lambda: self._features(view.of_reference(), heads)
        )
        total = view.image.new_zeros(len(view.image))
        for name, features in self._features(view, heads).items():
            distances = distance_map(features, wanted[name], heads[name])
            total = total + weighted_mean(distances, self._weights(view, distances.shape[-2:]))
        return total

    def _features(self, view: View, heads: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Unit channels of every layer that has a head, `(b, c, _, _)`."""
        return {name: unit_channels(view.tap(name, model=self.model)) for name in heads}

    def _weights(self, view: View, size: torch.Size) -> Float[Tensor, "#b 1 _ _"] | None:
        """The region's weights of a layer's pixels, computed once."""
        if view.region_name == "everywhere":
            return None

        # Not by `view.region`, which shrinks by area: these are the forms of the paper's code.
        def make() -> Tensor | None:
            weights = faded(view.region(view.image.shape[-2:]), self.outside)
            if weights is None:
                return None
            return _shrunk(weights, size) if self.mask == "layers" else _gathered(weights, size)

        return view.kept((id(self), view.region_name, view.is_reference, size), make)


def _shrunk(weights: Float[Tensor, "b 1 h w"], size: torch.Size) -> Float[Tensor, "b 1 _ _"]:
    """The weights at `size`, bilinear and without a low-pass."""
    return F.interpolate(weights, tuple(size), mode="bilinear", align_corners=False)


def _gathered(weights: Float[Tensor, "b 1 h w"], size: torch.Size) -> Float[Tensor, "b 1 _ _"]:
    """Uᵀ m, where U enlarges from `size` bilinearly: <U d, m> = <d, Uᵀ m>, and the sums agree."""
    down, across = (
        F.interpolate(torch.eye(small).to(weights)[None], large, mode="linear")[0]
        for small, large in zip(size, weights.shape[-2:], strict=True)
    )
    return down @ weights @ across.T
