from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.pixel_space import IMAGENET_MEAN, IMAGENET_STD
from invertkit.errors import RecipeError
from invertkit.optimizers.base import Landscape, Optimizer
from invertkit.optimizers.torch_optim import LBFGS, Adam, TorchOptimizer
from invertkit.optimizers.wrappers import Clip, KeepBest
from tests.helpers import normal, same, uniform
from tests.landscapes import FunctionLandscape


class Script(Optimizer):
    """Puts the next value of a list into the parameter, whatever the loss says."""

    def __init__(self, *values: Tensor) -> None:
        self.values, self.finished = values, 0

    def init(self, params: Params) -> dict[str, Any]:
        return {}

    def step(
        self, landscape: Landscape, params: Params, state: Any, *, step: int, total: int
    ) -> Tensor:
        losses = landscape().detach()
        with torch.no_grad():
            params["pixels"].copy_(self.values[step])
        return losses

    def save(self, state: Any) -> dict[str, Any]:
        return {}

    def load(self, params: Params, saved: dict[str, Any]) -> Any:
        return {}

    def finish(self, params: Params, state: Any) -> None:
        self.finished += 1


def run(
    optimizer: Optimizer, param: Tensor, losses: Callable[[Tensor], Tensor], steps: int
) -> tuple[list[float], ...]:
    params = {"pixels": param}
    state, here = optimizer.init(params), FunctionLandscape(lambda _: losses(param), params)
    for step in range(steps):
        optimizer.step(here, params, state, step=step, total=steps)
    optimizer.finish(params, state)
    return tuple(param.detach().tolist())


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers).reshape(-1, 1)


def test_keep_best_goes_back_to_the_best_point_of_each_image() -> None:
    param = column(5.0, 5.0).requires_grad_()
    script = Script(column(1, 9), column(3, 2), column(4, 8))
    found = run(KeepBest(script), param, lambda x: x[:, 0].square(), 3)
    assert found == ([1], [2])
    assert script.finished == 1


def test_the_point_after_the_last_step_does_not_compete() -> None:
    param = column(5.0, 5.0).requires_grad_()
    script = Script(column(3, 7), column(0, 0))
    assert run(KeepBest(script), param, lambda x: x[:, 0].square(), 2) == ([3], [5])


def test_the_first_of_equally_good_points_is_kept() -> None:
    param = column(2.0).requires_grad_()
    script = Script(column(-2), column(7))
    assert run(KeepBest(script), param, lambda x: x[:, 0].square(), 2) == ([2],)


def test_a_loss_that_is_not_a_number_is_never_the_best() -> None:
    param = column(5.0, 5.0).requires_grad_()
    script = Script(column(float("nan"), 4), column(3, float("nan")))
    assert run(KeepBest(script), param, lambda x: x[:, 0].square(), 2) == ([5], [4])


def test_keep_best_lets_the_inner_optimizer_go_its_way() -> None:
    plain, kept = (normal(2, 3).clone().requires_grad_() for _ in range(2))
    inner = Adam(lr=0.05)
    a, b = inner.init({"pixels": plain}), KeepBest(inner).init({"pixels": kept})
    for step in range(5):
        where: dict[str, Any] = {"step": step, "total": 5}
        first = inner.step(
            FunctionLandscape(lambda at: at["pixels"].square().sum(1), {"pixels": plain}),
            {"pixels": plain},
            a,
            **where,
        )
        second = KeepBest(inner).step(
            FunctionLandscape(lambda at: at["pixels"].square().sum(1), {"pixels": kept}),
            {"pixels": kept},
            b,
            **where,
        )
        assert torch.equal(first, second)
        assert torch.equal(plain, kept)


@pytest.mark.parametrize("space", ["unit", "imagenet"])
def test_clip_brings_pixels_into_the_valid_range_of_their_space(space: Any) -> None:
    wide = 20 * normal(2, 3, 4, 5)
    param = uniform(2, 3, 4, 5).requires_grad_()
    run(Clip(Script(wide), space=space), param, lambda x: x.sum((1, 2, 3)), 1)
    for c in range(3):
        low, high = 0.0, 1.0
        if space == "imagenet":
            low = -IMAGENET_MEAN[c] / IMAGENET_STD[c]
            high = (1 - IMAGENET_MEAN[c]) / IMAGENET_STD[c]
        torch.testing.assert_close(param[:, c].detach(), wide[:, c].clamp(low, high))
        assert param[:, c].min().item() == pytest.approx(low, abs=1e-6)
        assert param[:, c].max().item() == pytest.approx(high)


def test_clip_leaves_valid_pixels_alone_and_passes_the_losses_on() -> None:
    param, to = uniform(1, 3, 4, 5).requires_grad_(), uniform(1, 3, 4, 5, seed=1)
    optimizer = Clip(Script(to))
    params = {"pixels": param}
    state, here = optimizer.init(params), FunctionLandscape(lambda _: param.sum((1, 2, 3)), params)
    before = param.sum((1, 2, 3)).detach()
    losses = optimizer.step(here, params, state, step=0, total=1)
    assert torch.equal(losses, before)
    assert torch.equal(param, to)


def test_clip_refuses_what_is_not_pixels() -> None:
    for shape in ((1, 3, 8, 5, 2), (1, 4, 8, 8), (1, 5)):
        with pytest.raises(RecipeError, match="Use it with `pixels`"):
            Clip(Adam()).init({"pixels": torch.zeros(*shape)})


def test_wrappers_pass_the_end_of_a_stage_on() -> None:
    script = Script(uniform(1, 3, 2, 2))
    param = uniform(1, 3, 2, 2).requires_grad_()
    run(Clip(KeepBest(script)), param, lambda x: x.sum((1, 2, 3)), 1)
    assert script.finished == 1


def test_a_wrapper_couples_images_where_its_inner_optimizer_does() -> None:
    for wrap in (Clip, KeepBest):
        assert wrap(LBFGS()).couples_images
        assert wrap(TorchOptimizer("LBFGS")).couples_images
        assert not wrap(Adam()).couples_images


# ---------------------------------------------------------------------- another start


@pytest.mark.parametrize(
    "optimizer",
    [
        Adam(lr=0.1),
        Clip(Adam(lr=0.1)),
        KeepBest(Adam(lr=0.1)),
        Clip(KeepBest(Adam(lr=0.1))),
        TorchOptimizer("SGD", lr=0.1, options={"momentum": 0.9}),
        LBFGS(),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_a_restart_forgets_everything(optimizer: Optimizer) -> None:
    def losses(param: Tensor) -> Tensor:
        return (param - uniform(1, 3, 4, 5, seed=3)).square().flatten(1).sum(1)

    def go_on(state: Any, param: Tensor) -> list[Any]:
        for step in range(4):
            here = FunctionLandscape(lambda points: losses(points["pixels"]), {"pixels": param})
            optimizer.step(here, {"pixels": param}, state, step=step, total=4)
        optimizer.finish({"pixels": param}, state)
        return [param.detach().clone(), optimizer.save(state)]

    param = uniform(1, 3, 4, 5, seed=1).requires_grad_()
    state = optimizer.init({"pixels": param})
    go_on(state, param)
    with torch.no_grad():
        param.copy_(uniform(1, 3, 4, 5, seed=2))
    again = go_on(optimizer.restart({"pixels": param}, state), param)
    other = uniform(1, 3, 4, 5, seed=2).requires_grad_()
    assert same(again, go_on(optimizer.init({"pixels": other}), other))
