"""What an attack on a classifier may do: norm, radius, steps. It is carried out by `pgd`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal, final, get_args

from invertkit.core.flags import NO_FLAG, Flag
from invertkit.errors import InputError

Norm = Literal["l2", "linf"]


@final
@dataclass(frozen=True)
class Attack:
    """PGD in a ball around each image, one independent problem per image.

    Args:
        norm: l2 or linf.
        eps: Radius of the attack; 0 for none. The ball is closed, in the units of images in [0, 1];
            for `l2` it is the norm of the whole 3×h×w difference, so it grows with the number of
            pixels.
        steps: PGD steps. With 0 the start is returned: the images themselves, or the random start.
        step_size: Length of a step. Per image the l2 norm or the largest change of a value; by
            default 2/3 of `eps` (Salman et al. 2020).
        keep_best: Keep the attack's best iterate, or its last. Per image the first iterate of
            highest loss (lowest if `targeted`), the start included. See below for a single step.
        random_start: Start the attack at a random point. For `l2` at distance `eps` in the
            direction of a standard normal vector, for `linf` uniform in the cube; then cut to
            [0, 1].
        restarts: Further attacks from random points. Per image the run of highest loss (lowest if
            `targeted`) is kept.
        targeted: The label is a class to reach: descend its loss instead of ascending.

    A run costs one forward and one backward a step, and one forward more where the loss of the last
    iterate is needed, for `keep_best` or `restarts`. One exception: with `steps=1` and no
    `restarts` the end of the step is returned unconfirmed even with `keep_best`, so that
    single-step training pays for no second forward; its loss may be below that of the start.

    Raises:
        InputError: An argument is out of range, or `restarts` are wanted without `random_start`.

    Source: Madry et al. 2018 (arXiv:1706.06083), as in MadryLab/robustness 1.2: l2 steps along
    g/(‖g‖₂ + 1e-10), linf steps along sign(g), `torch.renorm` (l2) or clamp (linf) back to the
    ball and then clamp to [0, 1]. Its options are `constraint`, `eps`, `iterations`, `step_size`,
    `use_best`, `random_start`, `random_restarts`, `targeted`, `custom_loss`. Ours differs in this:
    the gradient is that of each image's own loss, not of the batch's mean, so that the 1e-10 does
    not depend on the batch (nothing else does); a single step is not confirmed (above);
    `random_restarts` R there are R runs in all, `restarts` here are runs beside the first; of
    several runs it means to keep the last that fools the model, here the worst loss decides; and
    the ball is always that around the image, it has no `orig_input`.
    """

    norm: Norm = "l2"
    eps: float = 0.05
    steps: Annotated[int, Flag("--attack-steps")] = 3
    step_size: Annotated[float | None, Flag(shown="2/3 of eps")] = None
    keep_best: Annotated[bool, Flag("--best/--last")] = True
    # Where the network agrees with what it is held against, the clean image has no slope to follow.
    random_start: Annotated[
        bool,
        Flag(
            "--random-start/--no-random-start",
            shown="only with --label-free",
            otherwise=lambda given: bool(given.get("label_free") or given.get("restarts")),
        ),
    ] = False
    restarts: int = 0
    targeted: Annotated[bool, NO_FLAG] = False

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise InputError(f"norm: expected l2 or linf, got {self.norm!r}.")
        for name, value in (("eps", self.eps), ("step_size", self.step_size)):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name}: expected a finite number not below 0, got {value!r}.")
        for name, count in (("steps", self.steps), ("restarts", self.restarts)):
            if not isinstance(count, int) or count < 0:
                raise InputError(f"{name}: expected a whole number not below 0, got {count!r}.")
        if self.restarts and not self.random_start:
            raise InputError(
                f"restarts: {self.restarts} further runs would all be the same; set random_start, "
                "or restarts to 0."
            )
