from __future__ import annotations

from typing import Any

import pytest

from invertkit.models.critics.patch_critic import PatchCriticNet
from invertkit.models.stacked.stack import receptive_field

MAGIC: dict[str, Any] = {"kernels": (4, 4, 4, 3, 1), "strides": (1, 2, 2, 1, 1)}
IMAGINE: dict[str, Any] = {
    "kernels": (3, 3, 3, 3, 1), "strides": (1,) * 5, "widths": (128,) * 4,
}  # fmt: skip


@pytest.mark.parametrize(("options", "wanted"), [(MAGIC, 545_217), (IMAGINE, 447_489)])
def test_critics_have_the_published_number_of_weights(options: dict[str, Any], wanted: int) -> None:
    net = PatchCriticNet(**options)
    assert sum(weight.numel() for weight in net.parameters()) == wanted


@pytest.mark.parametrize(
    ("kernels", "strides", "wanted"),
    [
        ((4, 4, 4, 3, 1), (1, 2, 2, 1, 1), 21),
        ((3, 3, 3, 3, 1), (1, 1, 1, 1, 1), 9),
        ((4, 4, 4, 3, 3), (1, 2, 2, 1, 1), 29),
    ],
)
def test_published_receptive_fields(
    kernels: tuple[int, ...], strides: tuple[int, ...], wanted: int
) -> None:
    assert receptive_field(kernels, strides) == wanted
    widths = (2,) * (len(kernels) - 1)
    assert PatchCriticNet(kernels=kernels, strides=strides, widths=widths).receptive_field == wanted


def test_a_critic_of_unequal_lists_is_refused() -> None:
    with pytest.raises(ValueError, match="2 kernels, 1 strides and 1 widths"):
        PatchCriticNet(kernels=(3, 3), strides=(1,), widths=(4,))
