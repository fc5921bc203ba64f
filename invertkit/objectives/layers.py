"""Objectives over some layers of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from invertkit.core.scene import Needs
from invertkit.core.view import View
from invertkit.errors import RecipeError
from invertkit.objectives.base import Objective, required_model
from invertkit.objectives.maps import feature_maps


class LayersObjective(Objective):
    """An objective that reads the layers it is told of one network.

    Args:
        layers: Of the network; `default` stands for its own list.
        model: Its name in the recipe.
        axis: Of the channels in what they put out, such as -1; if None, found by `feature_maps`.

    Example:
        >>> class Energy(LayersObjective):
        ...     def forward(self, view):
        ...         maps = [view.tap(name, model=self.model) for name in self.layers]
        ...         return sum(each.square().flatten(1).mean(1) for each in maps)
        >>> Energy(layers=["layer1"], model="classifier").layers
        ('layer1',)
    """

    def __init__(self, *, layers: Sequence[str], model: str, axis: int | None = None) -> None:
        self.layers, self.model, self.axis = tuple(layers), model, axis

    def needs(self, models: Mapping[str, Any]) -> Needs:
        """The layers, with `default` resolved by the model.

        Raises:
            RecipeError: The model is missing, or has no default layers.
            TapError: A layer does not exist.
        """
        return {self.model: self.names(models)}

    def names(self, models: Mapping[str, Any]) -> tuple[str, ...]:
        """The layers' own names.

        Raises:
            RecipeError: The model is missing, or has no default layers.
            TapError: A layer does not exist.
        """
        names = required_model(models, self.model).resolve(self.layers)
        if not names:
            raise RecipeError(f"Model {self.model!r} has no default layers; name some in `layers`.")
        return tuple(names)

    def spatial(self, view: View, name: str, *, who: str) -> Float[Tensor, "b c h w"]:
        """What a layer puts out, which must have places, as maps of its channels.

        Args:
            view: That is looked at.
            name: Of the layer.
            who: Name of the objective, for the message.

        Raises:
            RecipeError: It has none.
        """
        features = view.tap(name, model=self.model)
        return feature_maps(features, view, name, model=self.model, axis=self.axis, who=who)
