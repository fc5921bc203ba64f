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
from invertkit.variables.base import Size, Variable
from invertkit.variables.latent import Latent
from invertkit.variables.transformed import Transformed


@final
class Tuned(Variable):
    """A generator's latents with a change of its weights: tensor `weights`, θ − θ₀.

    For a last stage that refines what a projection has found; each image has weights of its own.

    Args:
        inner: The latents, transformed or not.

    Source: Huh et al. 2020, §3.5, Eq. 6; not in the released code. Class embeddings stay.
    """

    is_latent = True

    def __init__(self, *, inner: Variable) -> None:
        if not isinstance(inner, Latent | Transformed):
            raise RecipeError("inner: expected `latent` or `transformed`.")
        self.inner: Latent | Transformed = inner

    @property
    def obstacle(self) -> str:
        """None."""
        return ""

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.inner.names, "weights")

    @property
    def frame_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """As the latents."""
        return self.inner.frame_names

    @property
    def confines(self) -> bool:  # type: ignore[override]
        """As the latents."""
        return self.inner.confines

    def start(self, scene: Scene, randomness: Randomness) -> Params:
        latents = self.inner.start(scene, randomness)
        plain = self.inner.inner if isinstance(self.inner, Transformed) else self.inner
        latent = latents["latent"]
        change = latent.new_zeros(len(latent), plain.generator(scene).tunable_size())
        return {**latents, "weights": change}

    def resize(self, params: Params, old: Size, new: Size) -> Params:
        return {**self.inner.resize(params, old, new), "weights": params["weights"]}

    def frame(self, params: Params, scene: Scene) -> Scene:
        return self.inner.frame(params, scene)

    def look(
        self, params: Params, scene: Scene, randomness: Randomness, step: int
    ) -> Float[Tensor, "b 3 s s"]:
        raw = self.inner.raw(params, scene, params["weights"])
        return raw if isinstance(self.inner, Transformed) else resize_image(raw, scene.size)

    def still(self, looks: Tensor, params: Params, scene: Scene) -> Float[Tensor, "b 3 h w"]:
        return self.inner.still(looks, params, scene)

    def image(self, params: Params, scene: Scene) -> Float[Tensor, "b 3 h w"]:
        looks = self.inner.raw(params, scene, params["weights"])
        if isinstance(self.inner, Transformed):
            return self.inner.still(looks, params, scene)
        return resize_image(looks, scene.size)

    def confine(self, params: Params) -> None:
        self.inner.confine(params)
