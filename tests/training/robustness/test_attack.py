from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError, ShapeError
from invertkit.training.robustness.attack import Attack
from invertkit.training.robustness.pgd import draw_start, pgd
from tests.helpers import global_generators_unmoved, normal, tiny_classifier, uniform

Norm = Literal["l2", "linf"]
norms = st.sampled_from(["l2", "linf"])
LABELS = torch.tensor([0, 1, 2])


def losses(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return F.cross_entropy(model(images), labels, reduction="none")


def lengths(difference: Tensor, norm: str) -> Tensor:
    flat = difference.flatten(1)
    return flat.abs().max(1).values if norm == "linf" else flat.norm(dim=1)


def drawn(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Counted(nn.Module):
    """A model that counts its forwards."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.forwards = model, 0

    def forward(self, images: Tensor) -> Tensor:
        self.forwards += 1
        logits: Tensor = self.model(images)
        return logits


class Steep(nn.Module):
    """Logits that bend, and that a small change of the image changes a lot."""

    def __init__(self, dtype: torch.dtype = torch.float64, side: int = 8) -> None:
        super().__init__()
        self.first = normal(3 * side**2, 12, seed=1).to(dtype)
        self.second = normal(12, 5, seed=2).to(dtype)
        self.usual = self.first.sum(0) / 2

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = (images.flatten(1) @ self.first - self.usual).tanh() @ self.second
        return logits


# ---------------------------------------------------------------------- the library's algorithm


def slowly(
    model: nn.Module,
    image: Tensor,
    label: Tensor,
    first: Tensor | None,
    attack: Attack,
    step_size: float,
) -> tuple[Tensor, float]:
    """One image, value by value where that can be done: the robustness library from its facts."""
    values = image.flatten().tolist()

    def projected(point: list[float]) -> list[float]:
        difference = [p - v for p, v in zip(point, values, strict=True)]
        if attack.norm == "linf":
            difference = [min(max(d, -attack.eps), attack.eps) for d in difference]
        else:
            length = sum(d * d for d in difference) ** 0.5
            if length > attack.eps:
                difference = [d * attack.eps / (length + 1e-7) for d in difference]
        return [min(max(v + d, 0.0), 1.0) for v, d in zip(values, difference, strict=True)]

    def tensor(point: list[float]) -> Tensor:
        return torch.tensor(point, dtype=torch.float64).reshape(1, *image.shape)

    def loss(point: Tensor) -> Tensor:
        return -torch.log_softmax(model(point), 1)[0, label]

    here = list(values)
    if first is not None:
        moved = (v + o for v, o in zip(values, first.flatten().tolist(), strict=True))
        here = [min(max(v, 0.0), 1.0) for v in moved]
    seen: list[tuple[float, list[float]]] = []
    sign = -1 if attack.targeted else 1
    for _ in range(attack.steps):
        point = tensor(here).requires_grad_()
        value = loss(point)
        (gradient,) = torch.autograd.grad(sign * value, point)
        seen.append((float(value.detach()), here))
        slope = gradient.flatten().tolist()
        if attack.norm == "linf":
            step = [(s > 0) - (s < 0) for s in slope]
        else:
            length = sum(s * s for s in slope) ** 0.5
            step = [s / (length + 1e-10) for s in slope]
        here = projected([h + step_size * s for h, s in zip(here, step, strict=True)])
    with torch.no_grad():
        seen.append((float(loss(tensor(here))), here))
    if attack.keep_best:
        best = max(range(len(seen)), key=lambda i: sign * seen[i][0])  # the first of the best
        return tensor(seen[best][1])[0], seen[best][0]
    return tensor(here)[0], seen[-1][0]


def offsets_slowly(attack: Attack, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if attack.norm == "linf":
        noise = torch.rand(shape, generator=generator, dtype=torch.float64)
        return attack.eps * 2 * (noise - 0.5)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return torch.stack([attack.eps * row / (row.square().sum().sqrt() + 1e-10) for row in noise])


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("steps", [0, 2, 4])
@pytest.mark.parametrize("start", ["none", "random", "restarts"])
def test_it_is_the_algorithm_of_the_library(norm: Norm, steps: int, start: str) -> None:
    model, images = Steep(), uniform(3, 3, 8, 8)
    restarts = 2 if start == "restarts" else 0
    for keep_best, targeted, size in itertools.product((True, False), (True, False), (None, 2.0)):
        eps = 0.6 if norm == "l2" else 0.05
        attack = Attack(
            norm, eps, steps, size and size * eps, keep_best=keep_best, targeted=targeted,
            random_start=start != "none", restarts=restarts,
        )  # fmt: skip
        found = pgd(attack, model, images, LABELS, generator=None if start == "none" else drawn())
        generator, runs = drawn(), []
        for _ in range(1 + restarts):
            offset = None if start == "none" else offsets_slowly(attack, images.shape, generator)
            firsts = [None] * 3 if offset is None else list(offset)
            runs.append([
                slowly(model, image, label, first, attack, (size or 2 / 3) * eps)
                for image, label, first in zip(images, LABELS, firsts, strict=True)
            ])  # fmt: skip
        sign = -1 if targeted else 1
        for i, point in enumerate(found):
            expected, _ = max((run[i] for run in runs), key=lambda one: sign * one[1])
            assert torch.allclose(point, expected, rtol=0, atol=1e-12), (attack, i)


def test_a_single_step_is_not_confirmed() -> None:
    """One step beyond the top of the loss: kept although the start was worse for the model."""
    model = _Valley()
    images = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)
    label = torch.tensor([0])
    found = pgd(Attack("linf", 0.4, 1, 0.4), model, images + 0.01, label)
    assert losses(model, found, label) < losses(model, images + 0.01, label)
    longer = pgd(Attack("linf", 0.4, 2, 0.4), model, images + 0.01, label)
    assert losses(model, longer, label) >= losses(model, images + 0.01, label)


class _Valley(nn.Module):
    """Two logits: w² − 0.1|w| and 0, with w the mean value less 0.5; worst for class 0 at 0.05."""

    def forward(self, images: Tensor) -> Tensor:
        w = images.flatten(1).mean(1) - 0.5
        return torch.stack([20 * (w * w - 0.1 * w.abs()), torch.zeros_like(w)], 1)


# ---------------------------------------------------------------------- laws


@given(
    norm=norms,
    eps=st.floats(0.01, 2.0),
    steps=st.integers(0, 4),
    keep=st.booleans(),
    random=st.booleans(),
    targeted=st.booleans(),
    single=st.booleans(),
)
def test_an_attack_stays_in_its_ball_and_in_the_box(
    *, norm: Norm, eps: float, steps: int, keep: bool, random: bool, targeted: bool, single: bool
) -> None:
    dtype = torch.float32 if single else torch.float64
    model, images = Steep(dtype), uniform(3, 3, 8, 8, dtype=dtype)
    attack = Attack(norm, eps, steps, keep_best=keep, random_start=random, targeted=targeted)
    moved = pgd(attack, model, images, LABELS, generator=drawn())
    slack = 1e-5 if single else 1e-12
    assert (lengths((moved - images).double(), norm) <= eps * (1 + slack) + slack).all()
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert moved.dtype == dtype
    assert not moved.requires_grad


@given(norm=norms, eps=st.floats(0.01, 3.0), size=st.floats(0.1, 5.0), steps=st.integers(2, 4))
def test_the_best_iterate_never_lowers_the_loss(
    norm: Norm, eps: float, size: float, steps: int
) -> None:
    model, images = tiny_classifier(), uniform(3, 3, 16, 16)
    moved = pgd(Attack(norm, eps, steps, step_size=size), model, images, LABELS)
    assert (losses(model, moved, LABELS) >= losses(model, images, LABELS)).all()
    reached = pgd(Attack(norm, eps, steps, step_size=size, targeted=True), model, images, LABELS)
    assert (losses(model, reached, LABELS) <= losses(model, images, LABELS)).all()


@given(norm=norms, eps=st.floats(0.05, 2.0), size=st.floats(0.1, 3.0), targeted=st.booleans())
def test_more_steps_and_more_restarts_are_never_worse(
    *, norm: Norm, eps: float, size: float, targeted: bool
) -> None:
    model, images = Steep(), uniform(3, 3, 8, 8)
    sign = -1 if targeted else 1

    def reached(steps: int, restarts: int) -> Tensor:
        attack = Attack(
            norm, eps, steps, size * eps, targeted=targeted, random_start=True, restarts=restarts
        )
        moved = pgd(attack, model, images, LABELS, generator=drawn())
        return sign * losses(model, moved, LABELS)

    by_steps = [reached(steps, 0) for steps in (1, 2, 4)]
    by_restarts = [reached(2, restarts) for restarts in (0, 1, 3)]
    for few, many in itertools.chain(itertools.pairwise(by_steps), itertools.pairwise(by_restarts)):
        assert (many >= few - 1e-12).all()


def test_further_restarts_find_worse_points() -> None:
    model, images = Steep(), uniform(3, 3, 8, 8)
    alone, several = (
        Attack("l2", 1.0, 1, 0.3, random_start=True, restarts=restarts) for restarts in (0, 6)
    )
    few = losses(model, pgd(alone, model, images, LABELS, generator=drawn()), LABELS)
    many = losses(model, pgd(several, model, images, LABELS, generator=drawn()), LABELS)
    assert (many > few).any()


def test_of_equal_iterates_the_first_is_kept() -> None:
    """A loss that slopes and yet stays 0."""
    level = lambda logits, label: (logits - logits.detach())[:, 0]
    images = uniform(3, 3, 8, 8)
    moved = pgd(Attack("linf", 0.1, 3), tiny_classifier(), images, LABELS, loss=level)
    assert torch.equal(moved, images)
    last = pgd(
        Attack("linf", 0.1, 3, keep_best=False), tiny_classifier(), images, LABELS, loss=level
    )
    assert not torch.equal(last, images)


class _Linear(nn.Module):
    """Two logits: w·x and 0."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weights).flatten(1).sum(1)
        return torch.stack([score, torch.zeros_like(score)], 1)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("targeted", [False, True])
def test_a_linear_model_is_attacked_optimally(*, norm: Norm, steps: int, targeted: bool) -> None:
    weights = uniform(3, 8, 8, seed=1) - 0.5
    images = torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)  # away from the box
    attack = Attack(norm, 0.1, steps, step_size=0.1, targeted=targeted)
    moved = pgd(attack, _Linear(weights), images, torch.tensor([1 if targeted else 0]))
    direction = weights.sign() if norm == "linf" else weights / weights.norm()
    assert torch.allclose(moved - images, -0.1 * direction[None], rtol=0, atol=2e-7)


@given(norm=norms, keep=st.booleans(), scale=st.sampled_from([1e-9, 1.0, 1e9]))
def test_images_of_a_batch_are_attacked_alone(*, norm: Norm, keep: bool, scale: float) -> None:
    """Also where gradients are so small that the 1e-10 counts: it must not count the batch."""
    model, images = tiny_classifier(), uniform(3, 3, 16, 16)
    loss = lambda logits, label: scale * F.cross_entropy(logits, label, reduction="none")
    attack = Attack(norm, 0.5, 3, keep_best=keep)
    together = pgd(attack, model, images, LABELS, loss=loss)
    for i in range(3):
        alone = pgd(attack, model, images[i : i + 1], LABELS[i : i + 1], loss=loss)
        assert torch.allclose(together[i : i + 1], alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("attack", [Attack(steps=0), Attack(eps=0.0)])
def test_an_attack_without_steps_or_radius_changes_nothing(attack: Attack) -> None:
    images = uniform(1, 3, 16, 16)
    assert pgd(attack, tiny_classifier(), images, torch.tensor([0])) is images


# ---------------------------------------------------------------------- losses and labels


def test_soft_labels_and_other_losses_are_attacked() -> None:
    model, images = Steep(), uniform(3, 3, 8, 8)
    hard = F.one_hot(LABELS, 5).double()
    attack = Attack("l2", 0.5, 3)
    assert torch.allclose(
        pgd(attack, model, images, hard), pgd(attack, model, images, LABELS), atol=1e-12
    )

    clean = model(images).softmax(1)
    divergence: Callable[[Tensor, Tensor], Tensor] = lambda logits, target: F.kl_div(
        logits.log_softmax(1), target, reduction="none"
    ).sum(1)
    start, moved = (
        divergence(model(point), clean)
        for point in (
            pgd(
                Attack("l2", 0.5, steps, random_start=True),
                model,
                images,
                clean,
                loss=divergence,
                generator=drawn(),
            )
            for steps in (0, 3)
        )
    )
    assert (moved > 2 * start).all()


def test_the_loss_gets_single_precision_at_least() -> None:
    seen: list[torch.dtype] = []

    def loss(logits: Tensor, label: Tensor) -> Tensor:
        seen.append(logits.dtype)
        return F.cross_entropy(logits, label, reduction="none")

    images = uniform(3, 3, 8, 8)
    attack = Attack(steps=1)
    pgd(attack, tiny_classifier(), images, LABELS, loss=loss)
    half = lambda x: tiny_classifier(torch.float32)(x).bfloat16()
    pgd(attack, half, images.float(), LABELS, loss=loss)  # type: ignore[arg-type]
    assert seen == [torch.float64, torch.float32]


# ---------------------------------------------------------------------- random starts


@given(norm=norms, eps=st.floats(0.01, 0.3), seed=st.integers(0, 1000))
def test_random_starts_are_those_of_the_norm(norm: Norm, eps: float, seed: int) -> None:
    attack = Attack(norm, eps, random_start=True)
    offsets = draw_start(attack, (4, 3, 8, 8), drawn(seed), like=uniform(1))
    if norm == "l2":
        assert torch.allclose(lengths(offsets, "l2"), torch.full((4,), eps).double())
    else:
        assert 0.9 * eps < offsets.abs().max() <= eps
        assert (offsets > 0).double().mean() == pytest.approx(0.5, abs=0.1)
    images = uniform(4, 3, 8, 8)
    start = pgd(
        Attack(norm, eps, 0, random_start=True),
        tiny_classifier(),
        images,
        torch.zeros(4, dtype=torch.long),
        generator=drawn(seed),
    )
    assert torch.allclose(start, (images + offsets).clamp(0, 1), atol=1e-9)


@given(norm=norms, parts=st.sampled_from([(1, 3), (2, 2), (1, 1, 2)]))
def test_parts_of_one_draw_are_the_whole(norm: Norm, parts: tuple[int, ...]) -> None:
    """Several processes that cut one draw attack as one process does."""
    model, images = tiny_classifier(), uniform(4, 3, 8, 8)
    labels = torch.tensor([0, 1, 2, 3])
    attack = Attack(norm, 0.3, 2, random_start=True)
    whole = pgd(attack, model, images, labels, generator=drawn())
    start = draw_start(attack, images.shape, drawn(), like=images)
    rows = zip(images.split(parts), labels.split(parts), start.split(parts), strict=True)
    pieces = [pgd(attack, model, x, y, start=s) for x, y, s in rows]
    assert torch.allclose(torch.cat(pieces), whole, rtol=0, atol=1e-12)


@given(norm=norms, scale=st.floats(0.1, 50))
def test_a_given_start_is_brought_into_the_ball(norm: Norm, scale: float) -> None:
    images = uniform(2, 3, 8, 8)
    moved = pgd(
        Attack(norm, 0.2, 0),
        tiny_classifier(),
        images,
        torch.tensor([0, 1]),
        start=scale * normal(2, 3, 8, 8),
    )
    assert (lengths(moved - images, norm) <= 0.2 * (1 + 1e-12)).all()
    assert (moved != images).any()
    assert moved.min() >= 0
    assert moved.max() <= 1


def test_only_the_given_generator_is_read() -> None:
    images = uniform(3, 3, 8, 8)
    attack = Attack(random_start=True, restarts=1)
    with global_generators_unmoved():
        first = pgd(attack, tiny_classifier(), images, LABELS, generator=drawn(1))
    assert torch.equal(first, pgd(attack, tiny_classifier(), images, LABELS, generator=drawn(1)))
    assert not torch.equal(
        first, pgd(attack, tiny_classifier(), images, LABELS, generator=drawn(2))
    )


# ---------------------------------------------------------------------- cost


@pytest.mark.parametrize(
    ("options", "forwards"),
    [
        ({"steps": 0}, 0),
        ({"steps": 1}, 1),
        ({"steps": 3}, 4),
        ({"steps": 3, "keep_best": False}, 3),
        ({"steps": 0, "random_start": True}, 0),
        ({"steps": 1, "random_start": True, "restarts": 2}, 6),
        ({"steps": 3, "keep_best": False, "random_start": True, "restarts": 1}, 8),
        ({"eps": 0.0}, 0),
    ],
)
def test_no_forward_is_wasted(options: dict[str, Any], forwards: int) -> None:
    model = Counted(tiny_classifier())
    pgd(Attack(**options), model, uniform(3, 3, 8, 8), LABELS, generator=drawn())
    assert model.forwards == forwards


def test_weights_get_no_gradient() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5)).double()
    hooked: list[Tensor] = []
    for parameter in net.parameters():
        parameter.register_hook(hooked.append)
    pgd(Attack(steps=2), net, uniform(3, 3, 8, 8), LABELS)
    assert not hooked
    assert all(parameter.grad is None for parameter in net.parameters())


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "l1"}, "norm: expected l2 or linf, got 'l1'"),
        ({"eps": -0.1}, "eps: expected a finite number not below 0, got -0.1"),
        ({"eps": float("nan")}, "eps: expected a finite number"),
        ({"step_size": -1.0}, "step_size: expected a finite number not below 0"),
        ({"steps": -1}, "steps: expected a whole number not below 0, got -1"),
        ({"steps": 1.5}, "steps: expected a whole number"),
        ({"restarts": -1, "random_start": True}, "restarts: expected a whole number"),
        ({"restarts": 2}, "restarts: 2 further runs would all be the same; set random_start"),
    ],
)
def test_arguments_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Attack(**options)


def test_what_does_not_fit_the_images_is_refused() -> None:
    model, images = Steep(), uniform(3, 3, 8, 8)
    with pytest.raises(InputError, match=r"a random start needs a torch\.Generator"):
        pgd(Attack(random_start=True), model, images, LABELS)
    with pytest.raises(InputError, match=r"a random start needs a torch\.Generator"):
        pgd(Attack(random_start=True, restarts=1), model, images, LABELS, start=images * 0)
    with pytest.raises(ShapeError, match="label: expected one for each of 3 images, got 2"):
        pgd(Attack(), model, images, LABELS[:2])
    with pytest.raises(ShapeError, match=r"start: expected the images' shape \(3, 3, 8, 8\)"):
        pgd(Attack(), model, images, LABELS, start=images[:1])
    with pytest.raises(ShapeError, match=r"loss: expected one number for each of 3 images"):
        pgd(Attack(), model, images, LABELS, loss=F.cross_entropy)
