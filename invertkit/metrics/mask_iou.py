"""Intersection over union of the target mask and what an independent segmenter sees."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.metrics.judge import Judge, train_judge


def mask_iou(
    result: Float[Tensor, "b 3 h w"],
    target: Float[Tensor, "1 1 h w"],
    image: Float[Tensor, "1 3 h w"],
    mask: Float[Tensor, "1 1 h w"],
    *,
    judge: Judge | None = None,
) -> Float[Tensor, " b"]:
    """Intersection over union of the target mask and what an independent segmenter sees.

    The segmenter takes no part in the optimisation, has another architecture and seed, and is
    trained on source image and mask only. What it reaches on the source itself, `mask_iou(image,
    mask, image, mask)`, is the ceiling of what it can say.

    Args:
        result: Pictures to be judged, in [0, 1].
        target: Binary; where the object was wanted.
        image: The source, of the same size.
        mask: Binary; where its object is.
        judge: Trained before, by `invertkit.metrics.judge.train_judge`; otherwise it is trained
            here, about 15 s at 128×128.

    Returns:
        In [0, 1]; 0 where neither mask has a pixel.

    Example:
        >>> from invertkit.metrics.judge import Judge
        >>> image, mask = torch.rand(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
        >>> mask_iou(image, mask, image, mask, judge=Judge()).shape
        torch.Size([1])

    Source: ours.
    """
    judge = judge if judge is not None else train_judge(image, mask)
    with torch.no_grad():
        seen = judge(result) > 0
    wanted = target > 0.5
    both = (seen & wanted).flatten(1).sum(1).float()
    either = (seen | wanted).flatten(1).sum(1).float()
    iou: Tensor = both / either.clamp(min=1)
    return iou
