"""Pictures as a photograph of the same thing might be: nearer, tilted, in other light, noisy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from invertkit.core.randomness import Randomness
from invertkit.errors import RecipeError


@final
@dataclass(frozen=True)
class Augmentation:
    """Random crops, colours and noise, drawn for each image and step.

    A crop is enlarged to the picture's size by bilinear interpolation; what lies beyond the picture
    is its mirror image. Then every channel becomes σ (x - ½) + ½ + μ / 2 with ln σ and μ uniform in
    [-`colour`, `colour`], which is σ x + μ in pixels from -1 to 1, and Gaussian noise is added.
    The results may leave [0, 1].

    Args:
        zoom: Smallest and largest side of the crop, as a share of the picture's; above 1 the
            picture is seen smaller, with its mirror images around it.
        rotation: Largest angle of the crop to either side, in degrees.
        flip: Probability of mirroring left and right.
        colour: Reach of the random contrast and brightness of each channel.
        noise: Standard deviation of the noise, where pixels go from 0 to 1.

    Raises:
        RecipeError: The smallest crop is larger than the largest.

    Example:
        >>> image = torch.rand(1, 3, 4, 4)
        >>> looks = [Augmentation(noise=0.1)(image, Randomness((0,)), step) for step in range(2)]
        >>> torch.equal(*looks), torch.equal(Augmentation()(image, Randomness((0,)), 0), image)
        (False, True)

    Source: Ghiasi et al. 2022, "Plug-In Inversion: Model-Agnostic Inversion for Vision with Data
    Augmentations", §3 (ColorShift; its zoom and centring go by stages, our crops are drawn); noise
    and shifts: Fort and Whitaker 2025, "Direct Ascent Synthesis".
    """

    zoom: tuple[float, float] = (1.0, 1.0)
    rotation: float = 0.0
    flip: float = 0.0
    colour: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.zoom[0] > self.zoom[1]:
            raise RecipeError(f"zoom: the smallest crop comes first, got {list(self.zoom)}.")

    @property
    def moves_pixels(self) -> bool:
        """Whether there are crops or mirrors."""
        return bool(tuple(self.zoom) != (1, 1) or self.rotation or self.flip)

    def __call__(
        self, images: Float[Tensor, "b 3 h w"], randomness: Randomness, step: int
    ) -> Float[Tensor, "b 3 h w"]:
        """The images as they are seen on this step.

        Args:
            images: Nominally in [0, 1].
            randomness: One seed an image.
            step: On which the draws depend.
        """
        looks = images
        if self.moves_pixels:
            draws = randomness.uniform("crop", (5,), step=step).to(images)
            looks = F.grid_sample(
                images, self._places(draws, images), padding_mode="reflection", align_corners=False
            )
        if self.colour:
            reach = randomness.uniform("colour", (2, 3, 1, 1), step=step).to(images)
            shift, contrast = ((2 * reach - 1) * self.colour).unbind(1)
            looks = (looks - 0.5) * contrast.exp() + 0.5 + shift / 2
        if self.noise:
            drawn = randomness.normal("noise", tuple(looks.shape[1:]), step=step)
            looks = looks + self.noise * drawn.to(looks)
        return looks

    def _places(
        self, draws: Float[Tensor, "b 5"], images: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, "b h w 2"]:
        """Where every pixel of the looks is in the images, x and y from -1 to 1."""
        height, width = images.shape[-2:]
        side, right, down, turn, mirror = draws.unbind(1)
        smallest, largest = self.zoom
        side = smallest + (largest - smallest) * side
        free = 1 - side  # a crop larger than the picture always has all of it
        angle = (2 * turn - 1) * math.radians(self.rotation)
        sign = torch.where(mirror < self.flip, -1.0, 1.0).to(draws)
        tall = height / width  # turned in pixels, so that nothing is sheared
        across = torch.stack(
            [side * sign * angle.cos(), -side * tall * angle.sin(), free * (2 * right - 1)], 1
        )
        along = torch.stack(
            [side * sign / tall * angle.sin(), side * angle.cos(), free * (2 * down - 1)], 1
        )
        return F.affine_grid(
            torch.stack([across, along], 1), [len(images), 3, height, width], align_corners=False
        )
