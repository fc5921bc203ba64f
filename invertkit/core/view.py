"""What a step shows to objectives and players.

A `Scene` is what is known before the first step of a stage: the reference photograph, its mask
and the wanted mask, all at the stage's size. A `View` is one look at a batch of images in that
scene. It asks each model at most once, however many terms read it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol, TypeVar, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.precision import Precision, networks
from invertkit.core.randomness import Randomness
from invertkit.errors import InputError, TapError

T = TypeVar("T")

LOGITS: Final = "logits"
"""The name under which an objective asks a model for its logits."""

Region = Literal["everywhere", "object", "background", "untouched", "vacated"]
"""Where a term looks.

`object` and `background` are inside and outside the *target* mask in the result, and inside and
outside the *source* mask in the reference. `untouched` is outside both masks, `vacated` is inside
the source mask but outside the target mask: the place that the object has left.
"""
REGIONS: Final[tuple[str, ...]] = get_args(Region)

Needs = Mapping[str, Collection[str]]
"""Model name -> the layers an objective reads from it (`LOGITS` for its logits)."""


class Observer(Protocol):
    """A model that a view can ask: see `invertkit.models.classifiers.classifier.Classifier`."""

    def observe(self, image: Tensor, layers: Collection[str]) -> Mapping[str, Tensor]:
        """Run the model on images in [0, 1] and return what the layers put out."""
        ...


@final
@dataclass(frozen=True)
class Scene:
    """The fixed side of a stage.

    Args:
        size: Height and width of the images of this stage.
        reference: The source photograph, in [0, 1], or None for recipes without one. One row for
            all images, or one for each.
        mask: Where the object is in it: weights in [0, 1], or None; likewise.
        target: Where the object shall be: weights in [0, 1], or None; likewise.
        models: Frozen networks by name.
        players: Networks that learn, by name.
        needs: Layers that the terms of this stage read, by model.
        kept: What objectives have computed from the reference; see `View.kept`.
        precision: Of the networks.
        owners: Where images of several photographs share a batch: which photograph, from 0, each
            image of the stage is of, the images of one side by side; else empty.
        candidates: How many rows each image of the stage has here.
        span: Which of those rows are here, where they are not all.
    """

    size: tuple[int, int]
    reference: Float[Tensor, "#b 3 h w"] | None = None
    mask: Float[Tensor, "#b 1 h w"] | None = None
    target: Float[Tensor, "#b 1 h w"] | None = None
    models: Mapping[str, Any] = field(default_factory=dict)
    players: Mapping[str, Any] = field(default_factory=dict)
    needs: Needs = field(default_factory=dict)
    kept: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)
    precision: Precision = "float32"
    owners: tuple[int, ...] = ()
    candidates: int = 1
    span: tuple[int, int] | None = None

    def rows(self, prepared: Tensor) -> Tensor:
        """Of what was prepared for the images of the stage, one row each, the rows of these.

        What has one row for all images is left so.
        """
        if not self.owners or len(prepared) == 1:
            return prepared
        rows = prepared.repeat_interleave(self.candidates, 0) if self.candidates > 1 else prepared
        return rows if self.span is None else rows[self.span[0] : self.span[1]]

    def which(self, count: int) -> list[int]:
        """Which photograph, from 0, each of `count` images here is of."""
        if not self.owners:
            return [0] * count
        rows = [owner for owner in self.owners for _ in range(self.candidates)]
        return rows if self.span is None else rows[self.span[0] : self.span[1]]

    @property
    def place(self) -> str:
        """A name for these rows, for what an objective keeps of them from one step to the next."""
        return f"{self.candidates}/{self.span}"

    def at(self, candidates: int, span: tuple[int, int] | None) -> Scene:
        """The scene of some rows, where every image of the stage has so many; this is the stage's.

        Args:
            candidates: Rows of each image, side by side.
            span: First row and the one after the last; None for all.
        """
        if not self.owners:  # what is kept of the one reference serves all rows
            return replace(self, candidates=candidates, span=span)
        here = replace(self, candidates=candidates, span=span, kept={})
        reference, mask, target = (
            None if tensor is None else here.rows(tensor)
            for tensor in (self.reference, self.mask, self.target)
        )
        return replace(here, reference=reference, mask=mask, target=target)

    def photographs(self) -> list[Scene]:
        """A scene for each photograph that has a row here, alone."""
        if not self.owners:
            return [self]
        rows = self.which(len(self.owners) * self.candidates)
        found = []
        for first in (rows.index(owner) for owner in dict.fromkeys(rows)):
            reference, mask, target = (
                tensor if tensor is None or len(tensor) == 1 else tensor[first : first + 1]
                for tensor in (self.reference, self.mask, self.target)
            )
            alone = replace(self, reference=reference, mask=mask, target=target)
            found.append(replace(alone, owners=(), candidates=1, span=None, kept={}))
        return found

    def region(self, name: str, *, of_reference: bool) -> Tensor | None:
        """Weights of a region in the reference or in the result; None means everywhere."""
        if name == "everywhere":
            return None
        if self.mask is None or self.target is None:
            raise InputError(
                f"A term looks at region {name!r}, which needs a mask and a target; this run has "
                f"{'no mask' if self.mask is None else 'no target'}. Give both, or use "
                "`region: everywhere`."
            )
        inside = self.mask if of_reference else self.target
        match name:
            case "object":
                return inside
            case "background":
                return 1 - inside
            case "untouched":
                return (1 - self.mask) * (1 - self.target)
            case "vacated":
                return self.mask * (1 - self.target)
        raise InputError(f"Unknown region {name!r}; known: {', '.join(REGIONS)}.")


@final
@dataclass(frozen=True)
class View:
    """One look at a batch of images. What it has computed once, it keeps.

    Args:
        image: `(b, 3, h, w)`, nominally in [0, 1]; free variables may leave that range.
        scene: What is fixed.
        randomness: Draws of this run, one seed an image.
        now: Step of the whole run, from 0; terms read it as `step`.
        is_reference: The images are the scene's reference, so regions mean the source mask.
        region_name: Where the term that asks looks; see `Region`.
        tensors: The variable's tensors by name, one row an image, for objectives on latents.
    """

    image: Float[Tensor, "b 3 h w"]
    scene: Scene
    randomness: Randomness
    now: int = 0
    is_reference: bool = False
    region_name: str = "everywhere"
    tensors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    _seen: dict[tuple[str, int], tuple[Tensor, Mapping[str, Tensor]]] = field(
        default_factory=dict, repr=False
    )
    _cut: dict[tuple[str, int], tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    @property
    def step(self) -> int:
        """Step of the whole run, from 0.

        An objective that reads it says in `phase` which steps are alike: a step that is replayed
        does what it did when it was recorded. `normal` needs no such care.
        """
        if self.randomness.standing is not None:
            self.randomness.standing.step_read = True
        return self.now

    def within(self, region: str) -> View:
        """The same look, for a term that looks at `region`; model outputs are shared."""
        return self if region == self.region_name else replace(self, region_name=region)

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
            held = self.image.detach() if self.scene.reference is None else self.scene.reference
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
            TapError: The objective did not name the layer in its `needs`.
        """
        seen = self._observe(model)
        if layer not in seen:
            raise TapError(
                f"Layer {layer!r} of model {model!r} is not read on this step; "
                f"read are: {', '.join(sorted(seen)) or 'none'}. "
                "An objective names the layers it reads in its `needs` method."
            )
        return seen[layer]

    def logits(self, *, model: str = "classifier") -> Float[Tensor, "b k"]:
        """Logits of `model`."""
        return self.tap(LOGITS, model=model)

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
        if self.scene.reference is None:
            raise InputError("A term compares with a reference; give an image.")
        draws = Randomness((0,) * len(self.scene.reference))
        return View(self.scene.reference, self.scene, draws, region_name=self.region_name)

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
                scene.reference,
                scene,
                draws,
                is_reference=self.is_reference,
                region_name=self.region_name,
            )
            for scene in self.scene.photographs()
            if scene.reference is not None
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
            if model not in self.scene.models:
                known = ", ".join(sorted(self.scene.models)) or "none"
                raise TapError(f"No model {model!r} in this recipe; known: {known}.")
            observer: Observer = self.scene.models[model]
            with networks(self.scene.precision, self.image.device):
                outputs = observer.observe(self.image, self.scene.needs.get(model, ()))
            full = {name: _widened(output, self.image) for name, output in outputs.items()}
            self._seen[key] = (self.image, full)
        return self._seen[key][1]


def _widened(output: Tensor, image: Tensor) -> Tensor:
    return output.to(image.dtype) if output.dtype == torch.bfloat16 else output


def resize_image(image: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Tensor:
    """Bilinear, with a low-pass where it shrinks."""
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)


def resize_mask(mask: Float[Tensor, "b 1 h w"], size: tuple[int, int]) -> Tensor:
    """The share of each new pixel that the mask covers, in [0, 1]: a mask follows its image.

    Shrinking averages over the area of each new pixel, so the covered share is kept; enlarging
    is bilinear.
    """
    if mask.shape[-2:] == size:
        return mask
    shrinks = size[0] <= mask.shape[-2] and size[1] <= mask.shape[-1]
    if shrinks:
        return F.interpolate(mask, size, mode="area")
    return F.interpolate(mask, size, mode="bilinear", align_corners=False)


def grow_mask(mask: Float[Tensor, "b 1 h w"], radius: float) -> Float[Tensor, "b 1 h w"]:
    """A binary mask with every pixel within `radius` pixels of it added."""
    reach = int(radius)
    if reach < 1:
        return mask
    offsets = torch.arange(-reach, reach + 1, device=mask.device, dtype=mask.dtype)
    disc = (offsets[:, None].square() + offsets.square() <= radius**2).to(mask)
    grown = F.conv2d(mask, disc[None, None], padding=reach)
    return (grown > 0).to(mask)
