"""Where a term looks: five words over a mask and a target, or any masks by name.

Nothing here imports torch.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias, get_args

RegionWord = Literal["everywhere", "object", "background", "untouched", "vacated"]
"""Where a term looks, in one word.

`object` and `background` are inside and outside the input `target` in the result, and inside and
outside the input `mask` in the reference. `untouched` is outside both masks, `vacated` is inside
the mask but outside the target: the place that the object has left. Without a target the object
stays where it is, and its mask stands for both.
"""

REGIONS: Final[tuple[str, ...]] = get_args(RegionWord)

SOURCE_MASK: Final = "mask"
"""The mask that the words of regions mean in the reference."""

TARGET_MASK: Final = "target"
"""The mask that they mean in the result."""


class MaskRegion(NamedTuple):
    """Where a term looks, by the names of masks; an empty name means everywhere.

    Attributes:
        result: The mask in the result, of the size of the first image.
        reference: The mask in the image that the term compares with.
    """

    result: str = ""
    reference: str = ""


Region: TypeAlias = RegionWord | MaskRegion
