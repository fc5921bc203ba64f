"""Objectives that ask a player: a network that learns while the image is optimised."""

from __future__ import annotations

from typing import ClassVar, final

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.view import View
from invertkit.errors import InputError
from invertkit.objectives.base import Objective
from invertkit.objectives.functional import weighted_mean


@final
class CriticScore(Objective):
    """−mean over patches of the critic's score: the generator's side of a WGAN.

    Args:
        player: Name of a `patch_critic`.

    Source: IMAGINE R_pc, MAGIC ρ_d.
    """

    weighs_region: ClassVar[bool] = True

    def __init__(self, *, player: str = "critic") -> None:
        self.player = player

    def players(self) -> tuple[str, ...]:
        """The critic that it asks, by name."""
        return (self.player,)

    def forward(self, view: View) -> Float[Tensor, " b"]:
        scores = view.player(self.player).scores(view.image)
        return -weighted_mean(scores, view.region(scores.shape[-2:]))


@final
class MaskBCE(Objective):
    """Per-pixel binary cross-entropy of the segmenter's map against the target mask.

    Args:
        player: Name of a `segmenter`.
        target: The mask; without it, that of the object in the reference, `mask`.
        mask: See `target`.

    Source: MAGIC ρ_ED.
    """

    weighs_region: ClassVar[bool] = True

    def __init__(
        self, *, player: str = "segmenter", target: str = "target", mask: str = "mask"
    ) -> None:
        self.player, self.mask, self.target = player, mask, target

    def players(self) -> tuple[str, ...]:
        """The segmenter that it asks, by name."""
        return (self.player,)

    def forward(self, view: View) -> Float[Tensor, " b"]:
        _, target = view.scene.masks(self.mask, self.target)
        if target is None:
            raise InputError("`mask_bce` compares with a target mask; give one.")
        logits = view.player(self.player).logits(view.image)
        wanted = target.expand_as(logits)  # one mask may serve all images
        losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return weighted_mean(losses, view.region(losses.shape[-2:]))
