"""A variable whose picture is seen cropped, recoloured and under noise."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.augment import Augmentation
from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.ranges import NonNegative, Positive, Probability
from invertkit.core.scene import Scene
from invertkit.variables.base import Variable, WrappedVariable


@final
class Augmented(WrappedVariable):
    """Another variable, seen on each step as a photograph may be: nearer, tilted, in other light.

    A classifier's answer to one picture can be had by patterns that it alone sees. What changes its
    answer in every crop, colour and noise is more of what its classes look like. Every image has
    its own draws. It is for recipes without masks, since masks would not follow.

    Args:
        inner: What is seen.
        zoom: Smallest and largest side of the crop, as a share of the picture's; above 1 the
            picture is seen smaller, with its mirror images around it.
        rotation: Largest angle of the crop to either side, in degrees.
        flip: Probability of mirroring left and right.
        colour: Reach of the random contrast and brightness of each channel; see `Augmentation`.
        noise: Standard deviation of the noise, where pixels go from 0 to 1.

    Raises:
        RecipeError: The smallest crop is larger than the largest.

    Example:
        >>> import torch
        >>> from invertkit.variables.pixels import Pixels
        >>> variable, scene = Augmented(inner=Pixels(), noise=0.1), Scene((4, 4))
        >>> params, randomness = variable.start(scene, Randomness((0,))), Randomness((0,))
        >>> looks = [variable.look(params, scene, randomness, step) for step in range(2)]
        >>> torch.equal(*looks), looks[0].shape
        (False, torch.Size([1, 3, 4, 4]))

    Source: Ghiasi et al. 2022, "Plug-In Inversion", and others; see `Augmentation`.
    """

    def __init__(
        self,
        *,
        inner: Variable,
        zoom: tuple[Positive, Positive] = (0.6, 1.0),
        rotation: NonNegative = 0.0,
        flip: Probability = 0.5,
        colour: NonNegative = 0.5,
        noise: NonNegative = 0.2,
    ) -> None:
        super().__init__(inner)
        self.seen = Augmentation(zoom, rotation, flip, colour, noise)

    @property
    def moves_pixels(self) -> bool:  # type: ignore[override]
        """True: every look is cropped, or in colours of its own."""
        return True

    @property
    def obstacle(self) -> str:
        """As of the inner variable: crops, colours and noise are draws of the step."""
        return self.inner.obstacle

    def look(
        self, params: Params, scene: Scene, randomness: Randomness, step: int
    ) -> Float[Tensor, "b 3 h w"]:
        return self.seen(self.inner.look(params, scene, randomness, step), randomness, step)

    def still(
        self, looks: Float[Tensor, "b 3 _ _"], params: Params, scene: Scene
    ) -> Float[Tensor, "b 3 h2 w2"]:
        return self.image(params, scene)
