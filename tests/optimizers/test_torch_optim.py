from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.schedules import Cosine, Linear, value_at
from invertkit.errors import RecipeError
from invertkit.optimizers.base import Optimizer
from invertkit.optimizers.torch_optim import LBFGS, Adam, TorchOptimizer
from tests.helpers import normal
from tests.landscapes import FunctionLandscape

GOAL = normal(2, 3, seed=9)


def descend(optimizer: Optimizer, steps: int = 6, batch: int = 2) -> tuple[Tensor, list[Tensor]]:
    """Where a narrow valley takes the optimizer, and the losses it returned."""
    param = normal(2, 3)[:batch].clone().requires_grad_()

    def losses() -> Tensor:
        away = param - GOAL[:batch]
        return (away.square() * torch.tensor([1.0, 5.0, 0.2])).sum(1) + away.prod(1).square()

    state, seen = optimizer.init({"pixels": param}), []
    for step in range(steps):
        seen.append(
            optimizer.step(
                FunctionLandscape(lambda _: losses(), {"pixels": param}),
                {"pixels": param},
                state,
                step=step,
                total=steps,
            )
        )
    return param.detach(), [*seen, losses().detach()]


def test_adam_equals_its_formula() -> None:
    lr, (a, b), eps = Cosine("cosine", peak=0.2, warmup=2), (0.5, 0.9), 1e-3
    param = normal(1, 3).clone().requires_grad_()
    x, m, v = param.detach().clone(), torch.zeros(1, 3), torch.zeros(1, 3)
    optimizer = Adam(lr=lr, betas=(a, b), eps=eps)
    state = optimizer.init({"pixels": param})
    for step in range(5):
        optimizer.step(
            FunctionLandscape(lambda _: (param - 1).pow(4).sum(1), {"pixels": param}),
            {"pixels": param},
            state,
            step=step,
            total=5,
        )
        slope = 4 * (x - 1) ** 3
        m, v = a * m + (1 - a) * slope, b * v + (1 - b) * slope**2
        root = (v / (1 - b ** (step + 1))).sqrt() + eps
        x = x - value_at(lr, step, 5) * m / (1 - a ** (step + 1)) / root
        torch.testing.assert_close(param.detach(), x.to(param.dtype))


@pytest.mark.parametrize(
    ("optimizer", "name", "options"),
    [
        (Adam(lr=0.05), "Adam", {}),
        (TorchOptimizer("SGD", lr=0.05, options={"momentum": 0.9}), "SGD", {"momentum": 0.9}),
        (TorchOptimizer("NAdam", lr=0.05), "NAdam", {}),
        (TorchOptimizer("RMSprop", lr=0.05, options={"alpha": 0.5}), "RMSprop", {"alpha": 0.5}),
    ],
)
def test_a_step_is_the_step_of_pytorch(
    optimizer: Optimizer, name: str, options: dict[str, Any]
) -> None:
    found, _ = descend(optimizer)
    param = normal(2, 3).clone().requires_grad_()
    plain = getattr(torch.optim, name)([param], lr=0.05, **options)
    for _ in range(6):
        plain.zero_grad()
        away = param - GOAL
        loss = (away.square() * torch.tensor([1.0, 5.0, 0.2])).sum(1) + away.prod(1).square()
        loss.sum().backward()
        plain.step()
    torch.testing.assert_close(found, param.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("make", [Adam, lambda **k: TorchOptimizer("SGD", **k)])
def test_the_learning_rate_follows_the_steps_of_the_stage(make: Any) -> None:
    schedule = Linear("linear", start=0.0, stop=0.1)
    still, _ = descend(make(lr=schedule), steps=1)
    assert torch.equal(still, normal(2, 3))
    moved, _ = descend(make(lr=schedule), steps=3)
    assert not torch.equal(moved, normal(2, 3))


def test_losses_are_those_before_the_change_also_where_a_step_looks_often() -> None:
    for optimizer in (Adam(), LBFGS(iterations=4)):
        batch = 1 if optimizer.couples_images else 2
        _, losses = descend(optimizer, batch=batch)
        away = normal(2, 3)[:batch] - GOAL[:batch]
        first = (away.square() * torch.tensor([1.0, 5.0, 0.2])).sum(1) + away.prod(1).square()
        torch.testing.assert_close(losses[0], first)
        assert losses[0].shape == (batch,)


def test_lbfgs_finds_the_bottom_of_a_valley() -> None:
    found, losses = descend(LBFGS(iterations=10), steps=4, batch=1)
    torch.testing.assert_close(found, GOAL[:1], atol=1e-4, rtol=0)
    assert losses[-1].item() < 1e-8 * losses[0].item()


def taken(
    optimizer: LBFGS, function: Callable[[Params], Tensor], params: Params, *, steps: int = 3
) -> list[Tensor]:
    """The losses of some steps, which move the tensors; pixels stay within [0, 1]."""
    landscape = FunctionLandscape(function, params)
    landscape = landscape.within("unit") if "pixels" in params else landscape
    state = optimizer.init(params)
    return [
        optimizer.step(landscape, params, state, step=i, total=steps).detach() for i in range(steps)
    ]


def test_a_rate_of_lbfgs_is_a_change_of_variables() -> None:
    """It descends in z and c/r: the slow way is to write the loss so."""
    start, goal = normal(1, 4).double() / 9 + 0.5, torch.linspace(0.2, 0.8, 4).double()[None]

    def loss(z: Tensor, c: Tensor) -> Tensor:
        return ((z - goal).square() + (c - z).pow(4) + (c - goal).square() / 2).sum(1)

    for rate in (0.25, 4.0):
        ours = {name: start.clone().requires_grad_() for name in ("z", "c")}
        seen = taken(LBFGS(iterations=3, rates={"c": rate}), lambda p: loss(p["z"], p["c"]), ours)
        slow = {"z": start.clone().requires_grad_(), "c": (start / rate).requires_grad_()}
        landscape = FunctionLandscape(lambda p, r=rate: loss(p["z"], p["c"] * r), slow)
        rule = torch.optim.LBFGS(
            list(slow.values()), max_iter=3, history_size=10, line_search_fn="strong_wolfe"
        )

        def closure(slow: Params = slow, landscape: Any = landscape) -> Tensor:
            for point in slow.values():
                point.grad = None
            return landscape.gradients().sum()

        wanted = [rule.step(closure).detach() for _ in range(3)]  # type: ignore[arg-type]
        torch.testing.assert_close(torch.cat(seen), torch.stack(wanted))
        torch.testing.assert_close(ours["c"], slow["c"] * rate)
    with pytest.raises(RecipeError, match="rates: this recipe's variable has no tensor 'd'"):
        LBFGS(rates={"d": 1.0}).moves(("z", "c"))


def test_lbfgs_judges_confined_points_alone_and_ends_at_the_lowest_of_them() -> None:
    """The bottom lies outside along two of four axes; the lowest point within is known."""
    goal = torch.tensor([1.5, 0.25, -0.5, 0.75]).double().reshape(1, 1, 1, 4).expand(1, 3, 1, 4)
    judged: list[Tensor] = []

    def loss(params: Params) -> Tensor:
        judged.append(params["pixels"].detach().clone())
        away = params["pixels"] - goal
        return (away.square() * torch.tensor([1.0, 9.0, 3.0, 0.2])).sum((1, 2, 3))

    params = {"pixels": torch.full((1, 3, 1, 4), 0.5).double().requires_grad_()}
    taken(LBFGS(iterations=10), loss, params)
    assert all((point >= 0).all() and (point <= 1).all() for point in judged)
    torch.testing.assert_close(params["pixels"].detach(), goal.clamp(0, 1))


def test_lbfgs_goes_on_from_where_somebody_has_put_the_tensors() -> None:
    params = {"pixels": normal(1, 3).double().requires_grad_()}
    landscape = FunctionLandscape(lambda p: p["pixels"].pow(4).sum(1), params)
    optimizer = LBFGS(iterations=1)
    state = optimizer.init(params)
    optimizer.step(landscape, params, state, step=0, total=2)
    with torch.no_grad():
        params["pixels"].fill_(2.0)
    losses = optimizer.step(landscape, params, state, step=1, total=2)
    assert losses.item() == 3 * 2.0**4
    assert (params["pixels"] < 2).all()


def test_who_mixes_the_images_of_a_batch_says_so() -> None:
    assert LBFGS().couples_images
    assert TorchOptimizer("LBFGS").couples_images
    assert TorchOptimizer("Adafactor").couples_images
    for name in ("SGD", "Adam", "AdamW", "RMSprop", "NAdam", "Adagrad"):
        assert not TorchOptimizer(name).couples_images
    assert not Adam().couples_images


@pytest.mark.parametrize(
    "name",
    ["SGD", "ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop",
     "Rprop"],
)  # fmt: skip
def test_rules_said_to_be_elementwise_are(name: str) -> None:
    together, _ = descend(TorchOptimizer(name, lr=0.05))
    alone, _ = descend(TorchOptimizer(name, lr=0.05), batch=1)
    torch.testing.assert_close(together[:1], alone, rtol=1e-12, atol=0)
    assert not torch.equal(alone, normal(2, 3)[:1])


def test_an_unknown_rule_or_option_is_named_with_a_suggestion() -> None:
    with pytest.raises(RecipeError, match=r"no 'Adaam'\. Did you mean 'Adam'\?.*SGD"):
        TorchOptimizer("Adaam")
    with pytest.raises(RecipeError, match=r"no 'Optimizer'"):
        TorchOptimizer("Optimizer")
    with pytest.raises(RecipeError, match=r"takes no option 'momentun'. Did you mean 'momentum"):
        TorchOptimizer("SGD", options={"momentun": 0.9})
    for reserved in ("lr", "params"):
        with pytest.raises(RecipeError, match="takes no option"):
            TorchOptimizer("SGD", options={reserved: 1})


@pytest.mark.parametrize("make", [Adam, LBFGS, lambda lr: TorchOptimizer("SGD", lr=lr)])
def test_a_learning_rate_below_zero_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="not below 0, got -1"):
        make(lr=-1)
