"""What a step shows to objectives and players.

A `Scene` is what is known before the first step of a stage: the inputs, such as a photograph and
masks, at the stage's size. A `View` is one look at a batch of images in that
scene. It asks each model at most once, however many terms read it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.resize import resize_mask
from invertkit.core.network import Network
from invertkit.core.precision import networks
from invertkit.core.randomness import Randomness
from invertkit.core.regions import Region
from invertkit.core.scene import LOGITS, Scene
from invertkit.errors import InputError, TapError

T = TypeVar("T")


@final
@dataclass(frozen=True)
class View:
    """One look at a batch of images. What it has computed once, it keeps.

    Args:
        image: `(b, 3, h, w)`, nominally in [0, 1]; free variables may leave that range.
        scene: What is fixed.
        randomness: Draws of this run, one seed an image.
        now: Step of the whole run, from 0; terms read it as `step`.
        is_reference: The images are an input, so regions mean where the object is in it.
        region_name: Where the term that asks looks; see `Region`.
        of: The image input with which that term compares; empty for the first.
        tensors: The variable's tensors by name, one row an image, for objectives on latents.

    Example:
        >>> from invertkit.core.images.inputs import Inputs
        >>> scene = Scene((4, 4), Inputs.of({"image": torch.zeros(1, 3, 4, 4)}))
        >>> view = View(torch.ones(2, 3, 4, 4), scene, Randomness((0, 1)))
        >>> (view.image - view.reference).mean()
        tensor(1.)
    """

    image: Float[Tensor, "b 3 h w"]
    scene: Scene
    randomness: Randomness
    now: int = 0
    is_reference: bool = False
    region_name: Region | str = "everywhere"
    of: str = ""
    tensors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    _seen: dict[tuple[str, int], tuple[Tensor, Mapping[str, Tensor]]] = field(
        default_factory=dict, repr=False
    )
    _cut: dict[tuple[Region | str, int], tuple[Tensor, Tensor]] = field(
        default_factory=dict, repr=False
    )

    @property
    def step(self) -> int:
        """Step of the whole run, from 0.

        An objective that reads it says in `phase` which steps are alike: a step that is replayed
        does what it did when it was recorded. `normal` needs no such care.
        """
        if self.randomness.step_draws is not None:
            self.randomness.step_draws.step_read = True
        return self.now

    def within(self, region: Region | str, of: str = "") -> View:
        """The same look, for a term that looks at `region` and compares with the input `of`.

        Model outputs are shared.
        """
        if (region, of) == (self.region_name, self.of):
            return self
        return replace(self, region_name=region, of=of)

    @property
    def reference(self) -> Float[Tensor, "#b 3 _ _"]:
        """The image with which the term compares: the first one, or that of its `of`.

        Raises:
            InputError: There is none.
        """
        image = self.scene.image_of(self.of)
        if image is None:
            what = f" {self.of!r}" if self.of else ""
            raise InputError(f"A term compares with a reference; give an image{what}.")
        return image

    def cut_out(self) -> View:
        """A look at images that equal the reference outside the region.

        For objectives that read a whole image (a class, a user's own loss): nothing outside the
        region can reach the gradient. Without a reference the image is held constant there.
        """
        weights = self.region(self.image.shape[-2:])
        if weights is None:
            return self
        key = (self.region_name, id(self.image))  # one image a region, so one forward for its terms
        if key not in self._cut:
            around = None if self.is_reference else self.scene.reference
            held = self.image.detach() if around is None else around
            self._cut[key] = (self.image, self.image * weights + held * (1 - weights))
        return replace(self, image=self._cut[key][1])

    def region(self, size: tuple[int, ...] | torch.Size) -> Float[Tensor, "#b 1 h w"] | None:
        """Weights in [0, 1] of this term's region at `size`, by area; None means everywhere."""
        weights = self.scene.region(self.region_name, of_reference=self.is_reference)
        if weights is None or weights.shape[-2:] == tuple(size):
            return weights
        return resize_mask(weights, (size[0], size[1]))

    def tap(self, layer: str, *, model: str = "classifier") -> Tensor:
        """What `layer` of `model` puts out (`LAYER:input`: what it is given).

        Raises:
            TapError: The objective did not name the layer in its `needs`, or it does not run.
        """
        shown = self.taps((layer,), model=model)
        if not shown:
            raise TapError(
                f"Layer {layer!r} of model {model!r} does not run when the network looks at images "
                f"of {self.image.shape[-2]}×{self.image.shape[-1]}, or shows nothing to Python "
                "(compiled code); name another."
            )
        return shown[layer]

    def taps(self, layers: Sequence[str], *, model: str = "classifier") -> dict[str, Tensor]:
        """What those of the layers put out that run on the way of these images.

        Raises:
            TapError: The objective did not name one in its `needs`, or it does not show one row an
                image.
        """
        seen, announced = self._observe(model), self.scene.needs.get(model, ())
        for layer in layers:
            if layer not in seen and layer not in announced:
                raise TapError(
                    f"Layer {layer!r} of model {model!r} is not read on this step; "
                    f"read are: {', '.join(sorted(seen)) or 'none'}. "
                    "An objective names the layers it reads in its `needs` method."
                )
        shown = {layer: seen[layer] for layer in layers if layer in seen}
        for layer, value in shown.items():
            if value.ndim == 0 or len(value) != len(self.image):
                raise TapError(
                    f"Layer {layer!r} of model {model!r} puts out shape {tuple(value.shape)} for "
                    f"{len(self.image)} images; a term needs one row an image. Name the layer "
                    "around it."
                )
        return shown

    def logits(self, *, model: str = "classifier") -> Float[Tensor, "b k"]:
        """The logits of a classifier, of these images.

        Raises:
            TapError: The objective did not name `LOGITS` in its `needs`, or the model has none.
        """
        logits = self.tap(LOGITS, model=model)
        if logits.ndim != 2:
            raise TapError(
                f"Model {model!r} gives shape {tuple(logits.shape)} where logits of classes, "
                "(b, k), are wanted."
            )
        return logits

    def network(self, name: str) -> Network:
        """The network of that name, for what a look at its layers does not tell.

        Raises:
            TapError: There is none, or it looks at no images.
        """
        if name not in self.scene.models:
            known = ", ".join(sorted(self.scene.models)) or "none"
            raise TapError(f"No model {name!r} in this recipe; known: {known}.")
        model = self.scene.models[name]
        if not isinstance(model, Network):
            raise TapError(f"Model {name!r}, {model.description}, looks at no images.")
        return model

    def player(self, name: str) -> Any:
        """The player of that name.

        Raises:
            TapError: There is none.
        """
        if name not in self.scene.players:
            known = ", ".join(sorted(self.scene.players)) or "none"
            raise TapError(f"No player {name!r} in this recipe; known: {known}.")
        return self.scene.players[name]

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Standard normal numbers `(b, *shape)`, fresh on every step."""
        return self.randomness.normal(purpose, shape, step=self.now)

    def of_reference(self) -> View:
        """The same look at the reference with which the images are compared.

        Raises:
            InputError: There is none.
        """
        draws = Randomness((0,) * len(self.reference))
        return View(self.reference, self.scene, draws, region_name=self.region_name, of=self.of)

    def rows(self, prepared: Tensor) -> Tensor:
        """The rows for these images of what `prepare` kept of the reference; see `Scene.rows`.

        A batch may hold images of several photographs, and a look may be at some of them only.
        """
        return self.scene.rows(prepared)

    def photographs(self) -> list[View]:
        """A look at each photograph alone, for objectives that prepare them one by one.

        `scene.which(len(image))` then says which of them each image is of.
        """
        draws = Randomness((0,))
        return [
            View(
                image,
                scene,
                draws,
                is_reference=self.is_reference,
                region_name=self.region_name,
                of=self.of,
            )
            for scene in self.scene.photographs()
            if (image := scene.image_of(self.of)) is not None
        ]

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` computed, without gradient, the first time for this reference.

        Keys are shared by all terms of a scene: begin yours with `id(self)`.
        """
        if key not in self.scene.kept:
            with torch.no_grad():
                self.scene.kept[key] = make()
        value: T = self.scene.kept[key]
        return value

    def _observe(self, model: str) -> Mapping[str, Tensor]:
        key = (model, id(self.image))  # the image is kept beside its outputs, so ids stay unique
        if key not in self._seen:
            network = self.network(model)
            with networks(self.scene.precision, self.image.device):
                outputs = network.observe(self.image, self.scene.needs.get(model, ()))
            full = {name: _widened(output, self.image) for name, output in outputs.items()}
            self._seen[key] = (self.image, full)
        return self._seen[key][1]


def _widened(output: Tensor, image: Tensor) -> Tensor:
    # Losses sum over many features, for which the few bits of a half precision are too few; and
    # numbers of two kinds do not mix.
    return output.to(image.dtype) if output.is_floating_point() else output
