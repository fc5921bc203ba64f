"""How long a step of the engine takes, beside the released MAGIC loop and the machine's own limit.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/step.py --size 224 --steps 5 --threads 1

Both loops solve the same problem from the same weights and the same image, and take turns in one
process, so that a busy machine slows both. The ResNet-50 has random weights: it costs what the
robust one costs. Phase A is the first 5,000 iterations; B adds the critic; in C the segmenter has
stopped learning. `frozen` has a segmenter that learnt before the first step, as in the paper.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, final

import torch
from released import TAPS, Released, make_critic, make_segmenter, normalised
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from invertkit.engine import Run
from invertkit.models.classifier import Classifier
from invertkit.models.patch_nets import EncoderDecoder, PatchCriticNet
from invertkit.objectives.outputs import CrossEntropy
from invertkit.objectives.playing import CriticScore, MaskBCE
from invertkit.objectives.priors import Norm, TotalVariation
from invertkit.objectives.statistics import FeatureStatistics
from invertkit.optimizers.torch_optim import Adam
from invertkit.players.critic import PatchCritic
from invertkit.players.segmenter import Segmenter
from invertkit.problem import Problem, Stage, Term
from invertkit.randomness import Randomness
from invertkit.schedules import Cosine
from invertkit.variables.base import Size, Variable
from invertkit.variables.pixels import Pixels
from invertkit.view import Scene

FIRST_ITERATION = {"A": 1, "B": 5_001, "C": 10_001}
CYCLE = 5  # iterations from one critic update to the next
TARGETS = {("A", "learning"): 1.6, ("A", "frozen"): 3.0}


@final
class Given(Variable):
    """Pixels in ImageNet units that start from a given tensor."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.pixels = x, Pixels(space="imagenet")

    def start(self, scene: Scene, randomness: Randomness) -> list[Tensor]:
        return [self.x]

    def resize(self, params: list[Tensor], old: Size, new: Size) -> list[Tensor]:
        return self.pixels.resize(params, old, new)

    def image(self, params: list[Tensor], scene: Scene) -> Tensor:
        return self.pixels.image(params, scene)


def calibrated(net: nn.Module, size: int) -> nn.Module:
    """The network with batch-norm statistics of noise and of smooth images, ready to classify."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        for _ in range(2):
            smooth = F.interpolate(torch.randn(1, 3, 8, 8), (size, size), mode="bicubic")
            net.train()(torch.cat([smooth, torch.randn(1, 3, size, size)]))
    return net.eval()


def make_released(net: nn.Module, size: int, dtype: torch.dtype = torch.float32) -> Released:
    """The released loop on a smooth image with a square object that shall move to the right.

    All is in `dtype`; the classifier has to be already.
    """
    image = F.interpolate(torch.rand(1, 3, 8, 8), (size, size), mode="bicubic").clamp(0, 1)
    image = image.to(dtype)
    mask = torch.zeros(1, 1, size, size, dtype=dtype)
    mask[..., size // 3 : 2 * size // 3, size // 8 : size // 2] = 1
    return Released(
        classifier=net,
        segmenter=make_segmenter().to(dtype),
        critic=make_critic().to(dtype),
        reference=normalised(image),
        mask=mask,
        target=mask.roll(size // 3, dims=3),
        x=torch.randn(1, 3, size, size).to(dtype),
    )


def same_problem(loop: Released, *, frozen: bool = False) -> Run:
    """The engine on what `loop` is solving, from copies of its weights and of its image.

    Args:
        loop: Not yet begun, but `iteration` may be set.
        frozen: The segmenter has learnt before the first step. How long does not matter to the
            time of a step, so here it has not at all.
    """
    numbers, dtype = loop.settings, loop.x.dtype
    segmenter = Segmenter(
        when="before" if frozen else "during",
        updates=0 if frozen else numbers.segmenter_until - 1,
        space="imagenet",
        lr=numbers.player_lr,
        betas=numbers.player_betas,
    )
    critic = PatchCritic(
        space="imagenet",
        start=numbers.critic_after,
        every=numbers.critic_every,
        lr=numbers.player_lr,
        betas=numbers.player_betas,
        penalty=numbers.penalty,
    )
    segmenter.net = EncoderDecoder().to(dtype).requires_grad_(False)
    critic.nets = [PatchCriticNet().to(dtype).requires_grad_(False)]
    _copy_weights(loop.segmenter, segmenter.net)
    _copy_weights(loop.critic, critic.nets[0])
    size = tuple(loop.x.shape[-2:])
    (reference,) = Pixels(space="imagenet").image([loop.reference], Scene(size)).split(1)
    scene = Scene(size=size, reference=reference, mask=loop.mask, target=loop.target)
    smooth = partial(TotalVariation, space="imagenet")
    run = Run(
        Problem(
            scene=lambda _size: scene,
            models={"classifier": Classifier(copy.deepcopy(loop.classifier))},
            variable=Given(loop.x.detach().clone()),
            terms=[
                Term("cross_entropy", CrossEntropy()),
                Term("statistics", FeatureStatistics(layers=TAPS), numbers.statistics),
                Term("total_variation_l1", smooth(form="l1"), numbers.total_variation_l1),
                Term("total_variation_l2", smooth(form="l2"), numbers.total_variation_l2),
                Term("norm", Norm(squared=False, space="imagenet"), numbers.norm),
                Term("mask", MaskBCE(), numbers.mask),
                Term("critic", CriticScore(), numbers.critic, start=numbers.critic_after),
            ],
            optimizer=Adam(
                lr=Cosine("cosine", peak=numbers.lr, warmup=numbers.warmup), betas=numbers.betas
            ),
            players={"segmenter": segmenter, "critic": critic},
            stages=[Stage(scene.size, numbers.total)],
        )
    )
    run.step = loop.iteration - 1
    return run


def _copy_weights(source: nn.Module, target: nn.Module) -> None:
    with torch.no_grad():
        for theirs, ours in zip(source.parameters(), target.parameters(), strict=True):
            ours.copy_(theirs)


# ---------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Measured:
    """Seconds and GFLOP of a step, the critic's update shared out over the steps between two."""

    seconds: float
    gflop: float


def timed(step: Callable[[], Any]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def counted(step: Callable[[], Any]) -> float:
    """GFLOP of one call; two for a multiplication with its addition."""
    with Flops() as flops:
        step()
    return flops.total / 1e9


class Flops(TorchDispatchMode):
    """`FlopCounterMode` without its table of modules, which refuses a gradient's gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def matmul_rate(side: int = 2048, repeats: int = 5) -> float:
    """GFLOP a second of a square float32 matrix product: what this machine can do, at best."""
    a, b = torch.randn(side, side), torch.randn(side, side)
    return 2 * side**3 / min(timed(lambda: a @ b) for _ in range(repeats)) / 1e9


def measure(net: nn.Module, phase: str, size: int, steps: int) -> dict[str, Measured]:
    """All loops of a phase in turns, `steps` of each kind of step after one of each to warm up."""
    loop = make_released(copy.deepcopy(net), size)
    loop.iteration = FIRST_ITERATION[phase]
    runs = {"learning": same_problem(loop), "frozen": same_problem(loop, frozen=True)}
    if phase == "C":  # the segmenter has stopped anyway
        runs = {"frozen": runs["learning"]}
    iterators: dict[str, Iterator[Any]] = {name: run.steps() for name, run in runs.items()}
    calls: dict[str, Callable[[], Any]] = {"released": loop.step}
    calls |= {name: partial(next, iterator) for name, iterator in iterators.items()}

    def turn(measure_one: Callable[[Callable[[], Any]], float]) -> dict[str, float]:
        return {name: measure_one(call) for name, call in calls.items()}

    def updates_critic() -> bool:
        return phase != "A" and loop.iteration % CYCLE == 0

    turn(timed)
    flops: dict[bool, dict[str, float]] = {}
    seconds: dict[bool, list[dict[str, float]]] = (
        {False: []} if phase == "A" else {False: [], True: []}
    )
    while len(flops) < len(seconds) or min(map(len, seconds.values())) < steps:
        kind = updates_critic()
        if kind not in flops:
            flops[kind] = turn(counted)
        elif len(seconds[kind]) < steps:
            seconds[kind].append(turn(timed))
        else:  # enough of these: go straight to the next critic update
            _skip(loop, runs)
    return {
        name: Measured(
            _shared({kind: median(t[name] for t in turns) for kind, turns in seconds.items()}),
            _shared({kind: flop[name] for kind, flop in flops.items()}),
        )
        for name in calls
    }


def _skip(loop: Released, runs: dict[str, Run]) -> None:
    loop.iteration += 1
    for run in runs.values():
        run.step += 1


def _shared(by_kind: dict[bool, float]) -> float:
    """Mean over a cycle in which one step updates the critic."""
    if True not in by_kind:
        return by_kind[False]
    return ((CYCLE - 1) * by_kind[False] + by_kind[True]) / CYCLE


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224, help="side of the image in pixels")
    parser.add_argument("--steps", type=int, default=5, help="steps that are timed, of each kind")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--phases", default="ABC", help="of the released schedule, e.g. A or ABC")
    options = parser.parse_args()
    if unknown := set(options.phases) - set(FIRST_ITERATION):
        parser.error(f"unknown phase {', '.join(sorted(unknown))}; there are A, B and C")

    from torchvision.models import resnet50

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    net = calibrated(resnet50(weights=None), options.size)
    rate = matmul_rate()
    print(
        f"ResNet-50, {options.size}×{options.size}, one image, threads {options.threads}, "
        f"medians of {options.steps}; matrix product {rate:.0f} GFLOP/s"
    )
    print(
        f"{'phase':5} {'segmenter':9} {'released':>9} {'engine':>9} {'ratio':>6} {'target':>6} "
        f"{'GFLOP rel.':>10} {'GFLOP':>7} {'floor':>8} {'distance':>8}"
    )
    for phase in options.phases:
        measured = measure(net, phase, options.size, options.steps)
        released = measured.pop("released")
        for name, ours in measured.items():
            target = TARGETS.get((phase, name))
            floor = ours.gflop / rate
            print(
                f"{phase:5} {name:9} {released.seconds:7.3f} s {ours.seconds:7.3f} s "
                f"{released.seconds / ours.seconds:5.2f}× {f'{target}×' if target else '–':>6} "
                f"{released.gflop:10.1f} {ours.gflop:7.1f} {floor:6.3f} s "
                f"{ours.seconds / floor:7.2f}×",
                flush=True,
            )


if __name__ == "__main__":
    main()
