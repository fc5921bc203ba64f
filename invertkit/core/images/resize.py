"""Images and masks at another size."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def resize_image(image: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Tensor:
    """Bilinear, with a low-pass where it shrinks.

    Example:
        >>> resize_image(torch.zeros(1, 3, 8, 8), (4, 6)).shape
        torch.Size([1, 3, 4, 6])
    """
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)


def resize_mask(mask: Float[Tensor, "b 1 h w"], size: tuple[int, int]) -> Tensor:
    """The share of each new pixel that the mask covers, in [0, 1]: a mask follows its image.

    Shrinking averages over the area of each new pixel, so the covered share is kept; enlarging
    is bilinear.

    Example:
        >>> resize_mask(torch.eye(4)[None, None], (2, 2))
        tensor([[[[0.5000, 0.0000],
                  [0.0000, 0.5000]]]])
    """
    if mask.shape[-2:] == size:
        return mask
    shrinks = size[0] <= mask.shape[-2] and size[1] <= mask.shape[-1]
    if shrinks:
        return F.interpolate(mask, size, mode="area")
    return F.interpolate(mask, size, mode="bilinear", align_corners=False)


def grow_mask(mask: Float[Tensor, "b 1 h w"], radius: float) -> Float[Tensor, "b 1 h w"]:
    """A binary mask with every pixel within `radius` pixels of it added.

    Example:
        >>> point = torch.zeros(1, 1, 5, 5)
        >>> point[..., 2, 2] = 1
        >>> grow_mask(point, 1).sum()  # itself and its four neighbours
        tensor(5.)
    """
    reach = int(radius)
    if reach < 1:
        return mask
    offsets = torch.arange(-reach, reach + 1, device=mask.device, dtype=mask.dtype)
    disc = (offsets[:, None].square() + offsets.square() <= radius**2).to(mask)
    grown = F.conv2d(mask, disc[None, None], padding=reach)
    return (grown > 0).to(mask)
