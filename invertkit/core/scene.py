"""What is known before the first step of a stage: the photograph, its mask, the wanted mask."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, final, get_args

from jaxtyping import Float
from torch import Tensor

from invertkit.core.precision import Precision
from invertkit.errors import InputError

LOGITS: Final = "logits"
"""The name under which an objective asks a model for its logits."""


Region = Literal["everywhere", "object", "background", "untouched", "vacated"]
"""Where a term looks.

`object` and `background` are inside and outside the *target* mask in the result, and inside and
outside the *source* mask in the reference. `untouched` is outside both masks, `vacated` is inside
the source mask but outside the target mask: the place that the object has left.
"""


REGIONS: Final[tuple[str, ...]] = get_args(Region)


Needs = Mapping[str, Collection[str]]
"""Model name -> the layers an objective reads from it (`LOGITS` for its logits)."""


@final
@dataclass(frozen=True)
class Scene:
    """The fixed side of a stage.

    Args:
        size: Height and width of the images of this stage.
        reference: The source photograph, in [0, 1], or None for recipes without one. One row for
            all images, or one for each.
        mask: Where the object is in it: weights in [0, 1], or None; likewise.
        target: Where the object shall be: weights in [0, 1], or None; likewise.
        models: Frozen networks by name; see `invertkit.core.network`.
        players: Networks that learn, by name.
        needs: Layers that the terms of this stage read, by model.
        kept: What objectives have computed from the reference; see `View.kept`.
        precision: Of the networks.
        owners: Where images of several photographs share a batch: which photograph, from 0, each
            image of the stage is of, the images of one side by side; else empty.
        candidates: How many rows each image of the stage has here.
        span: Which of those rows are here, where they are not all.
    """

    size: tuple[int, int]
    reference: Float[Tensor, "#b 3 h w"] | None = None
    mask: Float[Tensor, "#b 1 h w"] | None = None
    target: Float[Tensor, "#b 1 h w"] | None = None
    models: Mapping[str, Any] = field(default_factory=dict)
    players: Mapping[str, Any] = field(default_factory=dict)
    needs: Needs = field(default_factory=dict)
    kept: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)
    precision: Precision = "float32"
    owners: tuple[int, ...] = ()
    candidates: int = 1
    span: tuple[int, int] | None = None

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
        here = replace(self, candidates=candidates, span=span, kept={})
        reference, mask, target = (
            None if tensor is None else here.rows(tensor)
            for tensor in (self.reference, self.mask, self.target)
        )
        return replace(here, reference=reference, mask=mask, target=target)

    def photographs(self) -> list[Scene]:
        """A scene for each photograph that has a row here, alone."""
        if not self.owners:
            return [self]
        rows = self.which(len(self.owners) * self.candidates)
        found = []
        for first in (rows.index(owner) for owner in dict.fromkeys(rows)):
            reference, mask, target = (
                tensor if tensor is None or len(tensor) == 1 else tensor[first : first + 1]
                for tensor in (self.reference, self.mask, self.target)
            )
            alone = replace(self, reference=reference, mask=mask, target=target)
            found.append(replace(alone, owners=(), candidates=1, span=None, kept={}))
        return found

    def region(self, name: str, *, of_reference: bool) -> Tensor | None:
        """Weights of a region in the reference or in the result; None means everywhere."""
        if name == "everywhere":
            return None
        if self.mask is None or self.target is None:
            raise InputError(
                f"A term looks at region {name!r}, which needs a mask and a target; this run has "
                f"{'no mask' if self.mask is None else 'no target'}. Give both, or use "
                "`region: everywhere`."
            )
        inside = self.mask if of_reference else self.target
        match name:
            case "object":
                return inside
            case "background":
                return 1 - inside
            case "untouched":
                return (1 - self.mask) * (1 - self.target)
            case "vacated":
                return self.mask * (1 - self.target)
        raise InputError(f"Unknown region {name!r}; known: {', '.join(REGIONS)}.")
