"""Where which class is: label maps, masks and weights, brought to the layers of a generator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.images.resize import resize_image
from invertkit.core.suggestions import listed
from invertkit.errors import InputError, ShapeError
from invertkit.models.generators.class_maps import ClassLayer, check_weights

SOFTEN = 8 / 256
"""Deviation of the Gaussian that softens a map, as a share of its side: as released."""


def weights_of_labels(
    labels: Int64[Tensor, "1 1 h w"], classes: Sequence[str], *, who: str = "layout"
) -> Float[Tensor, "1 k h w"]:
    """Weights of 1 where a label map has the class.

    Args:
        labels: Numbers of classes, counted from 0 in `classes`.
        classes: What the numbers stand for.
        who: What to call the map in messages.

    Raises:
        InputError: A number stands for no class.

    Example:
        >>> weights_of_labels(torch.tensor([[[[0, 1]]]]), ["tabby", "lion"]).tolist()
        [[[[1.0, 0.0]], [[0.0, 1.0]]]]
    """
    highest = int(labels.max())
    if highest >= len(classes):
        share = float((labels >= len(classes)).float().mean())
        raise InputError(
            f"{who}: {highest} stands for no class: {len(classes)} "
            f"{'are' if len(classes) > 1 else 'is'} named, 0 to {len(classes) - 1} "
            f"({listed(list(classes))}), and {share:.1%} of the pixels lie beyond. Name more "
            "classes, or paint those pixels with one of them."
        )
    return F.one_hot(labels[:, 0], len(classes)).permute(0, 3, 1, 2).float()


def weights_of_masks(
    masks: Sequence[Float[Tensor, "1 1 h w"]], *, who: str = "masks"
) -> Float[Tensor, "1 k h w"]:
    """Weights of one mask a class; what no mask covers is left to a first class.

    Args:
        masks: Of the second class, the third, and so on.
        who: What to call them in messages.

    Raises:
        ShapeError: They are not of one size.
        InputError: Two of them overlap, which no rule could settle.

    Example:
        >>> left = torch.tensor([[[[1.0, 0.0]]]])
        >>> weights_of_masks([left]).tolist()
        [[[[0.0, 1.0]], [[1.0, 0.0]]]]
    """
    shapes = {tuple(mask.shape[-2:]) for mask in masks}
    if len(shapes) != 1:
        sizes = " and ".join(f"{width}×{height}" for height, width in sorted(shapes))
        raise ShapeError(f"{who}: masks of one picture are of one size; these are {sizes or 'no'}.")
    stacked = torch.cat(list(masks), 1)
    for first in range(len(masks)):
        for second in range(first + 1, len(masks)):
            both = int((stacked[:, first] + stacked[:, second] > 1 + 1e-6).sum())
            if both:
                raise InputError(
                    f"{who}: the masks number {first + 1} and {second + 1} overlap on {both} "
                    "pixels, and a place has one class. Cut one of them; holes are fine, and keep "
                    "the picture's own class."
                )
    rest = 1 - stacked.sum(1, keepdim=True)
    return torch.cat([rest.clamp(min=0), stacked], 1)


def soften(
    weights: Float[Tensor, "b k h w"], share: float, *, normalize: bool = True
) -> Float[Tensor, "b k h w"]:
    """Weights blurred by a Gaussian.

    Args:
        weights: Of each class.
        share: Deviation, as a share of the side (the root of the area); 0 leaves them. The
            Gaussian ends at four deviations, and the picture is continued by its edge.
        normalize: Whether the weights of a place shall sum to 1 to the last bit.

    Raises:
        InputError: The share is negative or not finite.

    Example:
        >>> soften(torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]]), 0.3).sum(1)
        tensor([[[1., 1.]]])
    """
    if not 0 <= share < math.inf:
        raise InputError(f"soften: expected 0 or a share of the side such as 0.03, got {share:g}.")
    height, width = weights.shape[-2:]
    sigma = share * math.sqrt(height * width)
    reach = math.ceil(4 * sigma)
    # A kernel narrower than a pixel would only round, and a map of one class shall stay exact.
    if sigma < 0.1:
        return weights
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).to(weights)
    count, classes = weights.shape[:2]
    maps = weights.reshape(count * classes, 1, height, width)
    maps = F.pad(maps, (reach, reach, reach, reach), mode="replicate")
    maps = F.conv2d(F.conv2d(maps, kernel[None, None, :, None]), kernel[None, None, None])
    softened = maps.reshape(count, classes, height, width).clamp(0, 1)
    return softened / softened.sum(1, keepdim=True) if normalize else softened


def layer_weights(
    weights: Float[Tensor, "b k h w"],
    layers: Sequence[ClassLayer],
    strengths: Sequence[float],
    *,
    softened_by: float = SOFTEN,
) -> tuple[Float[Tensor, "b k _ _"], ...]:
    """Weights for every layer: those of the map, and the first class for as much as is lacking.

    With strength s the map W becomes s·W + (1 - s)·(the first class): as released, where a mask m
    of strength s gives s·m to its class and 1 - s·m to the picture's own.

    Args:
        weights: At any size; the first class is the picture's own.
        layers: Of the generator.
        strengths: One a layer, in [0, 1].
        softened_by: See `soften`.

    Raises:
        InputError: Weights do not sum to 1, or a strength is not in [0, 1].
        ShapeError: There are not as many strengths as layers.

    Example:
        >>> right = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
        >>> layer_weights(right, [ClassLayer("norm", (1, 2))], [0.5], softened_by=0)[0].tolist()
        [[[[1.0, 0.5]], [[0.0, 0.5]]]]

    Source: Suzuki et al. 2018, §3.1, and the released code and demonstration.
    """
    if len(strengths) != len(layers):
        raise ShapeError(f"There are {len(layers)} layers and {len(strengths)} strengths.")
    if not all(0 <= strength <= 1 for strength in strengths):
        raise InputError(
            f"strength: of a layer is in [0, 1]; got {', '.join(f'{s:g}' for s in strengths)}."
        )
    check_weights(weights)
    # One class everywhere needs no softening, and stays exact.
    even = bool((weights == weights[:, :, :1, :1]).all())
    smooth = weights if even else soften(weights, softened_by)
    own = torch.zeros_like(weights[:, :, :1, :1])
    own[:, 0] = 1
    maps = []
    for layer, strength in zip(layers, strengths, strict=True):
        if strength == 0 or even:
            at_layer = (own if strength == 0 else smooth[:, :, :1, :1]).expand(-1, -1, *layer.shape)
        else:
            at_layer = resize_image(smooth, layer.shape).clamp(0, 1)
            at_layer = at_layer / at_layer.sum(1, keepdim=True)
        maps.append(at_layer if strength in (0, 1) else strength * at_layer + (1 - strength) * own)
    return tuple(maps)
