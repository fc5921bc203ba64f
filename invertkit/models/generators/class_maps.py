"""Several classes in one picture: what a generator takes in place of a class embedding.

The protocol that a network follows to be collaged, in two lines:

- `class_layers` lists, in the order of the forward pass, the layers that the class enters, each
  with the height and width of its features;
- `forward` takes a `ClassMap` where it takes a class embedding, asks it for the condition of each
  of those layers (`conditions`), and hands that to `mixed` with whatever makes the layer's numbers
  from a condition: scale and shift of a norm, styles of a modulated convolution, the first map.

Numbers are mixed *behind* the layer's linear map, in the space of its gains: that is one small
product of a map with a table of as many rows as there are classes in the picture, and not a linear
map at every place.

Source: Suzuki et al. 2018, "Spatially controllable image synthesis with internal representation
collaging" (arXiv:1811.10153), §3.1, Eq. 2: spatial conditional batch norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias, final, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from invertkit.errors import InputError, ShapeError


class ClassLayer(NamedTuple):
    """A layer that the class enters.

    Args:
        name: Of the module.
        shape: Height and width of the features there.
    """

    name: str
    shape: tuple[int, int]


class Mixture(NamedTuple):
    """The condition of a layer where it differs from place to place.

    Args:
        rows: `(b, k, n)`, the condition of each of k classes.
        weights: `(b, k, h, w)`, how much each counts at each place; they sum to 1.
    """

    rows: Tensor
    weights: Tensor


Condition: TypeAlias = Tensor | Mixture
"""What a layer is told: `(b, n)`, the same everywhere, or a mixture."""


def mixed(
    affine: Callable[[Tensor], tuple[Tensor, ...]], condition: Condition
) -> tuple[Tensor, ...]:
    """What `affine` makes of a condition, ready to meet features `(b, c, h, w)`.

    Args:
        affine: From conditions `(n, m)` to one or several `(n, c)`, such as scale and shift.
        condition: The same everywhere, or a mixture.

    Returns:
        Each `(b, c, 1, 1)`, or `(b, c, h, w)` with channels last in memory. An affine map may be
        mixed before or after it, since weights sum to 1; after it is far cheaper.

    Example:
        >>> double = lambda rows: (2 * rows,)
        >>> mixed(double, torch.ones(1, 3))[0].shape
        torch.Size([1, 3, 1, 1])
        >>> halves = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
        >>> mixed(double, Mixture(torch.tensor([[[1.0], [5.0]]]), halves))[0].tolist()
        [[[[2.0, 10.0]]]]
    """
    if isinstance(condition, Tensor):
        return tuple(part[:, :, None, None] for part in affine(condition))
    count, classes = condition.rows.shape[:2]
    parts = affine(condition.rows.flatten(0, 1))
    shape = condition.weights.shape[-2:]
    places = condition.weights.to(parts[0]).flatten(2).mT  # (b, h·w, k)
    return tuple(
        (places @ part.unflatten(0, (count, classes))).unflatten(1, shape).permute(0, 3, 1, 2)
        for part in parts
    )


@final
@dataclass(frozen=True, eq=False)
class ClassMap:
    """Classes and their weights at every place of every layer, for a batch of pictures.

    Where one class has all the weight of a layer, that layer is told this class as it would be
    without a map, and does bit for bit what it does then.

    Args:
        embeddings: The class embedding of each of k classes.
        weights: For every layer that the class enters, in the network's order, a map at the size
            of the layer's features: 0 or above, and 1 in sum at every place.

    Raises:
        ShapeError: Embeddings and weights are not of equally many classes or pictures.
        InputError: Weights are negative, not finite, or do not sum to 1.

    Example:
        >>> halves = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
        >>> both = ClassMap(torch.eye(2)[None], (halves, torch.ones_like(halves) / 2))
        >>> len(both), both.conditions(torch.zeros(1, 3))[0].rows.shape
        (1, torch.Size([1, 2, 5]))
    """

    embeddings: Float[Tensor, "b k ..."]
    weights: Sequence[Float[Tensor, "b k _ _"]]
    _single: tuple[Int64[Tensor, " b"] | None, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = tuple(self.embeddings.shape[:2])
        for layer, weights in enumerate(self.weights):
            if weights.ndim != 4 or tuple(weights.shape[:2]) != shape:
                raise ShapeError(
                    f"weights: layer {layer} wants (pictures, classes, height, width), of {shape} "
                    f"pictures and classes as the embeddings; got {tuple(weights.shape)}."
                )
            check_weights(weights, who=f"weights of layer {layer}")
        # Found once, and not at every layer of every pass: it reads a tensor back.
        object.__setattr__(self, "_single", tuple(map(_single_class, self.weights)))

    def __len__(self) -> int:
        return len(self.embeddings)

    def rows(self, start: int, stop: int) -> ClassMap:
        """The same for some of the pictures."""
        return ClassMap(
            self.embeddings[start:stop], tuple(weights[start:stop] for weights in self.weights)
        )

    def conditions(self, beside: Tensor | None = None) -> list[Condition]:
        """What each layer is told.

        Args:
            beside: `(b, z)` that stands before the class embedding in every condition.

        Example:
            >>> one = torch.tensor([[[[1.0]], [[0.0]]]])
            >>> ClassMap(torch.eye(2)[None], (one,)).conditions()
            [tensor([[1., 0.]])]
        """
        rows = self.embeddings
        if beside is not None:
            rows = torch.cat([beside[:, None].expand(-1, rows.shape[1], -1), rows], 2)
        every = torch.arange(len(rows), device=rows.device)
        return [
            Mixture(rows, weights) if single is None else rows[every, single]
            for weights, single in zip(self.weights, self._single, strict=True)
        ]


def row_of(latent: Tensor | ClassMap, index: int) -> Tensor | ClassMap:
    """What one picture of a batch is given, still with its first axis.

    Example:
        >>> row_of(torch.tensor([[1.0], [2.0]]), 1)
        tensor([[2.]])
    """
    row = slice(index, index + 1)
    return latent[row] if isinstance(latent, Tensor) else latent.rows(row.start, row.stop)


@runtime_checkable
class TakesClassMaps(Protocol):
    """A network that takes a `ClassMap` in place of a class embedding; see the module's head."""

    @property
    def class_layers(self) -> tuple[ClassLayer, ...]:
        """The layers that the class enters, in the order of the forward pass."""


def conditions_of(
    embedding: Tensor | ClassMap, beside: Tensor, layers: Sequence[ClassLayer]
) -> list[Condition]:
    """The condition of each layer, whether it is one class or a map.

    Args:
        embedding: A class embedding `(b, e)`, or a map.
        beside: `(b, z)` that stands before it in every condition.
        layers: The network's, in order.

    Raises:
        ShapeError: The map is of another number of layers.

    Example:
        >>> layers = [ClassLayer("norm", (4, 4))]
        >>> [told.shape for told in conditions_of(torch.zeros(2, 3), torch.zeros(2, 5), layers)]
        [torch.Size([2, 8])]
    """
    if isinstance(embedding, Tensor):
        return [torch.cat([beside, embedding], 1)] * len(layers)
    if len(embedding.weights) != len(layers):
        raise ShapeError(
            f"The class enters this network in {len(layers)} layers; the map has weights for "
            f"{len(embedding.weights)}."
        )
    return embedding.conditions(beside)


def check_weights(weights: Float[Tensor, "b k h w"], *, who: str = "weights") -> None:
    """Whether weights of classes are 0 or above and sum to 1 at every place.

    Raises:
        InputError: They are not.

    Example:
        >>> check_weights(torch.tensor([[[[0.25]], [[0.75]]]]))
    """
    weights = weights.detach()
    if not bool(weights.isfinite().all()):
        raise InputError(f"{who}: has numbers that are NaN or infinite.")
    lowest, total = float(weights.min()), weights.sum(1)
    if lowest < 0:
        raise InputError(f"{who}: a class cannot weigh less than 0; got {lowest:.3g}.")
    error = (total - 1).abs()
    if float(error.max()) > 1e-4:
        worst = float(total.flatten()[error.flatten().argmax()])
        share = float((error > 1e-4).float().mean())
        raise InputError(
            f"{who}: the weights of the classes sum to 1 at every place; at {share:.0%} of the "
            f"places they do not, and at one they sum to {worst:.3g}. Divide them by their sum."
        )


def _single_class(weights: Tensor) -> Int64[Tensor, " b"] | None:
    """The class that has all the weight in each picture, if one has."""
    first = weights[:, :, 0, 0]
    alone = (first == 1) & (weights == first[:, :, None, None]).all(-1).all(-1)
    if not bool(alone.any(1).all()):
        return None
    return alone.to(torch.int64).argmax(1)
