"""What is known before the first step of a stage: the inputs at its size, and the networks."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, final

from jaxtyping import Float
from torch import Tensor

from invertkit.core.images.inputs import Inputs
from invertkit.core.network import Model
from invertkit.core.precision import Precision
from invertkit.core.regions import REGIONS, SOURCE_MASK, TARGET_MASK, MaskRegion, Region
from invertkit.errors import InputError

LOGITS: Final = "logits"
"""The name under which an objective asks a model for its logits."""


Needs = Mapping[str, Collection[str]]
"""Model name -> the layers an objective reads from it (`LOGITS` for its logits)."""


@final
@dataclass(frozen=True)
class Scene:
    """The fixed side of a stage.

    Args:
        size: Height and width of the images of this stage.
        inputs: What the run was given, by name, at this size: images in [0, 1], masks as weights
            in [0, 1]. One row for all images, or one for each.
        models: Frozen networks by name; see `invertkit.core.network`.
        players: Networks that learn, by name.
        needs: Layers that the terms of this stage read, by model.
        kept: What objectives have computed from the reference; see `View.kept`.
        precision: Of the networks.
        owners: Where images of several photographs share a batch: which photograph, from 0, each
            image of the stage is of, the images of one side by side; else empty.
        candidates: How many rows each image of the stage has here.
        span: Which of those rows are here, where they are not all.

    Example:
        >>> import torch
        >>> image, mask = torch.zeros(1, 3, 4, 4), torch.eye(4)[None, None]
        >>> scene = Scene((4, 4), Inputs.of({"image": image, "mask": mask}))
        >>> scene.region("object", of_reference=True).sum()
        tensor(4.)
    """

    size: tuple[int, int]
    inputs: Inputs = field(default_factory=Inputs)
    models: Mapping[str, Model] = field(default_factory=dict)
    players: Mapping[str, Any] = field(default_factory=dict)
    needs: Needs = field(default_factory=dict)
    kept: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)
    precision: Precision = "float32"
    owners: tuple[int, ...] = ()
    candidates: int = 1
    span: tuple[int, int] | None = None

    @property
    def reference(self) -> Float[Tensor, "#b 3 h w"] | None:
        """The first image, with which results are compared unless a term says otherwise."""
        return self.inputs.reference

    def image_of(self, name: str) -> Float[Tensor, "#b 3 _ _"] | None:
        """The image input of that name, which may have a shape of its own; "" for the first."""
        return self.inputs.find(name) if name else self.inputs.reference

    def masks(
        self, mask: str = SOURCE_MASK, target: str = TARGET_MASK, *, of: str = ""
    ) -> tuple[Float[Tensor, "#b 1 h w"] | None, Float[Tensor, "#b 1 h w"] | None]:
        """Where the object is and where it shall be; without a target it stays where it is.

        Args:
            mask: Name of the mask that the object has in the reference.
            target: Name of the mask that it shall have in the result.
            of: The image that counts as the reference, the first if empty; a mask of another
                image is none of its.
        """
        spec = self.inputs.specs.get(mask)
        if spec is None or spec.of != (of or self.inputs.lead or spec.of):
            mask = ""
        source, wanted = self.inputs.find(mask), self.inputs.find(target)
        return source, source if wanted is None else wanted

    def rows(self, prepared: Tensor) -> Tensor:
        """Of what was prepared for the images of the stage, one row each, the rows of these.

        What has one row for all images is left so.
        """
        if not self.owners or len(prepared) == 1:
            return prepared
        rows = prepared.repeat_interleave(self.candidates, 0) if self.candidates > 1 else prepared
        return rows if self.span is None else rows[self.span[0] : self.span[1]]

    def which(self, count: int) -> list[int]:
        """Which photograph, from 0, each of `count` images here is of."""
        if not self.owners:
            return [0] * count
        rows = [owner for owner in self.owners for _ in range(self.candidates)]
        return rows if self.span is None else rows[self.span[0] : self.span[1]]

    @property
    def place(self) -> str:
        """A name for these rows, for what an objective keeps of them from one step to the next."""
        return f"{self.candidates}/{self.span}"

    def at(self, candidates: int, span: tuple[int, int] | None) -> Scene:
        """The scene of some rows, where every image of the stage has so many; this is the stage's.

        Args:
            candidates: Rows of each image, side by side.
            span: First row and the one after the last; None for all.
        """
        if not self.owners:  # what is kept of the one reference serves all rows
            return replace(self, candidates=candidates, span=span)
        rows = replace(self, candidates=candidates, span=span, kept={})
        return replace(rows, inputs=self.inputs.map(rows.rows))

    def photographs(self) -> list[Scene]:
        """A scene for each photograph that has a row here, alone."""
        if not self.owners:
            return [self]
        owners = self.which(len(self.owners) * self.candidates)
        scenes = []
        for first in (owners.index(owner) for owner in dict.fromkeys(owners)):
            alone = self.inputs.map(partial(_row, number=first))
            scenes.append(replace(self, inputs=alone, owners=(), candidates=1, span=None, kept={}))
        return scenes

    def region(self, region: Region | str, *, of_reference: bool) -> Tensor | None:
        """Weights of a region in the reference or in the result; None means everywhere.

        Raises:
            InputError: The run lacks its masks, or there is no such region.
        """
        if isinstance(region, MaskRegion):
            name = region.reference if of_reference else region.result
            return self.inputs.need(name, who="region") if name else None
        if region == "everywhere":
            return None
        if region not in REGIONS:
            raise InputError(f"Unknown region {region!r}; known: {', '.join(REGIONS)}.")
        # The five words mean these two inputs; masks of other names come by `MaskRegion` above.
        mask, target = self.masks()
        if mask is None or target is None:
            raise InputError(
                f"A term looks at region {region!r}, which needs a mask and a target; this run has "
                f"no {SOURCE_MASK if mask is None else TARGET_MASK}. Give both, or use "
                "`region: everywhere`."
            )
        inside = mask if of_reference else target
        match region:
            case "object":
                return inside
            case "background":
                return 1 - inside
            case "untouched":
                return (1 - mask) * (1 - target)
        return mask * (1 - target)


def _row(tensor: Tensor, number: int) -> Tensor:
    """One row, or what there is for all."""
    return tensor if len(tensor) == 1 else tensor[number : number + 1]
