"""The mathematics of the objectives as pure functions of tensors.

Each takes a batch and gives one value an image, or one tensor a batch; none knows of regions,
references or recipes. Weights are those of a region's pixels, in [0, 1]: one channel for all of
the image's, one row for all images or one for each.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def neighbour_differences(image: Float[Tensor, "b c h w"]) -> tuple[Tensor, ...]:
    """Differences to the right, lower, lower right and lower left neighbour.

    Args:
        image: Any real values.

    Returns:
        Tensors of shape `(b, c, h, w-1)`, `(b, c, h-1, w)` and twice `(b, c, h-1, w-1)`.

    Example:
        >>> right, down, *_ = neighbour_differences(torch.tensor([[[[0.0, 1.0], [3.0, 5.0]]]]))
        >>> right.flatten().tolist(), down.flatten().tolist()
        ([1.0, 2.0], [3.0, 4.0])
    """
    return (
        image[:, :, :, 1:] - image[:, :, :, :-1],
        image[:, :, 1:, :] - image[:, :, :-1, :],
        image[:, :, 1:, 1:] - image[:, :, :-1, :-1],
        image[:, :, 1:, :-1] - image[:, :, :-1, 1:],
    )


def neighbour_weights(weights: Float[Tensor, "#b 1 h w"]) -> tuple[Tensor, ...]:
    """For each difference of `neighbour_differences`, the smaller weight of its two pixels.

    A pair across the border of a binary region then weighs nothing: what lies beyond the border
    does not pull.

    Args:
        weights: Of the pixels, in [0, 1].

    Example:
        >>> right, *_ = neighbour_weights(torch.tensor([[[[0.0, 1.0, 0.5]]]]))
        >>> right.flatten().tolist()
        [0.0, 0.5]
    """
    w = weights
    return (
        torch.minimum(w[:, :, :, 1:], w[:, :, :, :-1]),
        torch.minimum(w[:, :, 1:, :], w[:, :, :-1, :]),
        torch.minimum(w[:, :, 1:, 1:], w[:, :, :-1, :-1]),
        torch.minimum(w[:, :, 1:, :-1], w[:, :, :-1, 1:]),
    )


def faded(weights: Float[Tensor, "b 1 h w"] | None, outside: float) -> Tensor | None:
    """Weights m that do not leave out the rest: m + (1 - m)·`outside`.

    Args:
        weights: Of the pixels, in [0, 1]; None for everywhere, which stays None.
        outside: What a pixel of weight 0 shall weigh.

    Source: Huh et al. 2020 (arXiv:2005.01703), Appendix B, with `outside` 0.3.

    Example:
        >>> faded(torch.tensor([[[[0.0, 1.0]]]]), 0.25).flatten().tolist()
        [0.25, 1.0]
    """
    return weights if weights is None or outside == 0 else weights + (1 - weights) * outside


def weighted_mean(
    values: Float[Tensor, "b c h w"], weights: Float[Tensor, "#b 1 h w"] | None
) -> Float[Tensor, " b"]:
    """Mean over channels and pixels of each image; 0 where the weights leave nothing.

    Args:
        values: One number a pixel and channel.
        weights: Of the pixels, not negative; None for all alike.

    Example:
        >>> values = torch.tensor([[[[1.0, 2.0, 9.0]]]])
        >>> weighted_mean(values, torch.tensor([[[[1.0, 1.0, 0.0]]]])).item()
        1.5
    """
    if weights is None:
        return values.mean((1, 2, 3))
    # The small number divides 0 by something where a region is empty at this size.
    total = weights.sum((1, 2, 3)).clamp(min=1e-12) * values.shape[1]
    return (values * weights).sum((1, 2, 3)) / total


def gram_matrix(
    features: Float[Tensor, "b c h w"], weights: Float[Tensor, "#b 1 h w"] | None = None
) -> Float[Tensor, "b c c"]:
    """Mean over the pixels of f fᵀ, f a pixel's channels; 0 where the weights leave nothing.

    Args:
        features: Any real values.
        weights: Of the pixels, not negative; None for all alike.

    Source: Gatys, Ecker & Bethge, CVPR 2016, Eq. 3, where it is the sum.

    Example:
        >>> features = torch.tensor([[[[1.0, 3.0]], [[0.0, 2.0]]]])
        >>> gram_matrix(features).tolist()
        [[[5.0, 3.0], [3.0, 2.0]]]
    """
    flat = features.flatten(2)
    if weights is None:
        return flat @ flat.mT / flat.shape[2]
    share = weights.flatten(2)
    # The small number divides 0 by something where a region is empty at this size.
    return (flat * share) @ flat.mT / share.sum(2, keepdim=True).clamp(min=1e-12)


def total_variation_l1(
    image: Float[Tensor, "b c h w"], weights: Float[Tensor, "#b 1 h w"] | None = None
) -> Float[Tensor, " b"]:
    """Sum over four directions of the mean absolute neighbour difference; independent of size.

    Images of one pixel's height or width have no neighbours in some directions; those count 0.

    Args:
        image: Any real values.
        weights: Of the pixels; each mean becomes that over the pairs inside (`neighbour_weights`).

    Source: released DeepInversion and MAGIC code.

    Example:
        >>> steps = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])  # right 1, down 0, diagonals 1, 1
        >>> total_variation_l1(steps).item()
        3.0
    """
    total = image.new_zeros(len(image))
    pairs = neighbour_weights(weights) if weights is not None else (None,) * 4
    for difference, weight in zip(neighbour_differences(image), pairs, strict=True):
        if difference.numel():
            total = total + weighted_mean(difference.abs(), weight)
    return total


def total_variation_l2(
    image: Float[Tensor, "b c h w"],
    weights: Float[Tensor, "#b 1 h w"] | None = None,
    *,
    coupled: bool = False,
) -> Float[Tensor, " b"]:
    """Sum over four directions of the Euclidean norm of all neighbour differences.

    Not squared, so it grows with the square root of the number of pixels.

    Args:
        image: Any real values.
        weights: Multiply the squared differences.
        coupled: Take the norm over the whole batch, as the released DeepInversion and MAGIC do,
            and give every image an equal share of it; their total grows as the root of the batch.

    Source: released DeepInversion and MAGIC code.

    Example:
        >>> steps = torch.tensor([[[[0.0, 2.0], [0.0, 2.0]]]])  # right √8, down 0, diagonals 2, 2
        >>> round(total_variation_l2(steps).item(), 4)
        6.8284
    """
    total = image.new_zeros(len(image))
    pairs = neighbour_weights(weights) if weights is not None else (None,) * 4
    for difference, weight in zip(neighbour_differences(image), pairs, strict=True):
        scaled = difference if weight is None else difference * weight.sqrt()
        if coupled:
            total = total + torch.linalg.vector_norm(scaled) / len(image)
        else:
            total = total + torch.linalg.vector_norm(scaled.flatten(1), dim=1)
    return total


def total_variation_mv(
    image: Float[Tensor, "b c h w"],
    weights: Float[Tensor, "#b 1 h w"] | None = None,
    *,
    beta: float = 2.0,
) -> Float[Tensor, " b"]:
    """Σ (d_right² + d_down²)^(β/2) over pixels and channels.

    The last row and column, which lack a neighbour, are left out.

    Args:
        image: Any real values.
        weights: Multiply the sum's members; of a pixel and its two neighbours the smallest counts.
        beta: The exponent β, greater than 0.

    Source: Mahendran & Vedaldi 2015 (arXiv:1412.0035), Eq. 3 and its discrete form.

    Example:
        >>> image = torch.tensor([[[[0.0, 3.0], [4.0, 9.0]]]])  # 3 to the right, 4 down
        >>> total_variation_mv(image).item(), total_variation_mv(image, beta=1.0).item()
        (25.0, 5.0)
    """
    right = image[:, :, :-1, 1:] - image[:, :, :-1, :-1]
    down = image[:, :, 1:, :-1] - image[:, :, :-1, :-1]
    squares = right.square() + down.square()
    if beta != 2:  # the root's slope is infinite at 0: flat pixels get slope 0 instead
        flat = squares == 0
        squares = squares.masked_fill(flat, 1).pow(beta / 2).masked_fill(flat, 0)
    if weights is not None:
        squares = squares * torch.minimum(*neighbour_weights(weights)[2:]).clamp(max=1)
    return squares.sum((1, 2, 3))


def channel_statistics(
    features: Float[Tensor, "b c h w"],
    weights: Float[Tensor, "#b 1 h w"] | None = None,
    *,
    unbiased: bool,
) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c"]]:
    """Mean and variance of every channel over the pixels, weighted if weights are given.

    Args:
        features: Activations.
        weights: Non-negative; their sum stands for the number of pixels.
        unbiased: Divide the sum of squares by n - 1 (not below 1) instead of n.

    Example:
        >>> features = torch.tensor([[[[1.0, 3.0]]]])
        >>> mean, variance = channel_statistics(features, unbiased=False)
        >>> mean.item(), round(variance.item(), 4)
        (2.0, 1.0)
    """
    if weights is None:
        pixels = features.shape[-2] * features.shape[-1]
        divisor = max(pixels - 1, 1) if unbiased else pixels
        moments: tuple[Tensor, Tensor] = _Moments.apply(features, divisor)
        return moments
    count = weights.sum((2, 3)).clamp(min=1e-6)
    mean = (features * weights).sum((2, 3)) / count
    squares = ((features - mean[:, :, None, None]).square() * weights).sum((2, 3))
    return mean, squares / ((count - 1).clamp(min=1) if unbiased else count)


class _Moments(torch.autograd.Function):
    """Mean and variance of every channel, whose backward reads the features once.

    With a = 2·slope_var/divisor, the slope by a feature x is slope_mean/n + a·(x - mean): nothing
    of the size of the features is kept but the features themselves.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, divisor: int) -> tuple[Tensor, Tensor]:
        mean = features.mean((2, 3), keepdim=True)
        # The mean square less the squared mean would need no copy, but cancels in float32.
        centred = features - mean
        variance = torch.linalg.vector_norm(centred, dim=(2, 3)).square() / divisor
        ctx.divisor = divisor
        ctx.save_for_backward(features, mean)
        return mean[:, :, 0, 0], variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_mean: Tensor, of_variance: Tensor) -> tuple[Tensor, None]:
        features, mean = ctx.saved_tensors
        factor = of_variance[:, :, None, None] * (2 / ctx.divisor)
        pixels = features.shape[-2] * features.shape[-1]
        shift = of_mean[:, :, None, None] / pixels - factor * mean
        return torch.addcmul(shift, features, factor), None
