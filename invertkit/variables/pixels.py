"""Pixels as they are."""

from __future__ import annotations

import math
from typing import Annotated, Literal, final

import torch
from annotated_types import Ge, Le, Len
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.images.resize import grow_mask, resize_image
from invertkit.core.params import Params
from invertkit.core.pixel_space import Space, from_space, in_space
from invertkit.core.randomness import Randomness
from invertkit.core.ranges import Count, NonNegative
from invertkit.core.scene import Region, Scene
from invertkit.errors import InputError
from invertkit.variables.base import Size, Variable

Probability = Annotated[float, Ge(0), Le(1)]
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

    Raises:
        InputError: `start` needs a reference or masks that the run does not have.
    """

    def __init__(
        self,
        *,
        space: Space = "unit",
        start: Start = "noise",
        noise: NonNegative = 1.0,
        colour: Annotated[tuple[float, float, float], Len(3)] = (0.5, 0.5, 0.5),
        size: Annotated[int, Ge(1)] | None = None,
    ) -> None:
        self.space, self.start_from, self.noise = space, start, noise
        self.colour, self.size = colour, size

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
            return torch.tensor(self.colour).reshape(1, 3, 1, 1).expand(-1, -1, *scene.size)
        if scene.reference is None:
            raise InputError(f"`start: {self.start_from}` begins at a reference; give an image.")
        if self.start_from == "image":
            return scene.reference
        if scene.mask is None or scene.target is None:
            raise InputError("`start: region_means` needs a mask and a target; give both.")
        inside = _mean_colour(scene.reference, scene.mask)
        outside = _mean_colour(scene.reference, 1 - scene.mask)
        return scene.target * inside + (1 - scene.target) * outside

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
        return F.interpolate(image, scene.size, mode="area")


def _mean_colour(image: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum((2, 3), keepdim=True).clamp(min=1e-6)
    return (image * weights).sum((2, 3), keepdim=True) / total


@final
class Jitter(Variable):
    """Another pixel variable, seen shifted by a random offset, and perhaps mirrored, on each step.

    Shifts wrap around. Each image has its own; the released loop shifts the whole batch alike.
    It is for recipes without masks, since masks would not follow.

    Args:
        inner: What is shifted.
        pixels: Largest shift along either axis at stages of size `at`; it scales with the stage.
        at: Longer side of the stage at which `pixels` is meant.
        flip: Probability of mirroring left and right.

    Source: DeepInversion: 30 pixels at 224, 15 at 112; flip 0.5.
    """

    moves_pixels = True

    def __init__(
        self, *, inner: Variable, pixels: Count = 30, at: Count = 224, flip: Probability = 0.0
    ) -> None:
        self.inner, self.pixels, self.at, self.flip = inner, pixels, at, flip

    @property
    def obstacle(self) -> str:
        """As the inner variable."""
        return self.inner.obstacle

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    def start(self, scene: Scene, randomness: Randomness) -> Params:
        return self.inner.start(scene, randomness)

    def resize(self, params: Params, old: Size, new: Size) -> Params:
        return self.inner.resize(params, old, new)

    def image(self, params: Params, scene: Scene) -> Float[Tensor, "b 3 h w"]:
        return self.inner.image(params, scene)

    def look(
        self, params: Params, scene: Scene, randomness: Randomness, step: int
    ) -> Float[Tensor, "b 3 h w"]:
        images = self.inner.look(params, scene, randomness, step)
        reach = round(self.pixels * max(scene.size) / self.at)
        draws = randomness.uniform("jitter", (3,), step=step).double()
        down, right = (draws[:, :2] * (2 * reach + 1) - reach).floor().long().split(1, 1)
        height, width = images.shape[-2:]
        rows = (torch.arange(height, device=images.device) - down) % height
        columns = (torch.arange(width, device=images.device) - right) % width
        columns = torch.where(draws[:, 2:] < self.flip, columns.flip(1), columns)
        moved = images.gather(2, rows[:, None, :, None].expand_as(images))
        return moved.gather(3, columns[:, None, None, :].expand_as(images))


@final
class Hold(Variable):
    """Another variable, with the reference held fixed in a region.

    What is held cannot change, so nothing there has to be synthesised or kept in place by a term.

    Args:
        inner: What is optimised elsewhere.
        region: What is held; `untouched` is outside both masks.
        margin: Width of the ring around both masks that stays free, as a share of the side.

    Raises:
        InputError: The run has no reference, or no masks.
    """

    def __init__(
        self, *, inner: Variable, region: Region = "untouched", margin: NonNegative = 0.02
    ) -> None:
        self.inner, self.region, self.margin = inner, region, margin

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    def start(self, scene: Scene, randomness: Randomness) -> Params:
        return self.inner.start(scene, randomness)

    def resize(self, params: Params, old: Size, new: Size) -> Params:
        return self.inner.resize(params, old, new)

    def image(self, params: Params, scene: Scene) -> Float[Tensor, "b 3 h w"]:
        if scene.reference is None:
            raise InputError("`hold` holds the reference; give an image.")
        held = scene.region(self.region, of_reference=False)
        inner = self.inner.image(params, scene)
        if held is None:
            return scene.reference.expand_as(inner)
        free = grow_mask(
            (held < 0.5).to(held), self.margin * math.sqrt(scene.size[0] * scene.size[1])
        )
        return inner * free + scene.reference * (1 - free)
