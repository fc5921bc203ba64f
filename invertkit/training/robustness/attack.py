"""Projected gradient descent in a small ball around each image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError, ShapeError

Norm = Literal["l2", "linf"]
Loss = Callable[[Tensor, Tensor], Tensor]


@final
@dataclass(frozen=True)
class Attack:
    """PGD in a ball around each image, one independent problem per image.

    Args:
        norm: `"l2"` or `"linf"`.
        eps: Radius of the closed ball, in the units of images in [0, 1] (for `l2` the norm of the
            whole 3×h×w difference, so it grows with the number of pixels); 0 returns the images
            unchanged.
        steps: Gradient steps; 0 returns the start: the images themselves, or the random start.
        step_size: Length of one step, per image the l2 norm or the largest change of a value; by
            default 2/3 of `eps` (Salman et al. 2020).
        keep_best: Return, per image, the first iterate of highest loss (lowest if `targeted`), the
            start included, instead of the last. See below for a single step.
        random_start: Start at a random point: for `l2` at distance `eps` in the direction of a
            standard normal vector, for `linf` uniform in the cube; then cut to [0, 1].
        restarts: Further runs from further random starts; per image the run of highest loss
            (lowest if `targeted`) is kept.
        targeted: The label is a class to reach: descend its loss instead of ascending.

    The model is run as it stands: put it in `eval` mode first, as the library below does. Weights
    receive no gradient. Nothing is read back from the device between the steps.

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
    steps: int = 3
    step_size: float | None = None
    keep_best: bool = True
    random_start: bool = False
    restarts: int = 0
    targeted: bool = False

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

    def __call__(
        self,
        model: nn.Module,
        image: Float[Tensor, "b 3 h w"],
        label: Shaped[Tensor, "b ..."],
        *,
        loss: Loss | None = None,
        generator: torch.Generator | None = None,
        start: Float[Tensor, "b 3 h w"] | None = None,
    ) -> Float[Tensor, "b 3 h w"]:
        """Points of [0, 1] inside the ball around `image` on which `model` does worse at `label`.

        Args:
            model: From images in [0, 1] to logits `(b, k)`.
            image: In [0, 1].
            label: Class numbers `(b,)`, probabilities `(b, k)`, or whatever `loss` takes.
            loss: Replaces cross-entropy: from logits and `label` to one number an image, `(b,)`.
            generator: Draws the random starts, on its own device.
            start: The first offset from `image`, instead of a drawn one, whether or not
                `random_start` is set; it is brought into the ball and the box. `draw_start` makes
                one, for instance for the whole batch that several processes share.

        Raises:
            InputError: A random start is needed and there is no `generator`.
            ShapeError: `label` or `start` does not fit `image`, or `loss` is not one per image.
        """
        if len(label) != len(image):
            raise ShapeError(
                f"label: expected one for each of {len(image)} images, got {len(label)}."
            )
        if start is not None and start.shape != image.shape:
            raise ShapeError(
                f"start: expected the images' shape {tuple(image.shape)}, got {tuple(start.shape)}."
            )
        if self.eps == 0:
            return image
        drawn = self.random_start and (start is None or self.restarts > 0)
        if drawn and generator is None:
            raise InputError(
                "generator: a random start needs a torch.Generator to draw it, got none."
            )
        score = self._score(loss or _cross_entropy)
        best, highest = image, image.new_full((len(image),), -torch.inf)
        for run in range(1 + self.restarts):
            first = image
            if run == 0 and start is not None:
                first = self._project(image, image + start)
            elif self.random_start and generator is not None:
                offset = self.draw_start(image.shape, generator, like=image)
                first = self._project(image, image + offset)
            here, values = self._run(model, image, label, first, score)
            if not self.restarts:
                return here
            best, highest = _better(best, highest, here, values)
        return best

    def draw_start(
        self, shape: tuple[int, ...], generator: torch.Generator, *, like: Tensor | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Random first offsets `(b, 3, h, w)`, as `random_start` says, not yet cut to [0, 1].

        Args:
            shape: `(b, 3, h, w)`.
            generator: Draws, on its own device.
            like: A tensor whose device and dtype are wanted; otherwise the generator's device, and
                float32.

        Cut by rows, one draw serves several processes that share a batch.
        """
        dtype = torch.float32 if like is None else like.dtype
        device = generator.device if like is None else like.device
        options = {"generator": generator, "device": generator.device, "dtype": dtype}
        offset: Tensor
        if self.norm == "linf":
            offset = (torch.rand(shape, **options) * 2 - 1) * self.eps  # type: ignore[call-overload]
        else:
            offset = torch.randn(shape, **options)  # type: ignore[call-overload]
            offset = offset * (self.eps / (_length(offset) + 1e-10))
        return offset.to(device)

    def _score(self, loss: Loss) -> Loss:
        """What is ascended, in at least single precision, `(b,)`."""
        sign = -1 if self.targeted else 1

        def score(logits: Tensor, label: Tensor) -> Tensor:
            precise = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
            values = loss(precise, label)
            if values.shape != logits.shape[:1]:
                raise ShapeError(
                    f"loss: expected one number for each of {len(logits)} images, got the shape "
                    f"{tuple(values.shape)}."
                )
            return sign * values

        return score

    def _run(
        self, model: nn.Module, image: Tensor, label: Tensor, first: Tensor, score: Loss
    ) -> tuple[Tensor, Tensor]:
        """One run from `first`: its result, and the result's score where `restarts` compare it."""
        size = self.step_size if self.step_size is not None else self.eps * 2 / 3
        here = best = first
        highest = image.new_full((len(image),), -torch.inf)
        for _ in range(self.steps):
            here = here.detach().requires_grad_()
            values = score(model(here), label)
            (gradient,) = torch.autograd.grad(values.sum(), here)
            with torch.no_grad():
                if self.keep_best:
                    best, highest = _better(best, highest, here, values)
                here = self._project(image, here + size * self._direction(gradient))
        if self.steps > 0:
            here = here.detach()
        if not self.restarts and (not self.keep_best or self.steps <= 1):
            return here, highest
        with torch.no_grad():
            values = score(model(here), label)
        return _better(best, highest, here, values)

    def _direction(self, gradient: Tensor) -> Tensor:
        if self.norm == "linf":
            return gradient.sign()
        direction: Tensor = gradient / (_length(gradient) + 1e-10)
        return direction

    def _project(self, centre: Tensor, point: Tensor) -> Tensor:
        difference = point - centre
        if self.norm == "linf":
            difference = difference.clamp(-self.eps, self.eps)
        else:
            difference = difference.renorm(p=2, dim=0, maxnorm=self.eps)
        return (centre + difference).clamp(0, 1)


def _cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    return F.cross_entropy(logits, label, reduction="none")


def _length(values: Tensor) -> Tensor:
    """The l2 norm of each image's values, `(b, 1, 1, 1)`."""
    lengths: Tensor = values.flatten(1).norm(dim=1)
    return lengths[:, None, None, None]


def _better(best: Tensor, highest: Tensor, here: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    values = values.detach().to(highest.dtype)
    improved = values > highest
    return (
        torch.where(improved[:, None, None, None], here.detach(), best),
        torch.where(improved, values, highest),
    )
