"""Whether masks have pixels left at the sizes at which a recipe works."""

from __future__ import annotations

from typing import Final

from torch import Tensor

from invertkit.core.images.inputs import Inputs
from invertkit.core.images.load import Fit
from invertkit.core.log import warn
from invertkit.errors import InputError
from invertkit.recipe.page import Page

_KINDS: Final = ("mask", "masks")


def check_masks(inputs: Inputs, page: Page) -> None:
    """Whether every mask shows something of its object at every stage.

    Args:
        inputs: Of one photograph.
        page: The recipe.

    Raises:
        InputError: A mask has no pixel there: every term that looks at its object would be 0, and
            nothing would tell.
    """
    of = f"{inputs.name}: " if inputs.name else ""
    names = [name for name in inputs if inputs.specs[name].kind in _KINDS]
    for name in names:
        _check_cut(inputs, name, page.fit, of)
    # A stage without a size takes that of the stage before.
    sides = {stage.size: key for key, stage in reversed(page.in_order()) if stage.size}
    for side, key in sorted(sides.items()):
        for name in names:
            _check_stage(inputs, name, side, page.fit, key=key, of=of)


def _check_stage(inputs: Inputs, name: str, side: int, fit: Fit, *, key: str, of: str) -> None:
    """Whether a mask has pixels inside, and outside, at a stage."""
    size = inputs.size(side, fit)
    place = f"at stage {key!r}, of {size[1]}×{size[0]} pixels"
    for mask in _layers(inputs, name, size, fit):
        if mask.all():
            warn(f"{of}{name}: covers every pixel {place}: nothing of the background is left.")
        if not mask.any():
            least = _least(inputs, name, side, fit)
            advice = f"a size of at least {least}" if least else "a larger size"
            raise InputError(
                f"{of}{name}: has no pixel {place}, since its object fills no more than half of "
                f"any of them; no part would see it. Give the stage {advice} (`--set "
                f"stages.{key}.size={least or 2 * side}`), or a photograph cut around the object."
            )


def _check_cut(inputs: Inputs, name: str, fit: Fit, of: str) -> None:
    """Whether `fit: crop` leaves something of a mask, however small."""
    reference = inputs.reference
    side = min(reference.shape[-2:]) if reference is not None and fit == "crop" else 0
    if side and not all(mask.any() for mask in _layers(inputs, name, (side, side), fit)):
        raise InputError(
            f"{of}{name}: the recipe looks at the square in the middle (`fit: crop`), where no "
            "pixel of it is white. Give a photograph cut around the object, or `--set fit=stretch`."
        )


def _layers(inputs: Inputs, name: str, size: tuple[int, int], fit: Fit) -> list[Tensor]:
    value = inputs.fitted(name, size, fit)
    return [value] if isinstance(value, Tensor) else list(value)


def _least(inputs: Inputs, name: str, side: int, fit: Fit) -> int | None:
    """A size at which the object is there, a multiple of 8; None if there is none that is usual."""
    for wider in range(side - side % 8 + 8, max(2048, 4 * side), 8):
        size = inputs.size(wider, fit)
        if all(mask.any() for mask in _layers(inputs, name, size, fit)):
            return wider
    return None
