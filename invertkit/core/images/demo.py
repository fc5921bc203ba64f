"""The demonstration photograph: scikit-learn's `flower.jpg`, with two masks drawn by us."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from invertkit.core.images.inputs import Inputs
from invertkit.core.images.load import load_image, load_mask
from invertkit.errors import InputError

CREDIT = "flower.jpg from scikit-learn, a photograph by vultilion, CC BY 2.0"
_MASKS = Path(__file__).parent / "demo_masks"


def demo_inputs() -> Inputs:
    """Photograph, mask and target, 427×640."""
    spec = find_spec("sklearn")  # found, not imported: only its photograph is wanted
    if spec is None or spec.origin is None:
        raise InputError("The demonstration photograph comes with scikit-learn; install it.")
    photograph = Path(spec.origin).parent / "datasets" / "images" / "flower.jpg"
    return Inputs(
        load_image(photograph),
        load_mask(_MASKS / "mask.png", who="mask"),
        load_mask(_MASKS / "target.png", who="target"),
    )
