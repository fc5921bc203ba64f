"""What a generator is given: latents, each with a shape, a start and a limit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, final

from jaxtyping import Float
from torch import Tensor, nn

from invertkit.errors import InputError

RESERVED: Final = ("transform", "weights")
"""Tensors that variables keep beside the latents; no latent may be called so."""


@final
@dataclass(frozen=True, eq=False)
class LatentSpec:
    """One latent of a generator: numbers that begin normal around a mean.

    Args:
        shape: Of one row, without the batch: `(128,)` for a vector z, `(14, 512)` for W+.
        mean: Where it begins: one number, or a tensor that spreads to the shape, such as the mean
            w of a style-based generator.
        deviation: Of the normal numbers around the mean; a number or a tensor likewise.
        limit: Largest distance from the mean, in deviations; 0 for none.

    Raises:
        InputError: A side of the shape, the deviation or the limit is negative or not finite, or a
            tensor does not spread to the shape.

    Example:
        >>> import torch
        >>> spec = LatentSpec((2,), mean=1.0, deviation=0.5, limit=2.0)
        >>> spec.placed(torch.tensor([[-1.0, 4.0]]))
        tensor([[0.5000, 3.0000]])
        >>> latents = torch.tensor([[-1.0, 4.0]])
        >>> spec.confine(latents, spec.limit)
        >>> latents
        tensor([[0., 2.]])
    """

    shape: tuple[int, ...]
    mean: float | Tensor = 0.0
    deviation: float | Tensor = 1.0
    limit: float = 0.0

    def __post_init__(self) -> None:
        if any(isinstance(side, bool) or side < 1 for side in self.shape):
            raise InputError(f"A latent's shape has whole sides above 0, got {self.shape}.")
        for what in ("mean", "deviation"):
            value = getattr(self, what)
            if isinstance(value, Tensor) and not _spreads(value, self.shape):
                raise InputError(
                    f"The {what} of a latent spreads to its shape {self.shape}; got a tensor of "
                    f"shape {tuple(value.shape)}."
                )
        lowest = self.deviation.min() if isinstance(self.deviation, Tensor) else self.deviation
        if not (0 <= self.limit < math.inf and lowest > 0):
            raise InputError(
                "A latent has a deviation above 0 and a limit of 0, for none, or above; got "
                f"{self.deviation} and {self.limit}."
            )

    def __repr__(self) -> str:
        told = [f"{self.shape}"]
        for each in fields(self)[1:]:
            value = getattr(self, each.name)
            if isinstance(value, Tensor):
                told.append(f"{each.name}: a tensor {tuple(value.shape)}")
            elif value != each.default:
                told.append(f"{each.name}={value}")
        return f"LatentSpec({', '.join(told)})"

    @property
    def numbers(self) -> int:
        """How many numbers a row has."""
        return math.prod(self.shape)

    def moved(self, move: Callable[[Tensor], Tensor]) -> LatentSpec:
        """The same, with its tensors brought elsewhere."""
        mean, deviation = (
            move(value) if isinstance(value, Tensor) else value
            for value in (self.mean, self.deviation)
        )
        return replace(self, mean=mean, deviation=deviation)

    def placed(self, deviates: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """Latents that stand so many deviations from the mean."""
        return self.mean + self.deviation * deviates

    def deviates(self, latents: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """How many deviations latents stand from the mean: the other way round."""
        return (latents - self.mean) / self.deviation

    def confine(self, latents: Float[Tensor, "b ..."], limit: float) -> None:
        """Bring latents, in place, to within so many deviations of the mean."""
        low: Any = self.mean - limit * self.deviation
        high: Any = self.mean + limit * self.deviation
        latents.clamp_(low, high)


def _spreads(value: Tensor, shape: tuple[int, ...]) -> bool:
    sides = zip(reversed(value.shape), reversed(shape), strict=False)
    return value.ndim <= len(shape) and all(side in (1, whole) for side, whole in sides)


@final
@dataclass(frozen=True, eq=False)
class ClassEmbedding:
    """A latent that says the class: a row of a table, or anything between and beyond rows.

    Args:
        table: `(classes, …)`, a row for each class; or the name of the network's layer that holds
            it, an `nn.Embedding` or a bare `nn.Linear` from one-hot classes. A layer that is named
            is left out where weights are tuned.
        names: Of the classes; numbers where they are not known.

    Example:
        >>> net = nn.Module()
        >>> net.embed = nn.Embedding(10, 4)
        >>> ClassEmbedding("embed").rows(net).shape
        torch.Size([10, 4])
    """

    table: str | Tensor
    names: Sequence[str] = ()

    def __repr__(self) -> str:
        table = self.table if isinstance(self.table, str) else f"a table {tuple(self.table.shape)}"
        return f"ClassEmbedding({table}{f', {len(self.names)} names' if self.names else ''})"

    def moved(self, move: Callable[[Tensor], Tensor]) -> ClassEmbedding:
        """The same, with its table brought elsewhere."""
        return replace(self, table=move(self.table)) if isinstance(self.table, Tensor) else self

    def rows(self, net: nn.Module) -> Float[Tensor, "classes ..."]:
        """The table, a row for each class.

        Raises:
            InputError: The network has no such layer, or it holds no table.
        """
        if isinstance(self.table, Tensor):
            return self.table
        try:
            layer = net.get_submodule(self.table)
            what = f"a {type(layer).__name__}"
        except AttributeError:
            layer, what = None, "no layer"
        if isinstance(layer, nn.Linear):  # from one-hot classes, so its columns are the rows
            return layer.weight.T
        if isinstance(layer, nn.Embedding):
            return layer.weight
        raise InputError(
            f"A class embedding names an nn.Linear from one-hot classes or an nn.Embedding of "
            f"{type(net).__name__}; there is {what} at {self.table!r}."
        )


Declared = int | Sequence[int] | LatentSpec | ClassEmbedding
"""A latent as it may be declared; a bare shape begins at N(0, 1) and has no limit."""


def declared(latents: Mapping[str, Declared]) -> dict[str, LatentSpec | ClassEmbedding]:
    """The latents as records.

    Raises:
        InputError: There are none, or a name or a shape cannot be one.

    Example:
        >>> {name: spec.shape for name, spec in declared({"z": 128, "noise": (1, 4, 4)}).items()}
        {'z': (128,), 'noise': (1, 4, 4)}
    """
    if not isinstance(latents, Mapping) or not latents:
        raise InputError(
            'latents: a generator says what it takes, such as `latents={"z": 128}`, in the order '
            f"in which its network takes them; got {latents!r}."
        )
    records: dict[str, LatentSpec | ClassEmbedding] = {}
    for name, spec in latents.items():
        if not name.isidentifier() or name in RESERVED:
            raise InputError(
                f"latents: {name!r} cannot be the name of a latent; take a word of letters, digits "
                f"and underscores that is neither {' nor '.join(RESERVED)}."
            )
        if isinstance(spec, LatentSpec | ClassEmbedding):
            records[name] = spec
            continue
        # A string is a sequence too, and "128" would be a shape of three sides.
        sides = (spec,) if isinstance(spec, int) else spec
        if isinstance(sides, str) or not isinstance(sides, Sequence):
            raise InputError(f"latents: {name} has a length or a shape, not {spec!r}.")
        if not all(isinstance(side, int) for side in sides):
            raise InputError(f"latents: {name} has a shape of whole numbers, not {spec!r}.")
        records[name] = LatentSpec(tuple(sides))
    return records


def latent_and_class(
    length: int, *, names: Sequence[str] = (), table: str = "embeddings"
) -> dict[str, Declared]:
    """What BigGAN-deep and generators like it take: `latent`, z, and `embedding`, of a class.

    Args:
        length: Of z, which is kept within 2 of the middle (Huh et al. 2020, §3.1).
        names: Of the classes.
        table: The network's layer that embeds them.

    Example:
        >>> list(latent_and_class(128))
        ['latent', 'embedding']
    """
    return {"latent": LatentSpec((length,), limit=2.0), "embedding": ClassEmbedding(table, names)}
