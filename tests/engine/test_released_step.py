"""One step of the engine equals one iteration of the released MAGIC loop, number by number."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from released import Released
from step import calibrated, make_released, same_problem

from invertkit.core.randomness import Randomness
from invertkit.engine.run import Run, StepReport

SIZE = 64

ITERATIONS = {
    1: "the first: no critic, the segmenter learns",
    5_000: "the last without critic",
    5_001: "the first with a critic, which has not learnt",
    5_005: "the first at which the critic learns",
    9_999: "the last at which the segmenter learns",
    10_000: "only the critic learns",
}


def take_one(
    make: Callable[..., nn.Module], iteration: int
) -> tuple[Released, Run, StepReport, float]:
    """Both loops after the same step from the same state; the loss of the released one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(iteration)
        net = calibrated(make(weights=None), SIZE).double()
        loop = make_released(net, SIZE, dtype=torch.float64)
    loop.iteration = iteration
    run = same_problem(loop)
    alpha = Randomness((0,)).uniform("players/critic/mix/0", (1, 1, 1), step=iteration - 1)
    loss = loop.step(alpha)
    return loop, run, next(run.steps()), loss


def assert_equal(ours: Tensor, released: Tensor) -> None:
    """As near as two orders of the same float64 sums can be."""
    torch.testing.assert_close(ours, released, rtol=1e-9, atol=1e-12)


def assert_same_step(make: Callable[..., nn.Module], iteration: int) -> None:
    loop, run, report, loss = take_one(make, iteration)

    assert set(report.values) == set(loop.values)
    for name, value in loop.values.items():
        assert value != 0, f"a {name} of 0 tests nothing"
        assert_equal(report.values[name], value.reshape(1))
    assert_equal(report.losses, torch.tensor([loss], dtype=torch.float64))

    x = run.params["pixels"]
    assert x.grad is not None
    assert loop.x.grad is not None
    assert (x.grad - loop.x.grad).norm() < 1e-9 * loop.x.grad.norm()
    assert_equal(x, loop.x)

    players = run.problem.players
    for plain, net in (
        (loop.segmenter, players["segmenter"].net),
        (loop.critic, players["critic"].net),
    ):
        for theirs, weight in zip(plain.parameters(), net.parameters(), strict=True):
            assert (weight - theirs).abs().max() < 1e-9


@pytest.mark.parametrize("iteration", ITERATIONS, ids=str)
def test_step_equals_the_released_iteration(iteration: int) -> None:
    assert_same_step(resnet18, iteration)


def test_step_equals_the_released_iteration_on_a_resnet50() -> None:
    assert_same_step(resnet50, 5_005)


@pytest.mark.parametrize(
    ("iteration", "learning"),
    [(1, {"segmenter"}), (5_005, {"segmenter", "critic"}), (10_000, {"critic"})],
)
def test_released_players_do_learn(iteration: int, learning: set[str]) -> None:
    """So that equal weights above do not only mean that nothing happened."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(iteration)
        loop = make_released(calibrated(resnet18(weights=None), SIZE), SIZE)
    loop.iteration = iteration
    nets = {"segmenter": loop.segmenter, "critic": loop.critic}
    before = {name: [w.detach().clone() for w in net.parameters()] for name, net in nets.items()}
    loop.step(torch.full((1, 1, 1, 1), 0.5))
    learnt = {
        name
        for name, net in nets.items()
        if not all(map(torch.equal, before[name], net.parameters()))
    }
    assert learnt == learning
