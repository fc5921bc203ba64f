"""An edited object, back in its photograph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from invertkit.apps.editing.poisson import poisson_blend
from invertkit.core.images.resize import resize_image
from invertkit.errors import InputError
from invertkit.models.generators.generator import Generator
from invertkit.variables.transforms.base import Transform

BlendRegion = Literal["mask", "box"]

GROW = 0.05
"""By how much of its sides a box is larger than the object, on every side."""

_CHUNK = 8


@final
@dataclass(frozen=True)
class Placing:
    """Where a generator's pictures are in a photograph.

    Args:
        transform: That brought the photograph to the generator; none if it was only resized.
        parameters: Its φ, of one image.
    """

    transform: Transform | None = None
    parameters: Float[Tensor, "1 k"] | None = None

    def back(
        self, pictures: Float[Tensor, "b 3 s s"], size: tuple[int, int]
    ) -> tuple[Float[Tensor, "b 3 h w"], Bool[Tensor, "1 h w"]]:
        """The pictures in the photograph's frame and light, and which pixels they reach.

        A pixel is reached if it and its eight neighbours lie wholly within the pictures.
        """
        if self.transform is None or self.parameters is None:
            everywhere = torch.ones(1, *size, dtype=torch.bool, device=pictures.device)
            return resize_image(pictures, size), everywhere
        rows = self.parameters.to(pictures)
        placed = self.transform.invert(pictures, rows.expand(len(pictures), -1), size)
        source = (pictures.shape[-2], pictures.shape[-1])
        reach = self.transform.invert_coverage(rows, source, size)
        # A pixel beside the edge is half grey from beyond it, and a gradient would carry that on.
        whole = -F.max_pool2d(-(reach > 0.999).float(), 3, 1, 1)
        return placed, whole[0] > 0.5


@torch.no_grad()
def generate(
    generator: Generator,
    latents: Mapping[str, Float[Tensor, "b ..."]],
    weights: Float[Tensor, "1 p"] | None = None,
) -> Float[Tensor, "b 3 s s"]:
    """Pictures in [0, 1], a few at a time, perhaps of changed weights.

    Args:
        generator: What makes them.
        latents: Its latents by name; other tensors are passed over.
        weights: What is added to its weights, the same for all.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Linear(2, 3 * 4 * 4), nn.Unflatten(1, (3, 4, 4)))
        >>> generator = Generator(net, latents={"z": 2})
        >>> generate(generator, {"z": torch.zeros(9, 2)}).shape
        torch.Size([9, 3, 4, 4])
    """
    count = len(latents[next(iter(generator.latents))])
    parts = []
    for start in range(0, count, _CHUNK):
        rows = {name: latents[name][start : start + _CHUNK] for name in generator.latents}
        if weights is None:
            parts.append(generator.generate(**rows))
        else:
            change = weights.expand(min(_CHUNK, count - start), -1)
            parts.append(generator.generate_with(change, **rows))
    return torch.cat(parts)


def region_of(
    mask: Float[Tensor, "1 h w"], reached: Bool[Tensor, "1 h w"], region: BlendRegion = "mask"
) -> Bool[Tensor, "1 h w"]:
    """Where the photograph may change: the object's mask or a box around it, as far as reached.

    Args:
        mask: Of the object.
        reached: Where there is a picture.
        region: `mask`, or `box`: the mask's box, larger by `GROW` of its sides on each side, for
            objects that shall leave their outline.

    Raises:
        InputError: Nothing is left.

    Example:
        >>> mask = torch.zeros(1, 4, 4)
        >>> mask[:, 1:3, 2] = 1
        >>> reached = torch.ones(1, 4, 4, dtype=torch.bool)
        >>> reached[:, 2] = False
        >>> region_of(mask, reached).nonzero().tolist()
        [[0, 1, 2]]
    """
    inside = mask > 0.5
    if not bool(inside.any()):
        raise InputError(
            "mask: is empty in the part of the photograph that was projected, so there is "
            "nowhere to blend."
        )
    if region == "box":
        inside = _box(inside)
    inside = inside & reached
    if not bool(inside.any()):
        raise InputError(
            "The generated picture does not reach the mask: the run's transform put it elsewhere, "
            "so there is nothing to blend. Project again with more steps or another seed."
        )
    return inside


def _box(inside: Bool[Tensor, "1 h w"]) -> Bool[Tensor, "1 h w"]:
    spans = []
    for axis, length in ((1, inside.shape[1]), (0, inside.shape[2])):
        places = inside[0].any(axis).nonzero()
        first, last = int(places[0]), int(places[-1]) + 1
        more = round(GROW * (last - first))
        spans.append(slice(max(0, first - more), min(length, last + more)))
    box = torch.zeros_like(inside)
    box[:, spans[0], spans[1]] = True
    return box


def compose(
    photograph: Float[Tensor, "3 h w"],
    pictures: Float[Tensor, "b 3 s s"],
    mask: Float[Tensor, "1 h w"],
    *,
    placing: Placing,
    region: BlendRegion = "mask",
    mixed: bool = False,
) -> tuple[Float[Tensor, "b 3 h w"], Bool[Tensor, "1 h w"]]:
    """Generated pictures blended into the photograph, and the pixels that could change.

    Args:
        photograph: At any size; the pictures are brought to it.
        pictures: The generator's own.
        mask: Where the object was in the photograph.
        placing: Where the pictures belong.
        region: See `region_of`.
        mixed: See `poisson_blend`.

    Raises:
        InputError: No pixel can change, or all of them.

    Example:
        >>> photograph, mask = torch.full((3, 8, 8), 0.5), torch.zeros(1, 8, 8)
        >>> mask[:, 2:6, 2:6] = 1
        >>> images, inside = compose(photograph, torch.rand(2, 3, 4, 4), mask, placing=Placing())
        >>> images.shape, int(inside.sum())
        (torch.Size([2, 3, 8, 8]), 16)
        >>> torch.equal(images[:, :, ~inside[0]], photograph[:, ~inside[0]].expand(2, -1, -1))
        True
    """
    height, width = photograph.shape[-2:]
    # Placed first and blended then, at the photograph's own size: it stays as sharp as it was.
    placed, reached = placing.back(pictures, (height, width))
    inside = region_of(mask, reached.to(mask.device), region)
    if bool(inside.all()):
        other = " Use the region `mask`." if region == "box" else ""
        raise InputError(
            f"The {region} is full: it covers all of the photograph that was projected, so no "
            f"background is left to join the picture to.{other}"
        )
    blended = [
        poisson_blend(photograph, picture.to(photograph), inside, mixed=mixed) for picture in placed
    ]
    return torch.stack(blended), inside
