"""Differentiable augmentation: photographs and made pictures are changed alike before judging."""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

CHANGES: Final = 7
"""Uniform numbers that a picture's change takes: three of colour, two of place, two of the hole."""
_SHIFT: Final = 1 / 8
_HOLE: Final = 1 / 3


def changed(
    image: Float[Tensor, "b 3 h w"], draws: Float[Tensor, "b 7"], *, size: int
) -> Float[Tensor, "b 3 s s"]:
    """Pictures in [-1, 1] with other colours, shifted, enlarged to `size`, and with a hole.

    Brightness moves by up to 0.5, saturation is multiplied by up to 2, contrast by 0.5 to 1.5;
    then the picture is resampled once, shifted by up to an eighth of its side, grey where it does
    not reach, and a square of a third of its side becomes grey. A shift is of any fraction of a
    pixel, so that the judges' strides do not stay on the same pixels of the generator: those that
    do leave a checkered texture.

    Args:
        image: The pictures.
        draws: Uniform in [0, 1).
        size: Side of what comes out, in pixels.

    Example:
        >>> changed(torch.zeros(2, 3, 8, 8), torch.full((2, 7), 0.5), size=12).shape
        torch.Size([2, 3, 12, 12])

    Source: DiffAugment (Zhao et al. 2020), all three of its policies; shifts are of whole pixels
    there, and holes of half the side: with those, a generator makes grey holes itself.
    """
    numbers = draws.to(image)
    brightness, saturation, contrast = numbers[:, :3, None, None, None].unbind(1)
    image = image + (brightness - 0.5)
    grey = image.mean(1, keepdim=True)
    image = (image - grey) * (2 * saturation) + grey
    middle = image.mean((1, 2, 3), keepdim=True)
    image = (image - middle) * (contrast + 0.5) + middle
    # In the units of `grid_sample`, in which a side is 2 long.
    moves = (2 * numbers[:, 3:5] - 1) * (2 * _SHIFT)
    frame = torch.eye(2, 3, device=image.device, dtype=image.dtype).repeat(len(image), 1, 1)
    frame[:, :, 2] = moves
    grid = F.affine_grid(frame, [len(image), 3, size, size], align_corners=False)
    image = F.grid_sample(image, grid, padding_mode="zeros", align_corners=False)
    return image * ~_hole(numbers[:, 5:7], size)


def _hole(draws: Float[Tensor, "b 2"], size: int) -> Tensor:
    """Where each picture has its hole, `(b, 1, size, size)`; at an edge, less of it is seen."""
    places = (torch.arange(size, device=draws.device) + 0.5) / size
    inside = (places - draws[:, :, None]).abs() < _HOLE / 2
    return inside[:, 0, None, :, None] & inside[:, 1, None, None, :]
