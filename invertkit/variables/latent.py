"""A generator's latent and class embedding, moved to a photograph's object, with its weights."""

from __future__ import annotations

from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.resize import resize_image
from invertkit.core.network import Network
from invertkit.core.params import Params
from invertkit.core.precision import networks
from invertkit.core.randomness import Randomness
from invertkit.core.ranges import NonNegative
from invertkit.core.scene import LOGITS, Scene
from invertkit.errors import InputError, RecipeError, TapError
from invertkit.models.generators.encoder import Encoder
from invertkit.models.generators.generator import Generator
from invertkit.variables.base import Size, Variable


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

    def start(self, scene: Scene, randomness: Randomness) -> Params:
        return self.begin(scene, scene.reference, scene.mask, randomness, self.noise)

    def centre(self, scene: Scene, randomness: Randomness) -> Params:
        return self.begin(scene, scene.reference, scene.mask, randomness, 0.0)

    def begin(
        self,
        scene: Scene,
        reference: Tensor | None,
        mask: Tensor | None,
        randomness: Randomness,
        noise: float,
    ) -> Params:
        """Tensors for a reference as the generator shall see it, with so much noise in z."""
        generator = self.generator(scene)
        embedding = self._embedding(scene, generator, reference, mask, randomness)
        latent = noise * randomness.normal("start", generator.latents["latent"].shape).to(embedding)
        if self.limit:
            latent = self._within(latent)
        if self.start_from == "encoder":
            encoder = scene.models.get(self.encoder)
            if not isinstance(encoder, Encoder):
                raise TapError(f"variable.encoder: no encoder {self.encoder!r} in `models`.")
            if reference is None:
                raise InputError("`start: encoder` begins at a reference; give an image.")
            seen = resize_image(reference, (encoder.size, encoder.size))
            looks = seen.expand(len(latent), -1, -1, -1)
            guess = encoder.encode(looks, embedding=embedding)["latent"]
            if guess.shape != latent.shape:
                raise InputError(
                    f"variable.encoder: {encoder.description} gives {guess.shape[1]} numbers, and "
                    f"{generator.description} takes {latent.shape[1]}; they do not go together."
                )
            latent = self._within(guess + latent) if self.limit else guess + latent
        return {"latent": latent, "embedding": embedding}

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
        table, count = generator.tables["embedding"], len(randomness.seeds)
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
        if not isinstance(classifier, Network):
            raise TapError(f"variable.classifier: {self.classifier!r} is no classifier.")
        looks = []
        for row in range(max(len(reference), 1 if mask is None else len(mask))):
            image = reference[row : row + 1] if len(reference) > 1 else reference
            inside = mask if mask is None or len(mask) == 1 else mask[row : row + 1]
            seen = image if inside is None else _around(image, inside)
            looks.append(resize_image(seen, (classifier.size, classifier.size)))
        logits = classifier.observe(torch.cat(looks), (LOGITS,))[LOGITS]
        shared = [
            (i, generator.classes.index(name))
            for i, name in enumerate(classifier.classes)
            if name in generator.classes
        ]
        if not shared and logits.shape[1] == len(generator.classes):
            shared = [(i, i) for i in range(logits.shape[1])]
        if not shared:
            raise InputError(
                "`embedding: predicted` needs a classifier that knows classes of the generator; "
                f"{classifier.description} knows none of them. "
                "Name the class: `--set variable.embedding=given --set variable.label=CLASS`."
            )
        there, here = (list(places) for places in zip(*shared, strict=True))
        return [here[place] for place in logits[:, there].argmax(1).tolist()]

    def resize(self, params: Params, old: Size, new: Size) -> Params:
        return params

    def raw(
        self, params: Params, scene: Scene, change: Tensor | None = None
    ) -> Float[Tensor, "b 3 s s"]:
        """The generator's own pictures, perhaps of changed weights."""
        generator = self.generator(scene)
        latent, embedding = params["latent"], params["embedding"]
        with networks(scene.precision, latent.device):
            if change is None:
                made = generator.generate(latent=latent, embedding=embedding)
            else:
                made = generator.generate_with(change, latent=latent, embedding=embedding)
        return made.to(latent.dtype) if made.dtype == torch.bfloat16 else made

    def image(self, params: Params, scene: Scene) -> Float[Tensor, "b 3 h w"]:
        return resize_image(self.raw(params, scene), scene.size)

    def confine(self, params: Params) -> None:
        if self.limit:
            params["latent"].clamp_(-self.limit, self.limit)


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
