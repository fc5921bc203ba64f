"""The best image of each seed so far, kept on the device and compared without a branch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from invertkit.core.images.resize import resize_image
from invertkit.core.params import Params


@final
@dataclass
class Best:
    """Lowest loss with its image and, for latents, its tensors, per image.

    `offer` changes all of them in place, so that a step with it can be replayed.

    Args:
        losses: `(b,)`.
        images: `(b, 3, h, w)`.
        steps: `(b,)` steps of the run at which they were seen.
        terms: Names of the terms that the losses are of.
        stage: Index of the stage that they are of.
        params: The variable's tensors, if they are worth keeping.
        lost: Images whose loss was not finite: what comes after does not count.
    """

    losses: Tensor
    images: Tensor
    steps: Tensor
    terms: tuple[str, ...] = ()
    stage: int = -1
    params: Params = field(default_factory=dict)
    lost: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))

    def __post_init__(self) -> None:
        if not len(self.lost):
            self.lost = torch.zeros_like(self.losses, dtype=torch.bool)

    @classmethod
    def afresh(
        cls,
        before: Best | None,
        losses: Tensor,
        images: Tensor,
        points: Params,
        *,
        terms: tuple[str, ...],
        stage: int,
    ) -> Best:
        """A new record for another stage or another set of terms.

        Until a finite loss comes it holds the last finite picture.
        """
        shown = images
        if before is not None:
            finite = images.isfinite().all((1, 2, 3), keepdim=True)
            size = (images.shape[-2], images.shape[-1])
            shown = torch.where(finite, images, resize_image(before.images, size))
        return cls(
            losses=torch.full_like(losses, torch.inf),
            images=shown.clone(),
            steps=torch.zeros_like(losses, dtype=torch.long),
            terms=terms,
            stage=stage,
            params={name: point.clone() for name, point in points.items()},
            lost=torch.zeros_like(losses, dtype=torch.bool) if before is None else before.lost,
        )

    def offer(self, losses: Tensor, images: Tensor, points: Params, step: Tensor) -> None:
        """Take what is better, image by image."""
        # No branch on a tensor: whether an image got better is known on the device alone, and a
        # replay does the same operations either way.
        self.lost |= ~losses.isfinite()
        better = (losses < self.losses) & ~self.lost
        pairs = [(losses, self.losses), (step, self.steps), (images, self.images)]
        pairs += [(point, self.params[name]) for name, point in points.items()]
        for now, best in pairs:
            best.copy_(torch.where(better.reshape(-1, *[1] * (best.ndim - 1)), now, best))

    def save(self) -> dict[str, Any]:
        """A copy, as tensors and plain data."""
        return {
            "losses": self.losses.clone(),
            "images": self.images.clone(),
            "steps": self.steps.clone(),
            "terms": list(self.terms),
            "stage": self.stage,
            "params": {name: param.clone() for name, param in self.params.items()},
            "lost": self.lost.clone(),
        }

    @classmethod
    def load(cls, saved: Mapping[str, Any], device: torch.device) -> Best:
        """The best images that `save` saw, on a device."""
        losses, images, steps = (
            saved[name].to(device, copy=True) for name in ("losses", "images", "steps")
        )
        params = {name: param.to(device, copy=True) for name, param in saved["params"].items()}
        lost = saved["lost"].to(device, copy=True)
        return cls(losses, images, steps, tuple(saved["terms"]), saved["stage"], params, lost)
