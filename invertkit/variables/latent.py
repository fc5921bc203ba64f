"""A generator's latent and class embedding, moved to a photograph's object, with its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.precision import networks
from invertkit.core.randomness import Randomness
from invertkit.core.schedules import NonNegative
from invertkit.core.view import LOGITS, Scene, resize_image
from invertkit.errors import InputError, RecipeError, TapError
from invertkit.models.generators.generator import Encoder, Generator
from invertkit.variables.base import Size, Variable
from invertkit.variables.transforms.base import (
    Brightness,
    Composition,
    Contrast,
    Gamma,
    Hue,
    Saturation,
    Spatial,
    Transform,
    Unmoved,
    spatial_start,
)

Colour = Literal["brightness", "contrast", "saturation", "hue", "gamma"]
_COLOURS: dict[str, type[Transform]] = {
    "brightness": Brightness,
    "contrast": Contrast,
    "saturation": Saturation,
    "hue": Hue,
    "gamma": Gamma,
}


@final
class Latent(Variable):
    """Latent z and class embedding c of a generator: tensors `latent` and `embedding`.

    Args:
        model: The generator, in `models`.
        start: `normal`, or `encoder`: what the encoder in `models` says of the reference.
        noise: Standard deviation around that start; 1 with `normal` is where generators live.
        embedding: Where c begins: the class `given` by `label`, the one `predicted` by the
            classifier in `models` from the reference's object, a `random` class, or `gaussian`
            numbers with the deviation of the table's.
        label: Class by name or number, for `given`.
        limit: Largest |z|; 0 for none.
        beyond: What happens to values past it: `clamp`, or `wrap` (the remainder).
        classifier: The classifier in `models`, for `predicted`.
        encoder: The encoder in `models`, for `start: encoder`.

    Raises:
        InputError: The class does not exist, or a start needs a reference that the run lacks.

    Source: Huh et al. 2020, §3.1 and Table 2. The released code draws z by the remainder and
    clamps it before each forward: `beyond: wrap` does the first, `clamp` the second; draws are
    brought into the limit by `beyond`, and what the optimizer moves past it is clamped.
    """

    is_latent = True

    def __init__(
        self,
        *,
        model: str = "generator",
        start: Literal["normal", "encoder"] = "normal",
        noise: NonNegative = 1.0,
        embedding: Literal["given", "predicted", "random", "gaussian"] = "predicted",
        label: str | int | None = None,
        limit: NonNegative = 2.0,
        beyond: Literal["clamp", "wrap"] = "clamp",
        classifier: str = "classifier",
        encoder: str = "encoder",
    ) -> None:
        if embedding == "given" and label is None:
            raise RecipeError("label: `embedding: given` needs the class; write its name here.")
        self.model, self.start_from, self.noise = model, start, noise
        self.embedding, self.given = embedding, label
        self.limit, self.beyond = limit, beyond
        self.classifier, self.encoder = classifier, encoder

    @property
    def names(self) -> tuple[str, ...]:
        return ("latent", "embedding")

    @property
    def confines(self) -> bool:  # type: ignore[override]
        """Whether |z| is bounded."""
        return self.limit > 0

    def generator(self, scene: Scene) -> Generator:
        """The generator of a scene.

        Raises:
            TapError: There is none of that name.
        """
        found = scene.models.get(self.model)
        if not isinstance(found, Generator):
            known = ", ".join(name for name, m in scene.models.items() if isinstance(m, Generator))
            raise TapError(
                f"variable.model: no generator {self.model!r} in `models`; generators there: "
                f"{known or 'none'}."
            )
        return found

    def start(self, scene: Scene, randomness: Randomness) -> list[Tensor]:
        return self.begin(scene, scene.reference, scene.mask, randomness, self.noise)

    def centre(self, scene: Scene, randomness: Randomness) -> list[Tensor]:
        return self.begin(scene, scene.reference, scene.mask, randomness, 0.0)

    def begin(
        self,
        scene: Scene,
        reference: Tensor | None,
        mask: Tensor | None,
        randomness: Randomness,
        noise: float,
    ) -> list[Tensor]:
        """Tensors for a reference as the generator shall see it, with so much noise in z."""
        generator = self.generator(scene)
        embedding = self._embedding(scene, generator, reference, mask, randomness)
        latent = noise * randomness.normal("start", (generator.latent,)).to(embedding)
        if self.limit:
            latent = self._within(latent)
        if self.start_from == "encoder":
            encoder = scene.models.get(self.encoder)
            if not isinstance(encoder, Encoder):
                raise TapError(f"variable.encoder: no encoder {self.encoder!r} in `models`.")
            if reference is None:
                raise InputError("`start: encoder` begins at a reference; give an image.")
            seen = resize_image(reference, (encoder.size, encoder.size))
            guess = encoder.encode(seen.expand(len(latent), -1, -1, -1), embedding)
            if guess.shape != latent.shape:
                raise InputError(
                    f"variable.encoder: {encoder.description} gives {guess.shape[1]} numbers, and "
                    f"{generator.description} takes {generator.latent}; they do not go together."
                )
            latent = self._within(guess + latent) if self.limit else guess + latent
        return [latent, embedding]

    def _within(self, latent: Tensor) -> Tensor:
        if self.beyond == "wrap":
            return latent.fmod(self.limit)
        return latent.clamp(-self.limit, self.limit)

    def _embedding(
        self,
        scene: Scene,
        generator: Generator,
        reference: Tensor | None,
        mask: Tensor | None,
        randomness: Randomness,
    ) -> Float[Tensor, "b e"]:
        table, count = generator.table, len(randomness.seeds)
        match self.embedding:
            case "given":
                assert self.given is not None  # noqa: S101 # by __init__
                return table[generator.label(self.given)].expand(count, -1).clone()
            case "random":
                draws = randomness.uniform("class", (1,))[:, 0]
                return table[(draws * len(table)).long()]
            case "gaussian":
                draws = randomness.normal("embedding", (table.shape[1],)).to(table)
                return table.mean(0) + table.std(0, correction=min(1, len(table) - 1)) * draws
        key = ("label", self.classifier, self.model)
        if key not in scene.kept:  # asked again for every population of the stage
            scene.kept[key] = self._predicted(scene, generator, reference, mask)
        return table[scene.kept[key]].expand(count, -1).clone()

    def _predicted(
        self, scene: Scene, generator: Generator, reference: Tensor | None, mask: Tensor | None
    ) -> list[int]:
        """The generator's class that the classifier sees in each reference's object."""
        if reference is None:
            raise InputError("`embedding: predicted` looks at a reference; give an image.")
        if self.classifier not in scene.models:
            raise TapError(f"variable.classifier: no classifier {self.classifier!r} in `models`.")
        classifier = scene.models[self.classifier]
        if not hasattr(classifier, "observe"):
            raise TapError(f"variable.classifier: {self.classifier!r} is no classifier.")
        side = getattr(classifier, "size", 224)
        looks = []
        for row in range(max(len(reference), 1 if mask is None else len(mask))):
            image = reference[row : row + 1] if len(reference) > 1 else reference
            inside = mask if mask is None or len(mask) == 1 else mask[row : row + 1]
            seen = image if inside is None else _around(image, inside)
            looks.append(resize_image(seen, (side, side)))
        logits = classifier.observe(torch.cat(looks), (LOGITS,))[LOGITS]
        names = getattr(classifier, "classes", ())
        shared = [
            (i, generator.classes.index(name))
            for i, name in enumerate(names)
            if name in generator.classes
        ]
        if not shared and logits.shape[1] == len(generator.classes):
            shared = [(i, i) for i in range(logits.shape[1])]
        if not shared:
            raise InputError(
                "`embedding: predicted` needs a classifier that knows classes of the generator; "
                f"{getattr(classifier, 'description', 'this classifier')} knows none of them. "
                "Name the class: `--set variable.embedding=given --set variable.label=CLASS`."
            )
        there, here = (list(places) for places in zip(*shared, strict=True))
        return [here[place] for place in logits[:, there].argmax(1).tolist()]

    def resize(self, params: list[Tensor], old: Size, new: Size) -> list[Tensor]:
        return params

    def raw(
        self, params: list[Tensor], scene: Scene, change: Tensor | None = None
    ) -> Float[Tensor, "b 3 s s"]:
        """The generator's own pictures, perhaps of changed weights."""
        generator = self.generator(scene)
        latent, embedding = params
        with networks(scene.precision, latent.device):
            if change is None:
                made = generator.generate(latent, embedding)
            else:
                made = generator.generate_with(change, latent, embedding)
        return made.to(latent.dtype) if made.dtype == torch.bfloat16 else made

    def image(self, params: list[Tensor], scene: Scene) -> Float[Tensor, "b 3 h w"]:
        return resize_image(self.raw(params, scene), scene.size)

    def confine(self, params: list[Tensor]) -> None:
        if self.limit:
            params[0].clamp_(-self.limit, self.limit)


def _around(reference: Tensor, mask: Tensor) -> Tensor:
    """The square around the object, so that a classifier sees it large."""
    rows, columns = (mask[0, 0] > 0.5).nonzero(as_tuple=True)
    if not len(rows):
        return reference
    top, bottom = int(rows.min()), int(rows.max()) + 1
    left, right = int(columns.min()), int(columns.max()) + 1
    height, width = reference.shape[-2:]
    side = min(round(max(bottom - top, right - left) * 1.2), height, width)
    top = min(max((top + bottom - side) // 2, 0), height - side)
    left = min(max((left + right - side) // 2, 0), width - side)
    return reference[..., top : top + side, left : left + side]


@final
class Transformed(Variable):
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

    Source: Huh et al. 2020, §3.3, Eq. 5 and Algorithm 1.
    """

    is_latent = True
    replays = True
    frame_names = ("transform",)

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
        self.inner, self.start_from = inner, start
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
    def confines(self) -> bool:  # type: ignore[override]
        """As the latents."""
        return self.inner.confines

    def start(self, scene: Scene, randomness: Randomness) -> list[Tensor]:
        return self._begin(scene, randomness, self.inner.noise)

    def centre(self, scene: Scene, randomness: Randomness) -> list[Tensor]:
        return self._begin(scene, randomness, 0.0)

    def _begin(self, scene: Scene, randomness: Randomness, noise: float) -> list[Tensor]:
        """The latents of the photograph as φ₀ moves it, and φ₀."""
        first = self._first(scene)
        moved = scene
        if scene.reference is not None:
            first = first.expand(max(len(first), len(scene.reference)), -1)
            moved = self.frame([first] * 3, scene)
        latents = self.inner.begin(
            replace(moved, kept=scene.kept), moved.reference, moved.mask, randomness, noise
        )
        return [*latents, first.expand(len(randomness.seeds), -1).to(latents[0], copy=True)]

    def _first(self, scene: Scene) -> Float[Tensor, "#b k"]:
        """φ₀: one row, or one for each mask."""
        first = self.transform.identity()[None]
        if self.spatial is None or self.start_from == "identity":
            return first
        if scene.mask is None:
            raise InputError(
                f"`start: {self.start_from}` places the generator by a mask; give one, or write "
                "`start: identity`."
            )
        where = self.inner.generator(scene).statistics
        placed = torch.stack(
            [
                spatial_start(
                    mask[None],
                    centre=where.centre,
                    size=where.size,
                    anisotropic=self.spatial.anisotropic,
                    form="exact" if self.start_from == "mask" else "published",
                )
                for mask in scene.mask.cpu()
            ]
        )
        colours = first[:, : first.shape[1] - placed.shape[1]].expand(len(placed), -1)
        return torch.cat([colours, placed.to(first)], 1)

    def resize(self, params: list[Tensor], old: Size, new: Size) -> list[Tensor]:
        return params

    def frame(self, params: list[Tensor], scene: Scene) -> Scene:
        if scene.reference is None:
            raise InputError("A transform moves a reference; give an image.")
        transform = params[2]
        size = (self.inner.generator(scene).size,) * 2

        def moved(mask: Tensor | None) -> Tensor | None:
            if mask is None:
                return None
            return self.transform.weights(mask.expand(len(transform), -1, -1, -1), transform, size)

        images = scene.reference.expand(len(transform), -1, -1, -1)
        return replace(
            scene,
            size=size,
            reference=self.transform.apply(images, transform, size),
            mask=moved(scene.mask),
            target=moved(scene.target),
            kept={},
        )

    def raw(
        self, params: list[Tensor], scene: Scene, change: Tensor | None = None
    ) -> Float[Tensor, "b 3 s s"]:
        """The generator's own pictures."""
        return self.inner.raw(params[:2], scene, change)

    def look(
        self, params: list[Tensor], scene: Scene, randomness: Randomness, step: int
    ) -> Float[Tensor, "b 3 s s"]:
        return self.raw(params, scene)

    def still(
        self, looks: Float[Tensor, "b 3 s s"], params: list[Tensor], scene: Scene
    ) -> Float[Tensor, "b 3 h w"]:
        transform = params[2]
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

    def image(self, params: list[Tensor], scene: Scene) -> Float[Tensor, "b 3 h w"]:
        return self.still(self.raw(params, scene), params, scene)

    def confine(self, params: list[Tensor]) -> None:
        self.inner.confine(params[:2])


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
