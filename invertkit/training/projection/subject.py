"""A generator with its discriminator: what encoders and auxiliary spaces are trained for."""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.generators.encoder import Encoder
from invertkit.models.generators.encoder_file import encoder as trained_encoder
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.open import (
    embedded_discriminator,
    embedded_encoder,
    embedded_generator,
)
from invertkit.models.generators.sngan.open import sngan, sngan_discriminator, sngan_encoder


@final
class Subject:
    """A class-conditional generator, and the features in which its pictures are compared.

    Args:
        generator: Its first latent is a vector, and it has classes.
        discriminator: Whose `default` layers are compared.

    Raises:
        InputError: The generator has no classes, or its latent is no vector.

    Attributes:
        latent: Name of the first latent.
        embedding: Name of the class embedding.
        table: A row for each class.
    """

    def __init__(self, generator: Generator, discriminator: Classifier) -> None:
        tables, latent = generator.tables, generator.leading
        if len(tables) != 1 or len(generator.latents) != 2 or not generator.classes:
            raise InputError(
                f"--generator: {generator.description} takes more or less than a latent and a "
                "class embedding, and for others nothing is trained here."
            )
        if len(generator.latents[latent].shape) != 1:
            raise InputError(f"--generator: the latent of {generator.description} is no vector.")
        self.generator, self.discriminator, self.latent = generator, discriminator, latent
        ((self.embedding, self.table),) = tables.items()
        self.numbers = generator.latents[latent].numbers
        self.layers = discriminator.resolve(["default"])

    def pictures(
        self, latent: Float[Tensor, "b z"], labels: Int[Tensor, " b"]
    ) -> Float[Tensor, "b 3 s s"]:
        """What the generator makes, in [0, 1]."""
        return self.generator.generate(**{self.latent: latent, self.embedding: self.table[labels]})

    def directions(self, pictures: Float[Tensor, "b 3 s s"]) -> list[Float[Tensor, "b _"]]:
        """Ψ: the features of each layer as vectors of length 1."""
        seen = self.discriminator.observe(pictures, self.layers)
        return [F.normalize(seen[name].flatten(1), dim=1) for name in self.layers]

    def distance(
        self,
        pictures: Float[Tensor, "b 3 s s"],
        photographs: Float[Tensor, "b 3 s s"],
        goal: list[Float[Tensor, "b _"]],
        *,
        pixels: float,
    ) -> Float[Tensor, " b"]:
        """`1 - cos`, the mean over layers, plus a share of the mean squared pixels on [-1, 1].

        Args:
            pictures: In [0, 1].
            photographs: In [0, 1].
            goal: Their directions.
            pixels: That share.
        """
        cosines = [
            (direction * wanted).sum(1)
            for direction, wanted in zip(self.directions(pictures), goal, strict=True)
        ]
        away = 1 - torch.stack(cosines).mean(0)
        if not pixels:
            return away
        # On [-1, 1] differences are twice, their squares four times as large as on [0, 1].
        return away + 4 * pixels * (pictures - photographs).square().mean((1, 2, 3))

    def to(self, device: torch.device | str) -> Subject:
        """The same elsewhere, in place."""
        self.generator.to(device)
        self.discriminator.to(device)
        self.table = self.generator.tables[self.embedding]
        return self


def open_subject(generator: Path | None, discriminator: Path | None) -> Subject:
    """The generator and the discriminator that a command names.

    Args:
        generator: A generator.safetensors, or the folder or file of SNGAN's .npz; None for the
            embedded one.
        discriminator: Where it is not in the same file or folder.

    Raises:
        InputError: A file of SNGAN's generator is named and no discriminator.
        WeightsError: A file is missing, damaged, or of another network.
    """
    if generator is None or generator.suffix == ".safetensors":
        judge = embedded_discriminator(weights=discriminator or generator)
        return Subject(embedded_generator(weights=generator), judge)
    if discriminator is None and not generator.is_dir():
        raise InputError(
            f"--discriminator: {generator} holds a generator alone; name the file of its "
            "discriminator too, or the folder of both as --generator."
        )
    judge = sngan_discriminator(weights=discriminator or generator)
    return Subject(sngan(weights=generator), judge)


def open_encoder(path: Path | None, *, generator: Path | None) -> Encoder:
    """The encoder that a command names, by default that in the generator's file or folder.

    Raises:
        InputError: None is named, and the generator's file has none.
        WeightsError: A file is missing, damaged, or of another network.
    """
    if path is not None:
        opened = trained_encoder if path.suffix == ".safetensors" else sngan_encoder
        return opened(weights=path)
    if generator is None or generator.suffix == ".safetensors":
        return embedded_encoder(weights=generator)
    if not generator.is_dir():
        raise InputError(f"--encoder: {generator} holds a generator alone; name an encoder too.")
    return sngan_encoder(weights=generator)
