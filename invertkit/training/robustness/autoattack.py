"""AutoAttack, by its authors' code, on images in [0, 1]."""

from __future__ import annotations

import importlib.util
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from invertkit.errors import InputError

if TYPE_CHECKING:
    from invertkit.training.robustness.attack import Norm

_TARGETS = 9


def require_autoattack() -> None:
    """Complain if the extra is not installed.

    Raises:
        InputError: It is not.
    """
    if importlib.util.find_spec("pyautoattack") is None:
        raise InputError(
            "AutoAttack is not installed. Run `pip install 'invertkit[attack]'`, or measure with "
            "pgd-20."
        )


def autoattack(
    model: nn.Module,
    images: Float[Tensor, "b 3 h w"],
    labels: Int[Tensor, " b"],
    *,
    norm: Norm,
    eps: float,
    seed: int = 0,
) -> Float[Tensor, "b 3 h w"]:
    """The points that the standard version of AutoAttack finds; images it cannot fool come back.

    The standard version runs four attacks in turn, each on the images that withstood the ones
    before: APGD on the cross-entropy (100 steps, one random start), targeted APGD on the
    difference-of-logits ratio (100 steps for each of the 9 likeliest other classes), targeted FAB
    (the same) and Square (5,000 queries).

    Args:
        model: From images in [0, 1] to logits `(b, k)`, in evaluation mode.
        images: In [0, 1], float32, square, at least 5 pixels a side.
        labels: Class numbers.
        norm: `"l2"` or `"linf"`.
        eps: Radius, above 0.
        seed: Of its random numbers, which are drawn for the batch as a whole: another batch
            draws others. The global generators are put back as they were.

    Raises:
        InputError: The extra is missing, the images are not square or too small, or there are
            fewer than four classes, which its losses need.

    Source: Croce and Hein 2020 (arXiv:2003.01690), its "standard version" as in RobustBench, run
    by the authors' code (the package pyautoattack). With fewer than ten classes all the others
    are targets. Where a label is not the class of highest logit nothing is sought.
    """
    require_autoattack()
    if len(images) == 0:
        return images
    classes = _classes_to_attack(model, images)
    from pyautoattack import AutoAttack

    with _nothing_global_changed(images.device):
        runner = AutoAttack(
            _Contiguous(model),
            norm={"l2": "L2", "linf": "Linf"}[norm],
            eps=float(eps),
            seed=seed,
            device=images.device,
        )
        runner.verbose = False
        # It would look for a ninth likeliest class where there are fewer.
        targets = min(_TARGETS, classes - 1)
        runner.apgd_targeted.n_target_classes = runner.fab.n_target_classes = targets
        points: Tensor
        points, _ = runner.run_standard_evaluation(
            images.contiguous(), labels, batch_size=len(images)
        )
    return points.detach()


def _classes_to_attack(model: nn.Module, images: Tensor) -> int:
    """How many classes the model has; both it and the images must suit the library."""
    height, width = images.shape[-2:]
    if height != width or height < 5:
        raise InputError(
            f"autoattack: expected square images of at least 5 pixels a side, got {height}×{width}."
        )
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    if classes < 4:
        raise InputError(
            f"autoattack: its losses compare four classes, and the model has {classes}. Measure "
            "with pgd-20."
        )
    return int(classes)


@final
class _Contiguous(nn.Module):
    """The model with gradients in plain memory order, which the library's `view` needs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(image.flatten(1).view(image.shape))
        return logits


@contextmanager
def _nothing_global_changed(device: torch.device) -> Iterator[None]:
    """Put back the global generators, which the library seeds, and the trace, which it drops."""
    trace, python = sys.gettrace(), random.getstate()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            sys.settrace(trace)
