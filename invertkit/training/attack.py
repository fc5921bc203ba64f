"""Projected gradient descent in a small ball around each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


@final
@dataclass(frozen=True)
class Attack:
    """Untargeted PGD on the cross-entropy, one independent problem per image.

    Args:
        norm: `"l2"` or `"linf"`.
        eps: Radius of the ball, in the units of images in [0, 1] (for `l2` the norm of the whole
            c×h×w difference, so it grows with the number of pixels).
        steps: Gradient steps; 0 returns the images unchanged.
        step_size: Length of one step; by default 2/3 of `eps` (Salman et al. 2020).
        keep_best: Return the iterate of highest loss, the start included, instead of the last.

    The model is run as it stands: put it in `eval` mode first, as the library below does.

    Source: Madry et al. 2018 (arXiv:1706.06083); details as in MadryLab/robustness 1.2: l2 steps
    along g/(‖g‖+1e-10), projection to the closed ball and then to [0, 1], no random start.
    """

    norm: Literal["l2", "linf"] = "l2"
    eps: float = 0.05
    steps: int = 3
    step_size: float | None = None
    keep_best: bool = True

    def __call__(
        self, model: nn.Module, image: Float[Tensor, "b 3 h w"], label: Int[Tensor, " b"]
    ) -> Float[Tensor, "b 3 h w"]:
        """Images inside the ball around `image` on which `model` does worse at `label`."""
        if self.steps == 0 or self.eps == 0:
            return image
        size = self.step_size if self.step_size is not None else self.eps * 2 / 3
        here, best = image, image
        highest = torch.full((len(image),), -torch.inf, device=image.device)
        for _ in range(self.steps):
            here = here.detach().requires_grad_()
            losses = F.cross_entropy(model(here).float(), label, reduction="none")
            (gradient,) = torch.autograd.grad(losses.sum(), here)
            with torch.no_grad():
                best, highest = _better(best, highest, here, losses)
                here = self._project(image, here + size * self._direction(gradient))
        if not self.keep_best:
            return here.detach()
        if self.steps == 1:  # one step up the gradient: not worth a second forward to confirm
            return here.detach()
        with torch.no_grad():
            losses = F.cross_entropy(model(here).float(), label, reduction="none")
            best, _ = _better(best, highest, here, losses)
        return best.detach()

    def _direction(self, gradient: Tensor) -> Tensor:
        if self.norm == "linf":
            return gradient.sign()
        length = gradient.flatten(1).norm(dim=1).clamp(min=0) + 1e-10
        direction: Tensor = gradient / length[:, None, None, None]
        return direction

    def _project(self, centre: Tensor, point: Tensor) -> Tensor:
        difference = point - centre
        if self.norm == "linf":
            difference = difference.clamp(-self.eps, self.eps)
        else:
            length = difference.flatten(1).norm(dim=1).clamp(min=1e-12)
            difference = difference * (self.eps / length).clamp(max=1)[:, None, None, None]
        return (centre + difference).clamp(0, 1)


def _better(best: Tensor, highest: Tensor, here: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    improved = losses > highest
    return torch.where(improved[:, None, None, None], here, best), torch.where(
        improved, losses, highest
    )
