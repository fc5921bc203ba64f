"""A generator's latents with a change of its weights."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.resize import resize_image
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
    replays = True

    def __init__(self, *, inner: Variable) -> None:
        if not isinstance(inner, Latent | Transformed):
            raise RecipeError("inner: expected `latent` or `transformed`.")
        self.inner: Latent | Transformed = inner

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

    def start(self, scene: Scene, randomness: Randomness) -> list[Tensor]:
        latents = self.inner.start(scene, randomness)
        plain = self.inner.inner if isinstance(self.inner, Transformed) else self.inner
        change = latents[0].new_zeros(len(latents[0]), plain.generator(scene).tunable_size())
        return [*latents, change]

    def resize(self, params: list[Tensor], old: Size, new: Size) -> list[Tensor]:
        return [*self.inner.resize(params[:-1], old, new), params[-1]]

    def frame(self, params: list[Tensor], scene: Scene) -> Scene:
        return self.inner.frame(params[:-1], scene)

    def look(
        self, params: list[Tensor], scene: Scene, randomness: Randomness, step: int
    ) -> Float[Tensor, "b 3 s s"]:
        raw = self.inner.raw(params[:-1], scene, params[-1])
        return raw if isinstance(self.inner, Transformed) else resize_image(raw, scene.size)

    def still(self, looks: Tensor, params: list[Tensor], scene: Scene) -> Float[Tensor, "b 3 h w"]:
        return self.inner.still(looks, params[:-1], scene)

    def image(self, params: list[Tensor], scene: Scene) -> Float[Tensor, "b 3 h w"]:
        looks = self.inner.raw(params[:-1], scene, params[-1])
        if isinstance(self.inner, Transformed):
            return self.inner.still(looks, params[:-1], scene)
        return resize_image(looks, scene.size)

    def confine(self, params: list[Tensor]) -> None:
        self.inner.confine(params[:-1])
