"""Maps out of what layers put out: which axis holds the channels, and where tokens lie."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from invertkit.core.view import View
from invertkit.errors import RecipeError

_PREFIXES = (0, 1, 2, 4, 5, 8, 9)
"""How many tokens come before those of patches: class, distillation, four or eight registers."""


def channel_axis(
    shape: Sequence[int], size: tuple[int, int], *, told: int | None = None
) -> int | None:
    """The axis of a layer's output that holds its channels.

    Args:
        shape: `(b, c)`, `(b, c, h, w)`, `(b, h, w, c)` or of tokens `(b, n, c)`.
        size: Height and width of the image: a map has its proportions, so that the other axis
            holds the channels. Where both readings are possible, channels come first.
        told: If it is known; counted from the end where it is negative.

    Returns:
        Counted from the front; None where there is no such axis.

    Example:
        >>> channel_axis((1, 96, 56, 56), (224, 224)), channel_axis((1, 56, 56, 96), (224, 224))
        (1, 3)
        >>> channel_axis((1, 197, 768), (224, 224)), channel_axis((1, 197, 768), (224, 224), told=1)
        (2, 1)
    """
    rank = len(shape)
    if told is not None:
        axis = told + rank if told < 0 else told
        return axis if 0 < axis < rank else None
    if rank != 4:
        return {2: 1, 3: 2}.get(rank)
    height, width = size
    first, last = _off(shape[2], shape[3], size), _off(shape[1], shape[2], size)
    # Convolutions without padding leave a little less of the shorter side.
    doubtful = first < (1 if height == width else 3)
    inside = shape[1] <= height and shape[2] <= width
    return 3 if last < 1 and inside and not doubtful else 1


def _off(height: int, width: int, size: tuple[int, int]) -> float:
    """By how many pixels a map has not the proportions of the image."""
    return abs(height * size[1] - width * size[0]) / max(size)


def token_grid(
    count: int, size: tuple[int, int], *, prefix: int | None = None
) -> tuple[int, int, int] | None:
    """Where the tokens of an image lie: rows, columns, and how many come before those of patches.

    Args:
        count: Of tokens.
        size: Height and width of the image.
        prefix: How many belong to no patch; by default the fewest, of the usual numbers, that
            leave a grid.

    Returns:
        None where they fill no grid of the image's proportions.

    Example:
        >>> token_grid(197, (224, 224)), token_grid(98, (112, 224)), token_grid(7, (224, 224))
        ((14, 14, 1), (7, 14, 0), None)
    """
    for before in _PREFIXES if prefix is None else (prefix,):
        left = count - before
        if left < 1:
            break
        side = math.sqrt(size[0] * size[1] / left)
        rows, columns = round(size[0] / side), round(size[1] / side)
        # A guess must fit to the pixel: nearly any number is nearly some grid with a few to spare.
        guessed = prefix is None and before > 0
        off = _off(rows, columns, size)
        if rows * columns == left and (off == 0 if guessed else off < 1):
            return rows, columns, before
    return None


def feature_maps(
    features: Tensor, view: View, layer: str, *, model: str, axis: int | None, who: str
) -> Float[Tensor, "b c h w"]:
    """What a layer puts out, as maps of its channels.

    Of tokens those of patches count, laid out as they lie in the image; tokens that fill no grid
    are a single row of a map.

    Args:
        features: What it puts out, or a gradient by that.
        view: The look at the images.
        layer: Its name.
        model: Of which network.
        axis: Of its channels; found, if None, by the kind of layer or by its shape.
        who: Name of the objective, for the message.

    Raises:
        RecipeError: It has no places, or no such axis.

    Example:
        >>> import torch
        >>> from invertkit.core.network import Network
        >>> from invertkit.core.randomness import Randomness
        >>> from invertkit.core.scene import Scene
        >>> class Last(Network):
        ...     def observe(self, image, layers):
        ...         return {"last": image.repeat(1, 4, 1, 1).permute(0, 2, 3, 1)}
        >>> scene = Scene((4, 4), models={"net": Last()}, needs={"net": ("last",)})
        >>> view = View(torch.rand(2, 3, 4, 4), scene, Randomness((0, 1)))
        >>> shown = view.tap("last", model="net")
        >>> maps = feature_maps(shown, view, "last", model="net", axis=None, who="gram_matrices")
        >>> shown.shape, maps.shape
        (torch.Size([2, 4, 4, 12]), torch.Size([2, 12, 4, 4]))
    """
    size, network = (view.image.shape[-2], view.image.shape[-1]), view.network(model)
    told = network.channel_axis(layer) if axis is None else axis
    found = channel_axis(features.shape, size, told=told)
    if features.ndim not in (3, 4) or found is None:
        what = "(b, c, h, w), (b, h, w, c) or tokens (b, n, c)"
        wrong = f" without an axis {axis}" if axis is not None else ""
        raise RecipeError(
            f"Layer {layer!r} puts out shape {tuple(features.shape)}{wrong}; `{who}` needs {what}. "
            "Choose a layer with places, and name the axis of its channels with `axis`."
        )
    channels_first = features.movedim(found, 1)
    if features.ndim == 4:
        return channels_first
    grid = token_grid(channels_first.shape[2], size, prefix=network.prefix_tokens)
    if grid is not None:
        rows, columns, before = grid
        laid: Tensor = channels_first[:, :, before:].unflatten(2, (rows, columns))
        return laid
    if view.region_name != "everywhere":
        raise RecipeError(
            f"Layer {layer!r} puts out {channels_first.shape[2]} tokens, which fill no grid of an "
            f"image of {size[0]}×{size[1]}; `{who}` needs one in a region. Choose another layer."
        )
    return channels_first[:, :, None]
