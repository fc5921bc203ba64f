"""Label collaging: a picture's own class, and others where a map wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.errors import InputError, ShapeError
from invertkit.models.generators.class_maps import ClassLayer, ClassMap, TakesClassMaps
from invertkit.models.generators.class_weights import SOFTEN, layer_weights
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.layer_choice import LayerChoice, layer_strengths


def class_layers(generator: Generator) -> tuple[ClassLayer, ...]:
    """The layers of a generator that a class map reaches.

    Raises:
        InputError: It has no classes, or its network takes no class maps.

    Example:
        >>> from invertkit.models.generators.open import embedded_generator
        >>> {layer.shape[0] for layer in class_layers(embedded_generator())} >= {4, 8, 16}
        True
    """
    if not generator.classes:
        raise InputError(
            f"{generator.description} has no class embedding, so there are no classes to collage; "
            "blend features instead, or take a class-conditional generator."
        )
    if not isinstance(generator.net, TakesClassMaps):
        raise InputError(
            f"{generator.description} takes no class maps: its network, "
            f"{type(generator.net).__name__}, has no `class_layers`; see "
            "invertkit.models.generators.class_maps for the two lines that a network needs."
        )
    return generator.net.class_layers


def collaged(
    generator: Generator,
    latents: Mapping[str, Float[Tensor, "b ..."]],
    weights: Float[Tensor, "#b k h w"],
    classes: Sequence[str | int],
    *,
    layers: LayerChoice = "all",
    strength: float = 1.0,
    softened_by: float = SOFTEN,
) -> dict[str, Tensor | ClassMap]:
    """Latents for `Generator.generate` in which class embeddings are maps of several classes.

    The first weights are those of the embedding that the latents have, wherever it lies: so a
    projection that has moved its embedding keeps it where nothing is collaged.

    Args:
        generator: That is to draw.
        latents: By name.
        weights: Of the own class and of each of `classes`, at any size, in sum 1.
        classes: The others, by name or number, as many as there are weights less one.
        layers: Which layers the map reaches; the others are told the own class.
        strength: How far it goes, in [0, 1].
        softened_by: Deviation of the Gaussian over the map, as a share of its side.

    Raises:
        InputError: The generator cannot, has no such class or layer, or weights do not sum to 1.
        ShapeError: There are not as many weights as classes.

    Example:
        >>> from invertkit.models.generators.open import embedded_generator
        >>> generator = embedded_generator()
        >>> latents = {"latent": torch.zeros(1, generator.latents["latent"].shape[0]),
        ...            "embedding": generator.tables["embedding"][:1]}
        >>> halves = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
        >>> generator.generate(**collaged(generator, latents, halves, [1])).shape[1]
        3

    Source: Suzuki et al. 2018, §3.1.
    """
    known = class_layers(generator)
    if weights.shape[1] != len(classes) + 1:
        raise ShapeError(
            f"weights: expected those of the picture's own class and of {len(classes)} others, "
            f"{len(classes) + 1} in all; got {weights.shape[1]}."
        )
    labels = [generator.label(name) for name in classes]
    strengths = [
        strength * each for each in layer_strengths(layers, [min(at.shape) for at in known])
    ]
    count = len(next(iter(latents.values())))
    at_layers = layer_weights(
        weights.expand(count, -1, -1, -1).to(generator.like), known, strengths,
        softened_by=softened_by,
    )  # fmt: skip
    maps = {}
    for name, table in generator.tables.items():
        others = table[labels].expand(count, len(labels), *table.shape[1:])
        maps[name] = ClassMap(torch.cat([latents[name][:, None], others], 1), at_layers)
    return {name: maps.get(name, latents[name]) for name in generator.latents}
