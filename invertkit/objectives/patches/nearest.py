"""Every patch looks like some patch of the reference, at the right place of the object."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, final

import torch
from annotated_types import Gt, Le
from jaxtyping import Float
from torch import Tensor

from invertkit.core.ranges import Count, NonNegative
from invertkit.core.recording.phase import Phase
from invertkit.core.view import View
from invertkit.errors import InputError
from invertkit.objectives.base import Objective, expect_one_shape
from invertkit.objectives.patches.search import PatchSearch, SearchOptions


@final
class NearestPatches(Objective):
    """Squared distance of each pixel to what the nearest patches of the reference say of it.

    Every `every` steps each patch of the image looks for its nearest patch in the reference; each
    pixel's wanted value is the mean of what the patches over it say, weighted by d^-0.4 of their
    squared distances d. In between, those values stand still and the objective is their mean
    squared difference to the image, so its gradient is exact and cheap.

    With a mask and a target, patches centred in the target look among those centred in the source
    mask, and a patch's distance includes its place: |patch - key|²/n + `place`·|φ(q) - k|², φ(q)
    being where q of the target belongs in the source (`register_masks`). So a head is made where
    the head belongs, without a warp: shape and texture are synthesised. Around it, background
    patches look among those that touch no object pixel, ignoring pixels of the new object. Pixels
    far from both masks are not asked to change. Without masks every patch may come from anywhere.

    Args:
        kernel: Side of the patches; at most 3 in stages below 32 pixels and 5 below 64.
        every: Steps between searches.
        place: Weight of the place in the distance, for pixel values and image sides of 1. It is
            up to ten times as much in stages below 96 pixels, where the layout is decided.
        drift: The same for background, whose patches may come from further away.
        coherence: Below 1, background that continues a neighbour's piece of the reference counts
            as that much nearer; less blur, larger pieces.
        keys: Background patches considered: the nearest to the place that is filled.
        margin: Width of the ring around both masks in which pixels may change, as a share of the
            side.
        mask: Name of the mask of the object in the reference.
        target: Name of the mask of where it shall be; without it, `mask`.

    Source: ours, from texture optimisation (Kwatra et al. 2005), space-time completion (Wexler et
    al. 2007) and GPNN (Granot et al. 2022, arXiv:2103.15545).
    """

    weighs_region: ClassVar[bool] = True
    holds_reference: ClassVar[bool] = True

    def __init__(
        self,
        *,
        kernel: Annotated[int, Gt(0)] = 7,
        every: Count = 8,
        place: NonNegative = 4.0,
        drift: NonNegative = 0.05,
        coherence: Annotated[float, Gt(0), Le(1)] = 0.6,
        keys: Count = 6000,
        margin: NonNegative = 0.02,
        mask: str = "mask",
        target: str = "target",
    ) -> None:
        if kernel % 2 == 0:
            raise ValueError(f"kernel: expected an odd side such as 7, got {kernel}")
        self.every, self.mask, self.target = every, mask, target
        self.options = SearchOptions(
            kernel=kernel, place=place, drift=drift, coherence=coherence, keys=keys, margin=margin
        )
        self._searches: list[PatchSearch] = []
        self._goals: dict[str, Tensor] = {}
        self._asked: dict[str, int] = {}

    def prepare(self, reference: View | None) -> None:
        """Patches of object and background, and where each point of the target belongs."""
        if reference is None:
            raise InputError("`nearest_patches` copies from a reference; give an image.")
        stage = reference.image.new_empty(0, *reference.scene.size)
        expect_one_shape(stage, reference.image, of=reference.of, who="nearest_patches")
        self._goals, self._asked = {}, {}
        self._searches = [
            PatchSearch(
                photograph.image,
                *photograph.scene.masks(self.mask, self.target, of=photograph.of),
                self.options,
            )
            for photograph in reference.photographs()
        ]

    def phase(self, step: int) -> Phase:
        """Steps on which it searches anew are one kind, those between another."""
        return Phase(step % self.every == 0)

    def forward(self, view: View) -> Float[Tensor, " b"]:
        image, rows = view.image, view.scene.place
        # A line search looks more than once on a step: the goal must stand still meanwhile.
        due = view.step % self.every == 0 and self._asked.get(rows) != view.step
        if due or rows not in self._goals:
            goal = self._goal(view)
            # In place, since a recorded step knows the tensor.
            self._goals[rows] = self._goals[rows].copy_(goal) if rows in self._goals else goal
            self._asked[rows] = view.step
        weights = self._searches[0].free
        if len(self._searches) > 1:
            weights = torch.cat([self._searches[i].free for i in view.scene.which(len(image))])
        if (region := view.region(image.shape[-2:])) is not None:
            weights = weights * region
        difference = (image - self._goals[rows]).square().mean(1, keepdim=True) * weights
        return difference.sum((1, 2, 3)) / weights.sum((1, 2, 3)).clamp(min=1)

    @torch.no_grad()
    def _goal(self, view: View) -> Float[Tensor, "b 3 h w"]:
        """What the nearest patches of its photograph say of every image."""
        which = view.scene.which(len(view.image))
        images = view.image.detach().split(1)
        return torch.cat(
            [self._searches[i].goal(image) for i, image in zip(which, images, strict=True)]
        )

    def save(self) -> dict[str, Any]:
        """What the last search said, by the rows it was asked for."""
        return dict(self._goals)

    def load(self, saved: dict[str, Any]) -> None:
        """Take up what `save` saw, after `prepare`."""
        self._goals, self._asked = dict(saved), {}
