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
        """The parts of one photograph that have patches in it and in the result."""
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
        for of_reference, of_result in regions:
            source = self._centres(of_reference, reference.image, reference.image.shape[-2:])
            result = self._centres(of_result, reference.image, scene.size)
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
        if not self._references:
            raise InputError("`patch_swd` was not prepared with a reference.")
        directions = view.normal(f"patch_swd/{self.kernel}", self.filters, 3 * self._side**2)
        directions = directions / torch.linalg.vector_norm(directions, dim=2, keepdim=True)
        filters = directions.reshape(-1, 3, self._side, self._side).to(view.image.dtype)
        which = view.scene.which(len(view.image))
        projected, wanted = self._projected(view.image, filters), self._wanted(which, filters)
        if len(self._references) == 1:
            return _apart(projected, wanted, self._parts[0])
        # Photographs differ in how many patches a part has: their rows cannot be sorted together.
        rows = [slice(row, row + 1) for row in range(len(which))]
        return torch.cat(
            [
                _apart(projected[row], wanted[row], self._parts[i])
                for row, i in zip(rows, which, strict=True)
            ]
        )

    def _projected(
        self, images: Float[Tensor, "b 3 h w"], filters: Float[Tensor, "bf 3 k k"]
    ) -> Float[Tensor, "b f n"]:
        """Each image's patches on its own directions: one convolution with a group an image."""
        side_by_side = images.reshape(1, -1, *images.shape[-2:])
        values = F.conv2d(side_by_side, filters, groups=len(images))
        return values.reshape(len(images), self.filters, -1)

    @torch.no_grad()
    def _wanted(
        self, which: Sequence[int], filters: Float[Tensor, "bf 3 k k"]
    ) -> Float[Tensor, "b f m"]:
        """The same of the photograph that each image is of."""
        if len(self._references) == 1:  # no copy of it for every image
            return F.conv2d(self._references[0], filters).reshape(len(which), self.filters, -1)
        return self._projected(torch.cat([self._references[i] for i in which]), filters)


def _apart(
    projected: Float[Tensor, "b f n"], wanted: Float[Tensor, "b f m"], parts: Sequence[_Part]
) -> Float[Tensor, " b"]:
    """Weighted sum over the parts of the mean distance of the projected patches."""
    total = projected.new_zeros(len(projected))
    for part in parts:
        distance = wasserstein_1d(projected[..., part.result], wanted[..., part.source])
        total = total + part.weight * distance.mean(1)
    return total
