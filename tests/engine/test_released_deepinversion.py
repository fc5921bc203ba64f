"""One step of the engine equals one iteration of the released DeepInversion loop."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18, resnet50

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from deepinversion import make_released, same_problem
from measuring import calibrated
from released_deepinversion import DeepInversion, Settings, setting

from invertkit.core.randomness import Randomness
from invertkit.engine.run import Run, StepReport
from invertkit.models.classifiers.open import open_classifier
from tests.helpers import KITNET

SIZE = 64

PLACES = {
    "0, the first, means of 2×2": (0, 1),
    "0, in the cosine": (0, 1_400),
    "0, the last of the small ones": (0, 2_000),
    "0, the first at full size": (0, 2_001),
    "0, at full size": (0, 2_600),
    "1": (1, 150),
    "2, warming up": (2, 50),
    "2": (2, 9_000),
}


def make_loop(
    settings: Settings, iteration: int, *, batch: int = 1, deep: bool = False
) -> DeepInversion:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(iteration)
        net = calibrated((resnet50 if deep else resnet18)(weights=None), SIZE).double()
        loop = make_released(net, SIZE, settings, batch=batch)
    loop.iteration = iteration
    return loop


def engine_draw(loop: DeepInversion) -> tuple[tuple[int, int], bool]:
    """Where the engine looks on this iteration, of seed 0."""
    stage = loop.settings.stages[loop.place()[0]]
    reach = loop.settings.jitter // stage.shrink
    draws = Randomness((0,)).uniform("jitter", (3,), step=loop.iteration - 1)[0].double()
    down, right = (draws[:2] * (2 * reach + 1) - reach).floor().int().tolist()
    return (down, right), bool(draws[2] < 0.5)


def step_both(loop: DeepInversion, run: Run) -> tuple[StepReport, float]:
    shift, flip = engine_draw(loop)
    loss = loop.step(shift, flip=flip and loop.settings.flip)
    return next(run.steps()), loss


def assert_equal(ours: Tensor, released: Tensor) -> None:
    """As near as two orders of the same float64 sums can be."""
    torch.testing.assert_close(ours, released, rtol=1e-9, atol=1e-12)


def assert_same_state(loop: DeepInversion, run: Run) -> None:
    x = run.params["pixels"]
    assert x.grad is not None
    assert loop.x.grad is not None
    wanted = len(loop.x) * loop.x.grad
    assert (x.grad - wanted).norm() < 1e-9 * wanted.norm()
    assert_equal(x, loop.x)


@pytest.mark.parametrize(("number", "iteration"), PLACES.values(), ids=PLACES)
def test_step_equals_the_released_iteration(number: int, iteration: int) -> None:
    loop = make_loop(setting(number), iteration)
    before = loop.x.detach().clone()
    run = same_problem(loop)
    report, loss = step_both(loop, run)

    assert set(report.values) == set(loop.values)
    for name, value in loop.values.items():
        assert value != 0, f"a {name} of 0 tests nothing"
        assert_equal(report.values[name], value.reshape(1))
    assert_equal(report.losses, torch.tensor([loss], dtype=torch.float64))
    assert_same_state(loop, run)
    assert not torch.equal(loop.x, before)


def test_step_equals_the_released_iteration_on_a_resnet50() -> None:
    loop = make_loop(setting(0), 300, deep=True)
    run = same_problem(loop)
    step_both(loop, run)
    assert_same_state(loop, run)


def test_step_equals_the_released_iteration_on_a_trained_network() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loop = make_released(open_classifier(KITNET).net.double(), SIZE, setting(0))
    run = same_problem(loop)
    step_both(loop, run)
    assert_same_state(loop, run)


def test_waste_is_there() -> None:
    """The released loop's weights take gradients; the engine's do not."""
    loop = make_loop(setting(2), 1)
    run = same_problem(loop)
    step_both(loop, run)
    assert all(weight.grad is not None for weight in loop.classifier.parameters())
    assert not any(w.requires_grad for w in run.problem.models["classifier"].parameters())


def test_clip_cuts() -> None:
    """So that the equality of clipped pixels means something."""
    free, cut = (make_loop(replace(setting(0), clip=clip), 1) for clip in (False, True))
    for loop in (free, cut):
        loop.step((0, 0), flip=False)
    assert not torch.equal(free.x, cut.x)


@pytest.mark.parametrize("number", [0, 2])
def test_steps_stay_equal(number: int) -> None:
    loop = make_loop(setting(number), 1_999 if number == 0 else 200)
    run = same_problem(loop)
    for _ in range(4):  # of setting 0, two in each stage
        step_both(loop, run)
        assert_same_state(loop, run)


@pytest.mark.parametrize("iteration", [1, 2_001])
def test_coupled_batch_equals_the_released_one(iteration: int) -> None:
    """Without shifts, which the engine draws for every image."""
    settings = replace(setting(0), jitter=0, flip=False)
    loop = make_loop(settings, iteration, batch=3)
    run = same_problem(loop)
    report, loss = step_both(loop, run)
    assert_equal(report.losses.sum(), torch.tensor(3 * loss, dtype=torch.float64))
    assert_equal(report.values["cross_entropy"].mean(), loop.values["cross_entropy"])
    assert_equal(report.values["norm"].mean(), loop.values["norm"])
    for name in ("statistics", "total_variation"):
        assert_equal(report.values[name].sum(), loop.values[name])
    assert_same_state(loop, run)
