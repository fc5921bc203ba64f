"""A generator's latents with a change of its weights."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.resize import resize_image
from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.errors import RecipeError
from invertkit.variables.base import Size, Variable, WrappedVariable
from invertkit.variables.latent import Latent
from invertkit.variables.transformed import Transformed


@final
class Tuned(WrappedVariable):
    """A generator's latents with a change of its weights: tensor `weights`, θ − θ₀.

    For a last stage that refines what a projection has found; each image has weights of its own.

    Args:
        inner: The latents, transformed or not.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from invertkit.models.generators.generator import Generator
        >>> net = nn.Sequential(nn.Linear(5, 3 * 4 * 4), nn.Unflatten(1, (3, 4, 4)))
        >>> models = {"generator": Generator(net, latents={"z": 5})}
        >>> params = Tuned(inner=Latent()).bind(models).start(Scene((8, 8)), Randomness((0,)))
        >>> params["weights"].shape == (1, 5 * 48 + 48)
        True

    Source: Huh et al. 2020, §3.5, Eq. 6; not in the released code. Class embeddings stay.
    """

    inner: Latent | Transformed

    def __init__(self, *, inner: Variable) -> None:
        if not isinstance(inner, Latent | Transformed):
            raise RecipeError("inner: expected `latent` or `transformed`.")
        super().__init__(inner)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.inner.names, "weights")

    @property
    def obstacle(self) -> str:
        """None: a look is the generator's picture on every step."""
        return ""

    def start(self, scene: Scene, randomness: Randomness) -> Params:
        return self._unchanged(self.inner.start(scene, randomness))

    def centre(self, scene: Scene, randomness: Randomness) -> Params:
        return self._unchanged(self.inner.centre(scene, randomness))

    def _unchanged(self, latents: Params) -> Params:
        first = next(iter(latents.values()))
        change = first.new_zeros(len(first), self.inner.generator.tunable_size())
        return {**latents, "weights": change}

    def resize(self, params: Params, old: Size, new: Size) -> Params:
        return {**self.inner.resize(params, old, new), "weights": params["weights"]}

    def look(
        self, params: Params, scene: Scene, randomness: Randomness, step: int
    ) -> Float[Tensor, "b 3 h w"]:
        raw = self.inner.raw(params, scene, params["weights"])
        # In the generator's frame where there is one: the photograph was moved to it.
        return raw if isinstance(self.inner, Transformed) else resize_image(raw, scene.size)

    def image(self, params: Params, scene: Scene) -> Float[Tensor, "b 3 h w"]:
        raw = self.inner.raw(params, scene, params["weights"])
        if isinstance(self.inner, Transformed):
            return self.inner.still(raw, params, scene)
        return resize_image(raw, scene.size)
