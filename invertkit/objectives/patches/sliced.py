"""Agreement of patch distributions, computed directly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.ranges import Count
from invertkit.core.view import View
from invertkit.core.wasserstein import wasserstein_1d
from invertkit.errors import InputError
from invertkit.objectives.base import Objective


class _Part(NamedTuple):
    """One region: where its patches are centred in reference and result, and its weight."""

    source: Int[Tensor, " n"]
    result: Int[Tensor, " m"]
    weight: float


@final
class PatchSWD(Objective):
    """Sliced Wasserstein distance between the patches of the image and of the reference.

    Every patch is projected on random directions: the image is convolved with unit-norm filters,
    fresh on each step. In one dimension the Wasserstein distance is the mean absolute difference
    of the sorted values; its mean over the filters estimates the sliced distance without bias in
    the choice of directions. Where counts differ, the sorted reference is resampled linearly.

    With a mask and a target, patches centred inside and outside are compared separately (source
    mask in the reference, target mask in the result), each part weighted by the root of its share
    of the result, so that a small object is not drowned. A part with no patch at this size is
    left out.

    Args:
        filters: Directions a step; cost is linear in it, noise falls with its root.
        kernel: Side of the patches in pixels; smaller where the image is smaller.
        split: Compare object and background separately where there are masks.
        mask: Name of the mask of the object in the reference.
        target: Name of the mask of where it shall be; without it, `mask`.

    Source: ours; the distance: Rabin et al. 2011, Bonneel et al. 2015; patches by random filters:
    Elnekave & Weiss 2022 (arXiv:2203.11862). It stands where MAGIC estimates a Wasserstein
    distance of the same distributions by a critic.
    """

    weighs_region: ClassVar[bool] = True
    holds_reference: ClassVar[bool] = True

    def __init__(
        self,
        *,
        filters: Count = 64,
        kernel: Count = 7,
        split: bool = True,
        mask: str = "mask",
        target: str = "target",
    ) -> None:
        self.filters, self.kernel, self.split = filters, kernel, split
        self.mask, self.target = mask, target
        self._references: list[Tensor] = []
        self._parts: list[list[_Part]] = []
        self._side = kernel

    def prepare(self, reference: View | None) -> None:
        """Where the patches of every part are centred, in each photograph."""
        if reference is None:
            raise InputError("`patch_swd` compares with a reference; give an image.")
        self._side = min(self.kernel, *reference.image.shape[-2:], *reference.scene.size)
        photographs = reference.photographs()
        self._references = [photograph.image for photograph in photographs]
        self._parts = [self._parts_of(photograph) for photograph in photographs]

    def _parts_of(self, reference: View) -> list[_Part]:
        scene = reference.scene
        mask, target = scene.masks(self.mask, self.target, of=reference.of)
        regions: list[tuple[Tensor | None, Tensor | None]] = [
            (
                scene.region(reference.region_name, of_reference=True),
                scene.region(reference.region_name, of_reference=False),
            )
        ]
        everywhere = reference.region_name == "everywhere"
        if self.split and everywhere and mask is not None and target is not None:
            regions = [(mask, target), (1 - mask, 1 - target)]
        parts = []
        count = (scene.size[0] - self._side + 1) * (scene.size[1] - self._side + 1)
        for there, wanted in regions:
            source = self._centres(there, reference.image, reference.image.shape[-2:])
            result = self._centres(wanted, reference.image, scene.size)
            if len(source) and len(result):
                parts.append(_Part(source, result, math.sqrt(len(result) / count)))
        return parts

    def _centres(
        self, weights: Tensor | None, like: Tensor, size: Sequence[int]
    ) -> Int[Tensor, " n"]:
        """Flat positions, among all patches, of those whose centre is more inside than out."""
        before, after = (self._side - 1) // 2, self._side // 2
        height, width = size
        if weights is None:
            weights = like.new_ones(1, 1, height, width)
        inner = weights[0, 0, before : height - after, before : width - after]
        return (inner.flatten() > 0.5).nonzero()[:, 0]

    def forward(self, view: View) -> Float[Tensor, " b"]:
        image = view.image
        if not self._references:
            raise InputError("`patch_swd` was not prepared with a reference.")
        directions = view.normal(f"patch_swd/{self.kernel}", self.filters, 3 * self._side**2)
        directions = directions / torch.linalg.vector_norm(directions, dim=2, keepdim=True)
        filters = directions.reshape(-1, 3, self._side, self._side).to(image.dtype)
        which = view.scene.which(len(image))
        several = len(self._references) > 1
        with torch.no_grad():
            if several:
                photographs = torch.cat([self._references[i] for i in which], 1)
                wanted = F.conv2d(photographs, filters, groups=len(image))
            else:
                wanted = F.conv2d(self._references[0], filters)
            wanted = wanted.reshape(len(image), self.filters, -1)
        here = F.conv2d(
            image.reshape(1, -1, *image.shape[-2:]), filters, groups=len(image)
        ).reshape(len(image), self.filters, -1)
        if not several:
            return _apart(here, wanted, self._parts[0])
        return torch.cat(
            [
                _apart(here[row : row + 1], wanted[row : row + 1], self._parts[i])
                for row, i in enumerate(which)
            ]
        )


def _apart(
    here: Float[Tensor, "b f n"], wanted: Float[Tensor, "b f m"], parts: Sequence[_Part]
) -> Float[Tensor, " b"]:
    """Weighted sum over the parts of the mean distance of the projected patches."""
    total = here.new_zeros(len(here))
    for part in parts:
        distance = wasserstein_1d(here[..., part.result], wanted[..., part.source])
        total = total + part.weight * distance.mean(1)
    return total
