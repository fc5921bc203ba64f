"""A generator's latents, with the photograph moved to meet the generated object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.errors import InputError, RecipeError
from invertkit.models.generators.generator import Generator
from invertkit.variables.base import Variable, WrappedVariable
from invertkit.variables.latent import Latent
from invertkit.variables.transforms.base import Transform
from invertkit.variables.transforms.colour import Brightness, Contrast, Gamma, Hue, Saturation
from invertkit.variables.transforms.composition import Composition
from invertkit.variables.transforms.spatial import Spatial, Unmoved, spatial_start

Colour = Literal["brightness", "contrast", "saturation", "hue", "gamma"]


_COLOURS: dict[str, type[Transform]] = {
    "brightness": Brightness,
    "contrast": Contrast,
    "saturation": Saturation,
    "hue": Hue,
    "gamma": Gamma,
}


@final
class Transformed(WrappedVariable):
    """A generator's picture, moved and recoloured to where the object is in the photograph.

    The tensor `transform` holds φ. Gradients are taken in the generator's frame, where photograph
    and mask are moved by T_φ; the image itself, and the loss that a population is told, are those
    of T_φ⁻¹ of the generated picture, in the photograph's frame. Where that does not reach, the
    image is grey.

    Args:
        inner: The latents.
        spatial: Scale and translation: `isotropic` (s, t_x, t_y; the released code),
            `anisotropic` (s_x, s_y, t_x, t_y; the paper), or `none`.
        colour: Colour transforms, in the order in which they are applied to the photograph. With
            none of either, the photograph is seen at the generator's size and φ has no numbers.
        start: `mask` puts the mask's box where the generator's objects are (φ₀ of the paper,
            exact); `published` uses the paper's translation, which ignores the scale;
            `identity` leaves the photograph where it is.

    Example:
        >>> from torch import nn
        >>> from invertkit.core.images.inputs import Inputs
        >>> net = nn.Sequential(nn.Linear(5, 3 * 4 * 4), nn.Unflatten(1, (3, 4, 4)))
        >>> models = {"generator": Generator(net, latents={"z": 5})}
        >>> variable = Transformed(inner=Latent(), start="identity").bind(models)
        >>> scene = Scene((8, 8), Inputs.of({"image": torch.zeros(1, 3, 8, 8)}))
        >>> params = variable.start(scene, Randomness((0,)))
        >>> params["transform"].tolist(), variable.frame(params, scene).size
        ([[1.0, 0.0, 0.0]], (4, 4))

    Source: Huh et al. 2020, §3.3, Eq. 5 and Algorithm 1.
    """

    inner: Latent

    def __init__(
        self,
        *,
        inner: Variable,
        spatial: Literal["isotropic", "anisotropic", "none"] = "isotropic",
        colour: tuple[Colour, ...] = (),
        start: Literal["mask", "published", "identity"] = "mask",
    ) -> None:
        if not isinstance(inner, Latent):
            raise RecipeError("inner: expected `latent`, a generator's latents.")
        super().__init__(inner)
        self.start_from = start
        parts: list[Transform] = [_COLOURS[name]() for name in colour]
        self.colour = Composition(parts) if parts else None
        self.spatial = None if spatial == "none" else Spatial(anisotropic=spatial == "anisotropic")
        if self.spatial is not None:
            parts.append(self.spatial)
        self.transform: Transform = Composition(parts) if parts else Unmoved()

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.inner.names, "transform")

    @property
    def frame_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The transform's parameters, by which the photograph is moved."""
        return ("transform",)

    @property
    def obstacle(self) -> str:
        """None: a look is the generator's picture on every step."""
        return ""

    @property
    def generator(self) -> Generator:
        """The generator that the latents were bound to."""
        return self.inner.generator

    def bind(self, models: Mapping[str, Any]) -> Self:
        """This variable, for the generator in `models`.

        Raises:
            RecipeError: The generator's pictures are not square, or as `Latent.bind`.
        """
        bound = super().bind(models)
        height, width = bound.generator.shape
        if height != width:
            raise RecipeError(
                f"type: `transformed` moves square pictures, and those of "
                f"{bound.generator.description} are {height}×{width}; take `latent` alone."
            )
        return bound

    def start(self, scene: Scene, randomness: Randomness) -> Params:
        return self._begin(scene, randomness)

    def centre(self, scene: Scene, randomness: Randomness) -> Params:
        return self._begin(scene, randomness, noisy=False)

    def _begin(self, scene: Scene, randomness: Randomness, *, noisy: bool = True) -> Params:
        """The latents of the photograph as φ₀ moves it, and φ₀."""
        first = self._first(scene)
        moved = scene
        # A classifier or an encoder shall see the object where the generator has its own.
        if scene.reference is not None:
            first = first.expand(max(len(first), len(scene.reference)), -1)
            moved = self.frame({"transform": first}, scene)
        latents = self.inner.begin(
            replace(moved, kept=scene.kept),
            moved.reference,
            moved.inputs.find(self.inner.mask),
            randomness,
            noisy=noisy,
        )
        placed = first.expand(len(randomness.seeds), -1)
        return {**latents, "transform": placed.to(self.generator.like, copy=True)}

    def _first(self, scene: Scene) -> Float[Tensor, "#b k"]:
        """φ₀: one row, or one for each mask."""
        first = self.transform.identity()[None]
        if self.spatial is None or self.start_from == "identity":
            return first
        mask = scene.inputs.find(self.inner.mask)
        if mask is None:
            raise InputError(
                f"`start: {self.start_from}` places the generator by a mask; give one, or write "
                "`start: identity`."
            )
        where = self.generator.statistics
        placed = torch.stack(
            [
                spatial_start(
                    each[None],
                    centre=where.centre,
                    size=where.size,
                    anisotropic=self.spatial.anisotropic,
                    form="exact" if self.start_from == "mask" else "published",
                )
                for each in mask.cpu()
            ]
        )
        colours = first[:, : first.shape[1] - placed.shape[1]].expand(len(placed), -1)
        return torch.cat([colours, placed.to(first)], 1)

    def frame(self, params: Params, scene: Scene) -> Scene:
        if scene.reference is None:
            raise InputError("A transform moves a reference; give an image.")
        transform, inputs = params["transform"], scene.inputs
        size = (self.generator.size,) * 2
        moved: dict[str, Tensor] = {}
        for name, spec in inputs.specs.items():
            if name not in inputs or inputs.lead not in (name, spec.of):
                continue  # what does not lie on the photograph stays where it is
            if spec.kind in ("labels", "masks"):
                what = "a label map" if spec.kind == "labels" else "a list of masks"
                raise InputError(f"{name}: {what} cannot be moved with its image.")
            values = inputs.need(name).expand(len(transform), -1, -1, -1)
            move = self.transform.apply if name == inputs.lead else self.transform.weights
            moved[name] = move(values, transform, size)
        return replace(scene, size=size, inputs=inputs.replaced(moved), kept={})

    def raw(
        self, params: Params, scene: Scene, change: Tensor | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """The generator's own pictures."""
        return self.inner.raw(params, scene, change)

    def look(
        self, params: Params, scene: Scene, randomness: Randomness, step: int
    ) -> Float[Tensor, "b 3 h w"]:
        return self.raw(params, scene)

    def still(
        self, looks: Float[Tensor, "b 3 h w"], params: Params, scene: Scene
    ) -> Float[Tensor, "b 3 h2 w2"]:
        transform = params["transform"]
        if self.spatial is None:
            return self.transform.invert(looks, transform, scene.size)
        colour, where = transform.split(
            [self.transform.size - self.spatial.size, self.spatial.size], 1
        )
        shape, grey = (looks.shape[-2], looks.shape[-1]), looks.new_full((1, 3, 1, 1), 0.5)
        if self.colour is not None:  # what its inverse makes grey
            grey = self.colour.apply(grey, colour, (1, 1))
        reach = self.spatial.invert_coverage(where, shape, scene.size).to(looks)
        back = self.spatial.invert(looks, where, scene.size) + grey * (1 - reach)
        return back if self.colour is None else self.colour.invert(back, colour, scene.size)

    def image(self, params: Params, scene: Scene) -> Float[Tensor, "b 3 h w"]:
        return self.still(self.raw(params, scene), params, scene)
