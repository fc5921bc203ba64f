"""Pixels as they are."""

from __future__ import annotations

from typing import Annotated, Literal, final

import torch
from annotated_types import Ge, Len
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.images.resize import resize_image
from invertkit.core.params import Params
from invertkit.core.pixel_space import Space, from_space, in_space
from invertkit.core.randomness import Randomness
from invertkit.core.ranges import NonNegative
from invertkit.core.scene import Scene
from invertkit.errors import InputError
from invertkit.variables.base import Size, Variable

Start = Literal["noise", "image", "constant", "region_means"]


@final
class Pixels(Variable):
    """One number per pixel and channel.

    Args:
        space: Units of the numbers: `unit` is [0, 1]; `imagenet` is ImageNet-normalised, as in the
            released MAGIC and DeepInversion loops. They are free to leave the range; add the
            wrapper `clip` to the optimizer to keep them in it. Saved pictures are cut to [0, 1].
        start: `noise`, N(0, `noise`²) in the units of `space`; `image`, the reference; `constant`,
            the colour `colour`; `region_means`, the mean colour of the object inside the target
            mask and of the background outside it. The last three add noise of size `noise` too.
        noise: Standard deviation of the noise at the start, in the units of `space`.
        colour: For `constant`: red, green and blue in [0, 1].
        size: Side of the tensor if it is to keep one size while stages look at it smaller, by
            averaging, as the 112-pixel stages of the released loops do; by default the tensor
            has the size of the stage and is resampled (bicubic) between stages.
        mask: For `region_means`: name of the mask of the object in the reference.
        target: For `region_means`: name of the mask of where it shall be; without it, `mask`.

    Raises:
        InputError: `start` needs a reference or masks that the run does not have.

    Example:
        >>> from invertkit.core.scene import Scene
        >>> variable, scene = Pixels(start="constant", noise=0.0), Scene((4, 4))
        >>> params = variable.start(scene, Randomness((0, 1)))
        >>> params["pixels"].shape, variable.image(params, scene).unique().tolist()
        (torch.Size([2, 3, 4, 4]), [0.5])
    """

    def __init__(
        self,
        *,
        space: Space = "unit",
        start: Start = "noise",
        noise: NonNegative = 1.0,
        colour: Annotated[tuple[float, float, float], Len(3)] = (0.5, 0.5, 0.5),
        size: Annotated[int, Ge(1)] | None = None,
        mask: str = "mask",
        target: str = "target",
    ) -> None:
        self.space, self.start_from, self.noise = space, start, noise
        self.colour, self.size, self.mask, self.target = colour, size, mask, target

    @property
    def names(self) -> tuple[str, ...]:
        return ("pixels",)

    def start(self, scene: Scene, randomness: Randomness) -> Params:
        size = (self.size, self.size) if self.size else scene.size
        noise = self.noise * randomness.normal("start", (3, *size))
        if self.start_from == "noise":
            return {"pixels": noise}
        centre = in_space(resize_image(self._centre(scene), size), self.space)
        return {"pixels": centre.to(noise) + noise}

    def _centre(self, scene: Scene) -> Tensor:
        if self.start_from == "constant":
            return (
                torch.tensor([float(part) for part in self.colour])
                .reshape(1, 3, 1, 1)
                .expand(-1, -1, *scene.size)
            )
        if scene.reference is None:
            raise InputError(f"`start: {self.start_from}` begins at a reference; give an image.")
        if self.start_from == "image":
            return scene.reference
        mask, target = scene.masks(self.mask, self.target)
        if mask is None or target is None:
            raise InputError("`start: region_means` needs a mask and a target; give both.")
        inside = _mean_colour(scene.reference, mask)
        outside = _mean_colour(scene.reference, 1 - mask)
        return target * inside + (1 - target) * outside

    def resize(self, params: Params, old: Size, new: Size) -> Params:
        if self.size or old == new:
            return params
        pixels = params["pixels"]
        resized = F.interpolate(pixels, new, mode="bicubic", align_corners=False, antialias=True)
        return {"pixels": resized}

    def image(self, params: Params, scene: Scene) -> Float[Tensor, "b 3 h w"]:
        image = from_space(params["pixels"], self.space)
        if image.shape[-2:] == scene.size:
            return image
        # By averaging: the released loops look at one tensor smaller, and low-pass it so.
        return F.interpolate(image, scene.size, mode="area")


def _mean_colour(image: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum((2, 3), keepdim=True).clamp(min=1e-6)
    return (image * weights).sum((2, 3), keepdim=True) / total
