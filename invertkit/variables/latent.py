"""The latents of a generator."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Literal, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.kinds import words_in
from invertkit.core.images.resize import resize_image
from invertkit.core.params import Params
from invertkit.core.precision import networks
from invertkit.core.randomness import Randomness
from invertkit.core.ranges import NonNegative
from invertkit.core.scene import Scene
from invertkit.core.suggestions import conjoined
from invertkit.errors import InputError, RecipeError, TapError
from invertkit.models.generators.encoder import Encoder
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.zeta import ZETA, ZetaSpace
from invertkit.variables.base import Size, Variable
from invertkit.variables.class_start import ClassStart, Embedding, classifier_of


@final
class Latent(Variable):
    """The latents of a generator, under the names that it gives them.

    Latents begin normal, as the generator declares, and class embeddings at a class.

    Args:
        model: The generator, in `models`.
        start: `normal`, or `encoder`: what the encoder in `models` says of the reference, for the
            latents that it gives.
        noise: How many of the deviations that the generator declares the start has around its
            middle; by name where latents shall differ, 1 for the others.
        embedding: Where class embeddings begin: the class `given` by `label`, the one `predicted`
            by the classifier in `models` from the reference's object, a `random` class, or
            `gaussian` numbers with the moments of the table. By default `predicted`, and nothing
            where the generator has no classes.
        label: Class by name or number, for `given`.
        label_from: Name of an input of words of which the first is the class, for `given`.
        limit: Largest distance of a latent from its middle, in deviations, or 0 for none; by name
            where they shall differ. By default what the generator declares.
        beyond: What happens to draws past it: `clamp`, or `wrap` (the remainder).
        classifier: The classifier in `models`, for `predicted`.
        encoder: The encoder in `models`, for `start: encoder`.
        mask: Name of the mask around which the classifier looks, if it is given.
        space: Search the first latent in this auxiliary space of `models`, `zeta` by custom: the
            tensor `zeta` begins at A of where the latent would begin, takes the latent's place,
            and has no limit. By default the latent itself is searched.

    Raises:
        InputError: The class does not exist, or a start needs a reference that the run lacks.
        RecipeError: An option makes no sense for the generator; told by `bind`.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(5, 3 * 4 * 4), nn.Unflatten(1, (3, 4, 4)))
        >>> variable = Latent(limit=2).bind({"generator": Generator(net, latents={"z": 5})})
        >>> params = variable.start(Scene((8, 8)), Randomness((0, 1)))
        >>> {name: rows.shape for name, rows in params.items()}
        {'z': torch.Size([2, 5])}
        >>> variable.image(params, Scene((8, 8))).shape
        torch.Size([2, 3, 8, 8])

    Source: Huh et al. 2020, §3.1 and Table 2. The released code draws z by the remainder and
    clamps it before each forward: `beyond: wrap` does the first, `clamp` the second; draws are
    brought into the limit by `beyond`, and what the optimizer moves past it is clamped. The
    auxiliary space is that of Suzuki et al. 2018, supplement B.
    """

    is_latent = True

    def __init__(
        self,
        *,
        model: str = "generator",
        start: Literal["normal", "encoder"] = "normal",
        noise: NonNegative | dict[str, NonNegative] = 1.0,
        embedding: Embedding | None = None,
        label: str | int | None = None,
        label_from: str = "",
        limit: NonNegative | dict[str, NonNegative] | None = None,
        beyond: Literal["clamp", "wrap"] = "clamp",
        classifier: str = "classifier",
        encoder: str = "encoder",
        mask: str = "mask",
        space: str = "",
    ) -> None:
        if embedding == "given" and label is None and not label_from:
            raise RecipeError("label: `embedding: given` needs the class; write its name here.")
        self.model, self.start_from, self.noise = model, start, noise
        self.embedding, self.label, self.label_from = embedding, label, label_from
        self.limit, self.beyond = limit, beyond
        self.classifier, self.encoder, self.mask, self.space = classifier, encoder, mask, space
        # What `bind` finds in a problem's models; until then nobody knows the names.
        self._generator: Generator | None = None
        self._encoder: Encoder | None = None
        self._space: ZetaSpace | None = None
        self._class_start: ClassStart | None = None
        self._limits: dict[str, float] = {}

    # ------------------------------------------------------------------ what it belongs to

    def bind(self, models: Mapping[str, Any]) -> Self:
        """This variable, for the generator in `models`.

        Raises:
            TapError: There is no such generator, encoder or classifier.
            RecipeError: An option makes no sense for the generator.
        """
        bound = copy(self)
        bound._generator = generator = _generator_of(models, self.model)
        for what in ("noise", "limit"):
            _check_names(generator, what, getattr(self, what))
        bound._limits = _limits_of(generator, self.limit)
        if generator.tables:
            embedding = self.embedding or "predicted"
            predicts = embedding == "predicted"
            classifier = classifier_of(models, self.classifier) if predicts else None
            bound._class_start = ClassStart(generator, embedding, self.label, classifier)
        elif self.embedding is not None or self.label is not None:
            what = "embedding" if self.embedding is not None else "label"
            raise RecipeError(
                f"{what}: {generator.description} has no class embedding; leave out "
                f"{what}, or write `{what}: null`."
            )
        if self.start_from == "encoder":
            bound._encoder = _encoder_of(models, self.encoder, generator)
        if self.space:
            bound._space = _space_of(models, self.space, generator)
        return bound

    @property
    def generator(self) -> Generator:
        """The generator that it was bound to.

        Raises:
            InputError: It was not.
        """
        if self._generator is None:
            raise InputError(
                "This variable knows no generator yet: a `Problem` tells it, or "
                "`variable.bind(models)`."
            )
        return self._generator

    @property
    def names(self) -> tuple[str, ...]:
        if self._generator is None:
            return ()
        away = "" if self._space is None else self._space.latent
        return tuple(ZETA if name == away else name for name in self._generator.latents)

    # ------------------------------------------------------------------ where it begins

    def start(self, scene: Scene, randomness: Randomness) -> Params:
        return self.begin(scene, scene.reference, scene.inputs.find(self.mask), randomness)

    def centre(self, scene: Scene, randomness: Randomness) -> Params:
        return self.begin(
            scene, scene.reference, scene.inputs.find(self.mask), randomness, noisy=False
        )

    def begin(
        self,
        scene: Scene,
        reference: Tensor | None,
        mask: Tensor | None,
        randomness: Randomness,
        *,
        noisy: bool = True,
    ) -> Params:
        """Tensors for a reference as the generator shall see it.

        Args:
            scene: Keeps what a classifier said.
            reference: The photograph in the generator's frame.
            mask: Of its object, there.
            randomness: Of the images.
            noisy: Whether latents stand around their middle, or in it.
        """
        generator = self.generator
        known: Params = {}
        if self._class_start is not None:
            labels = self._labels(scene)
            known = self._class_start.rows(scene, reference, mask, randomness, labels)
        guesses = self._guesses(reference, known, len(randomness.seeds))
        params: Params = {}
        for name, spec in generator.latents.items():
            if name in known:
                params[name] = known[name]
                continue
            # Draws of the first are called as those of other variables, whatever its name.
            purpose = "start" if name == generator.leading else f"start of {name}"
            noise = self._noise(name) if noisy else 0.0
            deviates = noise * randomness.normal(purpose, spec.shape).to(generator.like)
            deviates = self._within(name, deviates)
            if name in guesses:
                deviates = self._within(name, spec.deviates(guesses[name]) + deviates)
            params[name] = spec.placed(deviates)
        return self._spread(params)

    def _labels(self, scene: Scene) -> list[str]:
        """The class of each image that an input of words says, one for all, or nothing."""
        if not self.label_from:
            return []
        if self.label_from not in scene.inputs and self.label is not None:
            return []
        words = scene.inputs.need(self.label_from, who="latent")
        return [words_in(row[None])[0] for row in words]

    def _guesses(self, reference: Tensor | None, known: Params, count: int) -> Params:
        """What the encoder says, a row for each image; nothing without one."""
        encoder = self._encoder
        if encoder is None:
            return {}
        if reference is None:
            raise InputError("`start: encoder` begins at a reference; give an image.")
        look = resize_image(reference, (encoder.size, encoder.size))
        try:
            guesses = encoder.encode(look.expand(count, -1, -1, -1), **known)
        except torch.OutOfMemoryError:  # a RuntimeError too, but nothing is wrong with the parts
            raise
        except RuntimeError as error:  # such as a class embedding of another length
            first = str(error).strip().split("\n")[0]
            raise InputError(
                f"{encoder.description} cannot be run on the classes of "
                f"{self.generator.description}; they do not go together ({first:.100})."
            ) from None
        for name, guess in guesses.items():
            shape = self.generator.latents[name].shape
            if tuple(guess.shape[1:]) != shape:
                raise InputError(
                    f"{encoder.description} gives {name} as "
                    f"{tuple(guess.shape[1:])}, and {self.generator.description} takes {shape}; "
                    "they do not go together."
                )
        return guesses

    def _noise(self, name: str) -> float:
        return self.noise.get(name, 1.0) if isinstance(self.noise, dict) else self.noise

    def _within(self, name: str, deviates: Tensor) -> Tensor:
        limit = self._limits.get(name)
        if limit is None:
            return deviates
        return deviates.fmod(limit) if self.beyond == "wrap" else deviates.clamp(-limit, limit)

    def resize(self, params: Params, old: Size, new: Size) -> Params:
        return params

    # ------------------------------------------------------------------ in another space

    def _spread(self, latents: Params) -> Params:
        """The tensors that are searched, for latents of the generator."""
        space = self._space
        if space is None:
            return latents
        # Row by row, since a product of many rows rounds otherwise than one: a seed begins alike
        # alone and in company.
        spread = torch.cat([space.expand(row[None]) for row in latents[space.latent]])
        there = {ZETA if name == space.latent else name: rows for name, rows in latents.items()}
        return {**there, ZETA: spread}

    def latents(self, params: Params) -> Params:
        """The generator's latents, from the tensors that are searched; others are passed over."""
        space = self._space
        return {
            name: space.collapse(params[ZETA])
            if space is not None and name == space.latent
            else params[name]
            for name in self.generator.latents
        }

    def result_tensors(self, params: Params) -> Params:
        if self._space is None or ZETA not in params:
            return params
        # An edit starts at the generator's latents, whatever was searched.
        return {**params, **self.latents(params)}

    # ------------------------------------------------------------------ where it may be

    @property
    def confines(self) -> bool:  # type: ignore[override]
        """Whether a tensor has a limit."""
        return bool(self._confined())

    def confine(self, params: Params) -> None:
        for name, limit in self._confined().items():
            self.generator.latents[name].confine(params[name], limit)

    def _confined(self) -> dict[str, float]:
        """The limits of what is searched; in another space a latent has none."""
        away = "" if self._space is None else self._space.latent
        return {name: limit for name, limit in self._limits.items() if name != away}

    # ------------------------------------------------------------------ what it shows

    def raw(
        self, params: Params, scene: Scene, change: Float[Tensor, "b p"] | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """The generator's own pictures.

        Args:
            params: Its latents by name; others are passed over.
            scene: Says how precisely networks are run.
            change: Of the generator's weights, of each picture.
        """
        generator = self.generator
        first = params[self.names[0]]
        with networks(scene.precision, first.device):
            latents = self.latents(params)
            if change is None:
                pictures = generator.generate(**latents)
            else:
                pictures = generator.generate_with(change, **latents)
        # Terms compare with a photograph, and small differences need more digits than bf16 has.
        return pictures.to(first.dtype) if pictures.dtype == torch.bfloat16 else pictures

    def image(self, params: Params, scene: Scene) -> Float[Tensor, "b 3 h w"]:
        return resize_image(self.raw(params, scene), scene.size)


def _generator_of(models: Mapping[str, Any], name: str) -> Generator:
    generator = models.get(name)
    if isinstance(generator, Generator):
        return generator
    known = ", ".join(each for each, model in models.items() if isinstance(model, Generator))
    way = ""
    if generator is not None:
        way = ' A network from Python is wrapped: `invertkit.Generator(net, latents={"z": 128})`.'
    raise TapError(
        f"model: no generator {name!r} in `models`; generators there: {known or 'none'}.{way}"
    )


def _encoder_of(models: Mapping[str, Any], name: str, generator: Generator) -> Encoder:
    encoder = models.get(name)
    if not isinstance(encoder, Encoder):
        raise TapError(f"encoder: no encoder {name!r} in `models`.")
    given = set(encoder.gives) <= set(generator.latents) - set(generator.tables)
    if not given or not set(encoder.takes) <= set(generator.tables):
        of = f" of {conjoined(encoder.takes)}" if encoder.takes else ""
        raise RecipeError(
            f"encoder: {encoder.description} gives {conjoined(encoder.gives)}{of}, and "
            f"{generator.description} takes {conjoined(list(generator.latents))}; they do not go "
            "together."
        )
    return encoder


def _space_of(models: Mapping[str, Any], name: str, generator: Generator) -> ZetaSpace:
    space = models.get(name)
    if not isinstance(space, ZetaSpace):
        raise TapError(f"space: no auxiliary space {name!r} in `models`.")
    spec = generator.latents.get(space.latent)
    if spec is None or space.latent in generator.tables or spec.shape != (space.shape.latent,):
        raise RecipeError(
            f"space: {space.description} stands for {space.shape.latent} numbers of "
            f"{space.latent!r}, and {generator.description} takes "
            f"{conjoined([f'{key} {each.shape}' for key, each in generator.latents.items()])}; "
            "they do not go together."
        )
    return space


def _limits_of(
    generator: Generator, option: float | Mapping[str, float] | None
) -> dict[str, float]:
    """The limit of every latent that has one: what is asked for, else what is declared."""
    limits = {}
    for name, spec in generator.latents.items():
        if name not in generator.tables:
            asked = option.get(name) if isinstance(option, Mapping) else option
            limits[name] = spec.limit if asked is None else asked
    return {name: limit for name, limit in limits.items() if limit}


def _check_names(generator: Generator, option: str, values: object) -> None:
    """Latents that an option names must be latents."""
    latents = [name for name in generator.latents if name not in generator.tables]
    unknown = [name for name in values if name not in latents] if isinstance(values, dict) else []
    if unknown:
        raise RecipeError(
            f"{option}: {generator.description} has no latent {unknown[0]!r} beside its "
            f"classes; it has {conjoined(latents) or 'none'}."
        )
