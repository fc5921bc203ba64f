"""Variables around another: looks that are shifted, regions that are held."""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.resize import grow_mask
from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.ranges import Count, NonNegative, Probability
from invertkit.core.regions import MaskRegion, Region, RegionWord
from invertkit.core.scene import Scene
from invertkit.errors import InputError
from invertkit.variables.base import Variable, WrappedVariable


@final
class Jitter(WrappedVariable):
    """Another variable, seen shifted by a random offset, and perhaps mirrored, on each step.

    Shifts wrap around. Each image has its own; the released loop shifts the whole batch alike.
    It is for recipes without masks, since masks would not follow.

    Args:
        inner: What is shifted.
        pixels: Largest shift along either axis at stages of size `at`; it scales with the stage.
        at: Longer side of the stage at which `pixels` is meant.
        flip: Probability of mirroring left and right.

    Example:
        >>> from invertkit.variables.pixels import Pixels
        >>> variable, scene = Jitter(inner=Pixels(), pixels=2, at=4), Scene((4, 4))
        >>> params, randomness = variable.start(scene, Randomness((0,))), Randomness((0,))
        >>> looks = [variable.look(params, scene, randomness, step) for step in range(2)]
        >>> torch.equal(*looks), torch.equal(*(look.flatten(2).sort().values for look in looks))
        (False, True)

    Source: DeepInversion: 30 pixels at 224, 15 at 112; flip 0.5.
    """

    def __init__(
        self, *, inner: Variable, pixels: Count = 30, at: Count = 224, flip: Probability = 0.0
    ) -> None:
        super().__init__(inner)
        self.pixels, self.at, self.flip = pixels, at, flip

    @property
    def moves_pixels(self) -> bool:  # type: ignore[override]
        """True: every look is shifted or flipped."""
        return True

    @property
    def obstacle(self) -> str:
        """As of the inner variable: the shifts are draws of the step."""
        return self.inner.obstacle

    def look(
        self, params: Params, scene: Scene, randomness: Randomness, step: int
    ) -> Float[Tensor, "b 3 h w"]:
        images = self.inner.look(params, scene, randomness, step)
        height, width = images.shape[-2:]
        reach = round(self.pixels * max(height, width) / self.at)
        # Float64 and gathers: a whole number of pixels drawn without reading a tensor back.
        draws = randomness.uniform("jitter", (3,), step=step).double()
        down, right = (draws[:, :2] * (2 * reach + 1) - reach).floor().long().split(1, 1)
        rows = (torch.arange(height, device=images.device) - down) % height
        columns = (torch.arange(width, device=images.device) - right) % width
        columns = torch.where(draws[:, 2:] < self.flip, columns.flip(1), columns)
        moved = images.gather(2, rows[:, None, :, None].expand_as(images))
        return moved.gather(3, columns[:, None, None, :].expand_as(images))

    def still(
        self, looks: Float[Tensor, "b 3 _ _"], params: Params, scene: Scene
    ) -> Float[Tensor, "b 3 h2 w2"]:
        return self.image(params, scene)


@final
class Hold(WrappedVariable):
    """Another variable, with the reference held fixed in a region.

    What is held cannot change, so nothing there has to be synthesised or kept in place by a term.

    Args:
        inner: What is optimised elsewhere.
        region: What is held; `untouched` is outside both masks.
        margin: Width of the ring around both masks that stays free, as a share of the side.
        mask: Hold what this mask covers, instead of a region.

    Raises:
        InputError: The run has no reference, or no masks.

    Example:
        >>> from invertkit.variables.pixels import Pixels
        >>> from invertkit.core.images.inputs import Inputs
        >>> left = torch.tensor([[1.0, 0.0]]).expand(1, 1, 2, 2)
        >>> scene = Scene((2, 2), Inputs.of({"image": torch.ones(1, 3, 2, 2) / 2, "mask": left}))
        >>> variable = Hold(inner=Pixels(start="constant", colour=(0, 0, 0), noise=0.0), margin=0.0)
        >>> variable.image(variable.start(scene, Randomness((0,))), scene)[0, 0].tolist()
        [[0.0, 0.5], [0.0, 0.5]]
    """

    def __init__(
        self,
        *,
        inner: Variable,
        region: RegionWord = "untouched",
        margin: NonNegative = 0.02,
        mask: str = "",
    ) -> None:
        super().__init__(inner)
        self.region: Region = MaskRegion(mask) if mask else region
        self.margin = margin

    @property
    def obstacle(self) -> str:
        """As of the inner variable: what is held is the same on every step."""
        return self.inner.obstacle

    def image(self, params: Params, scene: Scene) -> Float[Tensor, "b 3 h w"]:
        return self._with_held(self.inner.image(params, scene), scene)

    def look(
        self, params: Params, scene: Scene, randomness: Randomness, step: int
    ) -> Float[Tensor, "b 3 h w"]:
        looks = self.inner.look(params, scene, randomness, step)
        if not self.frame_names:
            return self._with_held(looks, scene)
        with torch.no_grad():  # as the engine frames a scene: no gradient reaches the frame
            frame = self.inner.frame(params, scene)
        return self._with_held(looks, frame)

    def still(
        self, looks: Float[Tensor, "b 3 _ _"], params: Params, scene: Scene
    ) -> Float[Tensor, "b 3 h2 w2"]:
        # A look that was moved has the reference in it already, so it cannot be moved back.
        return self.image(params, scene) if self.moves_pixels or self.frame_names else looks

    def _with_held(
        self, images: Float[Tensor, "b 3 h w"], scene: Scene
    ) -> Float[Tensor, "b 3 h w"]:
        if scene.reference is None:
            raise InputError("`hold` holds the reference; give an image.")
        held = scene.region(self.region, of_reference=False)
        if held is None:
            return scene.reference.expand_as(images)
        free = grow_mask(
            (held < 0.5).to(held), self.margin * math.sqrt(scene.size[0] * scene.size[1])
        )
        return images * free + scene.reference * (1 - free)
