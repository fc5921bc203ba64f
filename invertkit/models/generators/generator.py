"""A frozen class-conditional generator, and the encoder that inverts it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from invertkit.core.network import Model
from invertkit.core.suggestions import did_you_mean
from invertkit.errors import InputError, TapError


@final
@dataclass(frozen=True)
class ObjectStatistics:
    """Where a generator puts its objects, as shares of the picture's height and width.

    Args:
        centre: Row and column of the mean centre.
        size: Most frequent height and width.

    Source: Huh et al. 2020, §3.3, measured there with an object detector on 10,000 samples.
    """

    centre: tuple[float, float] = (0.5, 0.5)
    size: tuple[float, float] = (0.8, 0.8)


BIGGAN_STATISTICS = ObjectStatistics((137 / 256, 127 / 256), (213 / 256, 210 / 256))
"""Of BigGAN-deep 256; the paper's text swaps the two labels."""


@final
class Generator(Model):
    """A network from a latent and a class embedding to a picture; frozen, in evaluation mode.

    Args:
        net: Called with `(b, z)` latents and `(b, e)` embeddings; gives `(b, 3, s, s)` in [-1, 1].
            Its `embeddings` is a linear map from one-hot classes to embeddings.
        size: Side of its pictures in pixels.
        latent: Length of z, standard normal where it was trained.
        classes: Names of the classes; numbers where they are not known.
        statistics: Where its objects are.
        description: What it is and where its weights came from.
        feature_layer: Layer whose principal components make latent directions.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        size: int,
        latent: int,
        classes: Sequence[str] = (),
        statistics: ObjectStatistics | None = None,
        description: str = "a generator given from Python",
        feature_layer: str = "gen_z",
    ) -> None:
        super().__init__(description=description, size=size)
        self.net = net.eval().requires_grad_(False)
        self.latent = latent
        if not isinstance(getattr(net, "embeddings", None), nn.Linear):
            raise InputError(
                f"A generator has class embeddings, a linear map in its `embeddings`; "
                f"{type(net).__name__} has none."
            )
        count = len(self.table)
        self.classes = tuple(classes) or tuple(str(i) for i in range(count))
        if len(self.classes) != count:
            raise InputError(
                f"This generator has {count} classes; it was given {len(self.classes)} names."
            )
        self.statistics = statistics or ObjectStatistics()
        self.feature_layer = feature_layer

    @property
    def table(self) -> Float[Tensor, "classes e"]:
        """The embedding of every class."""
        weight: Tensor = self.net.embeddings.weight  # type: ignore[union-attr,assignment]
        return weight.T

    def generate(
        self, latent: Float[Tensor, "b z"], embedding: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b 3 s s"]:
        """Pictures in [0, 1]."""
        picture: Tensor = self.net(latent, embedding)
        return picture / 2 + 0.5

    def generate_with(
        self,
        change: Float[Tensor, "b p"],
        latent: Float[Tensor, "b z"],
        embedding: Float[Tensor, "b e"],
    ) -> Float[Tensor, "b 3 s s"]:
        """Pictures of the network with its weights changed, by another row for each picture."""
        pictures = []
        names = self.tunable()
        weights = dict(self.net.named_parameters())
        for row, z, e in zip(change, latent, embedding, strict=True):
            parts = row.split([weights[name].numel() for name in names])
            changed = {
                name: weights[name] + part.reshape(weights[name].shape)
                for name, part in zip(names, parts, strict=True)
            }
            pictures.append(functional_call(self.net, changed, (z[None], e[None])))
        return torch.cat(pictures) / 2 + 0.5

    def tunable(self) -> list[str]:
        """Names of the weights that fine-tuning changes: all but class embeddings."""
        return [n for n, _ in self.net.named_parameters() if not n.startswith("embeddings")]

    def tunable_size(self) -> int:
        """How many numbers they hold."""
        weights = dict(self.net.named_parameters())
        return sum(weights[name].numel() for name in self.tunable())

    def label(self, name: str | int) -> int:
        """The index of a class given by name or number.

        Raises:
            InputError: There is none.
        """
        if isinstance(name, str) and name in self.classes:
            return self.classes.index(name)
        if str(name).isdecimal() and int(name) < len(self.classes):
            return int(name)
        hint = did_you_mean(name, self.classes)
        shown = ", ".join(self.classes[:12]) + (", …" if len(self.classes) > 12 else "")
        raise InputError(
            f"Unknown class {name!r} of {self.description}.{hint} It has {len(self.classes)}: "
            f"{shown}."
        )

    def features(
        self, latent: Tensor, embedding: Tensor, layers: Collection[str]
    ) -> Mapping[str, Tensor]:
        """What the layers of that name put out while a picture is made.

        Raises:
            TapError: A layer does not exist.
        """
        seen: dict[str, Tensor] = {}

        def keep(module: nn.Module, inputs: Any, output: Tensor, *, name: str) -> None:
            seen[name] = output

        hooks = []
        try:
            for name in layers:
                try:
                    module = self.net.get_submodule(name)
                except AttributeError:
                    raise TapError(f"{self.description} has no layer {name!r}.") from None
                hooks.append(module.register_forward_hook(partial(keep, name=name)))
            self.net(latent, embedding)
        finally:
            for hook in hooks:
                hook.remove()
        return seen


@final
class Encoder(Model):
    """A network from a picture and its class embedding to a latent; frozen.

    Args:
        net: Called with `(b, 3, s, s)` in [-1, 1] and `(b, e)`; gives `(b, z)`.
        size: Side of the pictures it takes.
        description: What it is.
    """

    def __init__(
        self, net: nn.Module, *, size: int, description: str = "an encoder given from Python"
    ) -> None:
        super().__init__(description=description, size=size)
        self.net = net.eval().requires_grad_(False)

    def encode(
        self, image: Float[Tensor, "b 3 s s"], embedding: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b z"]:
        """Latents of pictures in [0, 1]."""
        latent: Tensor = self.net(image * 2 - 1, embedding)
        return latent
