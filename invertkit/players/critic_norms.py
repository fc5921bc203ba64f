"""A normalisation with its derivative and the derivative of that, over rows of features.

For x̂ = (z - mean z) / σ over N places, the derivative of x̂ along u is

    J u = (u - mean u - x̂ · mean(x̂ u)) / σ,

and J is symmetric, so that forwards and backwards are one operation. The derivative of ⟨p, J u⟩
with respect to z, which a gradient penalty asks for, is

    -(⟨p, J u⟩ x̂ + ⟨x̂, u⟩ J p + ⟨x̂, p⟩ J u) / (N σ).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.models.stacked.normed_leaky import EPSILON

aten = torch.ops.aten

Blocks = Sequence[tuple[int, int]]
"""Runs of rows: how many, and how many of them at a time share their statistics (a part)."""


class Moved(NamedTuple):
    """What the derivative makes of some features.

    Attributes:
        features: J of them, times the scale where it is asked for.
        along: Their products with x̂, summed over each part.
        total: Themselves, summed over each part.
    """

    features: Float[Tensor, "r c h w"]
    along: Float[Tensor, "parts c"]
    total: Float[Tensor, "parts c"]


@final
@dataclass(frozen=True)
class Normalisation:
    """The normalisation of some features.

    Args:
        features: Before it.
        scale: Of each channel, after it.
        mean: Of each part.
        inverse: 1/σ of each part.
        blocks: Which rows share statistics.
    """

    features: Float[Tensor, "r c h w"]
    scale: Float[Tensor, " c"]
    mean: Float[Tensor, "parts c"]
    inverse: Float[Tensor, "parts c"]
    blocks: Blocks

    def last(self, rows: int) -> Normalisation:
        """Of the last rows alone, which have a block or parts of their own."""
        each = self.blocks[-1][1]
        parts = slice(len(self.mean) - rows // each, None)
        return replace(
            self,
            features=self.features[-rows:],
            mean=self.mean[parts],
            inverse=self.inverse[parts],
            blocks=((rows, each),),
        )

    def moved(self, slope: Float[Tensor, "r c h w"], *, scaled: bool) -> Moved:
        """J of it, times the scale or not."""
        width, moved_blocks = self.features.shape[1], []
        for each, parts, (features, given) in _tall(self.blocks, self.features, slope):
            channels = features.shape[1]
            # The backward of a group norm is J, for J is symmetric; one kernel does all of it.
            scale = self.scale.repeat(channels // width) if scaled else None
            out, along, total = aten.native_group_norm_backward(
                given,
                features,
                self.mean[parts].reshape(1, -1),
                self.inverse[parts].reshape(1, -1),
                scale,
                1,
                channels,
                features[0, 0].numel(),
                channels,
                [True, True, True],
            )
            moved_blocks.append(
                Moved(_low(out, each, slope), along.reshape(-1, width), total.reshape(-1, width))
            )
        if len(moved_blocks) == 1:
            return moved_blocks[0]
        return Moved(*map(torch.cat, zip(*moved_blocks, strict=True)))

    def bent(self, back: Moved, forth: Moved, product: Float[Tensor, "parts c"]) -> Tensor:
        """The derivative with respect to the features of ⟨p, scale · J u⟩.

        Args:
            back: Of p, scaled.
            forth: Of u, its features scaled after all.
            product: ⟨p, J u⟩ of each part.
        """
        # Of the mixed rows alone, which `last` has made one block.
        each = self.blocks[0][1]
        places = each * self.features[0, 0].numel()
        share = -self.inverse / places
        level = share * product * self.scale * self.inverse

        def of_rows(numbers: Tensor) -> Tensor:
            rows = numbers if each == 1 else numbers.repeat_interleave(each, 0)
            return rows[:, :, None, None]

        bent: Tensor = torch.addcmul(of_rows(-level * self.mean), self.features, of_rows(level))
        bent.addcmul_(back.features, of_rows(share * forth.along))
        bent.addcmul_(forth.features, of_rows(share * back.along))
        return bent

    def of_parts(self, numbers: Float[Tensor, "r c"]) -> Float[Tensor, "parts c"]:
        """Sums over the rows of each part; one block."""
        parts: Tensor = numbers.unflatten(0, (-1, self.blocks[0][1]))
        return parts.sum(1)


def normalised(
    features: Float[Tensor, "r c h w"],
    scale: Float[Tensor, " c"],
    shift: Float[Tensor, " c"],
    blocks: Blocks,
) -> tuple[Float[Tensor, "r c h w"], Normalisation]:
    """x̂ · scale + shift, and the normalisation for its derivatives."""
    width, outputs, means, inverses = features.shape[1], [], [], []
    for each, _, (tall,) in _tall(blocks, features):
        channels = tall.shape[1]
        repeats = channels // width
        output, mean, inverse = torch.native_group_norm(
            tall,
            scale.repeat(repeats),
            shift.repeat(repeats),
            1,
            channels,
            tall[0, 0].numel(),
            channels,
            EPSILON,
        )
        outputs.append(_low(output, each, features))
        means.append(mean.reshape(-1, width))
        inverses.append(inverse.reshape(-1, width))
    # The usual case; joining would copy all features of a layer.
    if len(outputs) == 1:
        return outputs[0], Normalisation(features, scale, means[0], inverses[0], blocks)
    norm = Normalisation(features, scale, torch.cat(means), torch.cat(inverses), blocks)
    return torch.cat(outputs), norm


@final
class NormPass:
    """The normalisation of fake, real and mixed rows, and what it remembers of the mixed ones.

    Args:
        norm: Of all rows.
        mixed: How many of the last rows are mixed.

    Attributes:
        of_scale: The gradient of the scale.
        of_shift: Of the shift.
    """

    of_scale: Float[Tensor, " c"]
    of_shift: Float[Tensor, " c"]
    _went_in: Tensor
    _back: Moved
    _forth: Moved
    _product: Tensor

    def __init__(self, norm: Normalisation, mixed: int) -> None:
        self.norm, self.mixed = norm, norm.last(mixed) if mixed else norm
        self._rows, self._parts = mixed, len(self.mixed.mean) if mixed else 0

    def backward(self, slope: Float[Tensor, "r c h w"]) -> Float[Tensor, "r c h w"]:
        """From the slope by its output to that by its input; counts fake and real rows."""
        moved = self.norm.moved(slope, scaled=True)
        rows, parts = len(slope) - self._rows, len(moved.along) - self._parts
        self._went_in = slope[rows:]
        self._back = Moved(moved.features[rows:], moved.along[parts:], moved.total[parts:])
        self.of_scale, self.of_shift = moved.along[:parts].sum(0), moved.total[:parts].sum(0)
        return moved.features

    def forth(self, moved: Float[Tensor, "m c h w"]) -> Float[Tensor, "m c h w"]:
        """From the movement of the mixed input to that of the output."""
        self._forth = self.mixed.moved(moved, scaled=False)
        product = (self._went_in * self._forth.features).sum((2, 3))
        self._product = self.mixed.of_parts(product)
        return self._forth.features.mul_(self.norm.scale[:, None, None])

    def bend(self, slope: Float[Tensor, "m c h w"] | None) -> Float[Tensor, "m c h w"]:
        """The slope of the derivative along the movement, by the mixed input.

        Args:
            slope: By the mixed output; None where the output acts linearly on what follows.
        """
        bent = self.mixed.bent(self._back, self._forth, self._product)
        self.of_scale = self.of_scale + self._product.sum(0)
        if slope is not None:
            moved = self.mixed.moved(slope, scaled=True)
            bent.add_(moved.features)
            self.of_scale = self.of_scale + moved.along.sum(0)
            self.of_shift = self.of_shift + moved.total.sum(0)
        return bent


def _tall(blocks: Blocks, *features: Tensor) -> Iterator[tuple[int, slice, tuple[Tensor, ...]]]:
    """Each block with its parts as channels of one image, the rows of a part one below the other.

    Gives the rows of a part, which parts they are, and the features `(1, parts·c, rows·h, w)`.
    """
    start = part = 0
    for rows, each in blocks:
        cut = tuple(
            f[start : start + rows].unflatten(0, (-1, each)).transpose(1, 2).flatten(2, 3)
            for f in features
        )
        parts = slice(part, part + rows // each)
        yield each, parts, tuple(c.reshape(1, -1, *c.shape[2:]) for c in cut)
        start, part = start + rows, parts.stop


def _low(tall: Tensor, each: int, like: Tensor) -> Float[Tensor, "r c h w"]:
    """The inverse of `_tall`, for one block."""
    _, channels, height, width = like.shape
    rows = tall.reshape(-1, channels, each, height, width).transpose(1, 2)
    return rows.reshape(-1, channels, height, width)
