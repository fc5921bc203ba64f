"""Projected gradient descent in a small ball around each image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError, ShapeError
from invertkit.training.robustness.attack import Attack

Loss = Callable[[Tensor, Tensor], Tensor]


def pgd(
    attack: Attack,
    model: nn.Module,
    image: Float[Tensor, "b 3 h w"],
    label: Shaped[Tensor, "labels ..."],
    *,
    loss: Loss | None = None,
    generator: torch.Generator | None = None,
    start: Float[Tensor, "starts ..."] | None = None,
) -> Float[Tensor, "b 3 h w"]:
    """Points of [0, 1] inside the ball around `image` on which `model` does worse at `label`.

    The model is run as it stands: put it in `eval` mode first, as MadryLab/robustness does. Weights
    receive no gradient. Nothing is read back from the device between the steps.

    Args:
        attack: Norm, radius and steps; its page says how this differs from that library.
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

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        >>> image = torch.full((1, 3, 2, 2), 0.5)
        >>> moved = pgd(Attack("linf", 0.1, steps=2), model, image, torch.tensor([0]))
        >>> round(float((moved - image).abs().max()), 3)
        0.1
    """
    _expect_fitting(image, label, start)
    if attack.eps == 0:
        return image
    drawn = attack.random_start and (start is None or attack.restarts > 0)
    if drawn and generator is None:
        raise InputError("generator: a random start needs a torch.Generator to draw it, got none.")
    score = _score(loss or _cross_entropy, sign=-1 if attack.targeted else 1)
    # Below any loss, so that the first run always counts, and a loss that is NaN never does.
    worst, highest = image, image.new_full((len(image),), -torch.inf)
    for run in range(1 + attack.restarts):
        first = image
        if run == 0 and start is not None:
            first = _project(attack, image, image + start)
        elif attack.random_start and generator is not None:
            offset = draw_start(attack, image.shape, generator, like=image)
            first = _project(attack, image, image + offset)
        point, values = _run(attack, model, image, label, first, score)
        if not attack.restarts:
            return point
        worst, highest = _worse(worst, highest, point, values)
    return worst


def _expect_fitting(image: Tensor, label: Tensor, start: Tensor | None) -> None:
    if len(label) != len(image):
        raise ShapeError(f"label: expected one for each of {len(image)} images, got {len(label)}.")
    if start is not None and start.shape != image.shape:
        raise ShapeError(
            f"start: expected the images' shape {tuple(image.shape)}, got {tuple(start.shape)}."
        )


def draw_start(
    attack: Attack,
    shape: tuple[int, ...],
    generator: torch.Generator,
    *,
    like: Tensor | None = None,
) -> Float[Tensor, "b 3 h w"]:
    """Random first offsets `(b, 3, h, w)`, as `random_start` says, not yet cut to [0, 1].

    Args:
        attack: Its norm and radius.
        shape: `(b, 3, h, w)`.
        generator: Draws, on its own device.
        like: A tensor whose device and dtype are wanted; otherwise the generator's device, and
            float32.

    Cut by rows, one draw serves several processes that share a batch.

    Example:
        >>> offset = draw_start(Attack("l2", 0.5), (2, 3, 4, 4), torch.Generator())
        >>> [round(length, 3) for length in offset.flatten(1).norm(dim=1).tolist()]
        [0.5, 0.5]
    """
    dtype = torch.float32 if like is None else like.dtype
    device = generator.device if like is None else like.device
    # A generator draws on its own device alone; what it drew is moved.
    options = {"generator": generator, "device": generator.device, "dtype": dtype}
    offset: Tensor
    if attack.norm == "linf":
        offset = (torch.rand(shape, **options) * 2 - 1) * attack.eps  # type: ignore[call-overload]
    else:
        offset = torch.randn(shape, **options)  # type: ignore[call-overload]
        offset = offset * (attack.eps / (_length(offset) + 1e-10))
    return offset.to(device)


def _score(loss: Loss, *, sign: int) -> Loss:
    """What is ascended, in at least single precision, `(b,)`."""

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
    attack: Attack, model: nn.Module, image: Tensor, label: Tensor, first: Tensor, score: Loss
) -> tuple[Tensor, Tensor]:
    """One run from `first`: its result, and the result's score where `restarts` compare it."""
    size = attack.step_size if attack.step_size is not None else attack.eps * 2 / 3
    point = worst = first
    highest = image.new_full((len(image),), -torch.inf)
    for _ in range(attack.steps):
        point = point.detach().requires_grad_()
        values = score(model(point), label)
        # The sum, not the mean: so the 1e-10 below means the same for an image alone.
        (gradient,) = torch.autograd.grad(values.sum(), point)
        with torch.no_grad():
            if attack.keep_best:
                worst, highest = _worse(worst, highest, point, values)
            point = _project(attack, image, point + size * _direction(attack, gradient))
    if attack.steps > 0:
        point = point.detach()
    if not attack.restarts and (not attack.keep_best or attack.steps <= 1):
        return point, highest  # a single step is not paid for with a second forward
    with torch.no_grad():
        values = score(model(point), label)
    return _worse(worst, highest, point, values)


def _direction(attack: Attack, gradient: Tensor) -> Tensor:
    if attack.norm == "linf":
        return gradient.sign()
    direction: Tensor = gradient / (_length(gradient) + 1e-10)
    return direction


def _project(attack: Attack, centre: Tensor, point: Tensor) -> Tensor:
    difference = point - centre
    if attack.norm == "linf":
        difference = difference.clamp(-attack.eps, attack.eps)
    else:
        difference = difference.renorm(p=2, dim=0, maxnorm=attack.eps)
    return (centre + difference).clamp(0, 1)


def _cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    return F.cross_entropy(logits, label, reduction="none")


def _length(values: Tensor) -> Tensor:
    """The l2 norm of each image's values, `(b, 1, 1, 1)`."""
    lengths: Tensor = values.flatten(1).norm(dim=1)
    return lengths[:, None, None, None]


def _worse(worst: Tensor, highest: Tensor, point: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    values = values.detach().to(highest.dtype)
    higher = values > highest
    return (
        torch.where(higher[:, None, None, None], point.detach(), worst),
        torch.where(higher, values, highest),
    )
