"""What the comparisons share: loops that take turns, and counts of what a step asks of the machine.

Everything is measured in turns within one process, so that a busy machine slows all alike; ratios
are medians of the ratios of single turns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.variables.base import Size, Variable
from invertkit.variables.pixels import Pixels

Call = Callable[[], object]
RELEASED, ENGINE = "released", "engine"
HEADS = (
    "loop", "phase", "released s", "engine s", "ratio", "GFLOP released", "GFLOP engine",
    "kernels released", "kernels engine", "floor s", "distance",
)  # fmt: skip


@final
class Given(Variable):
    """Pixels in ImageNet units that start from a given tensor.

    Args:
        x: `(b, 3, h, w)`; stages of other sizes see it averaged.
    """

    def __init__(self, x: Tensor) -> None:
        self.x, self.pixels = x, Pixels(space="imagenet", size=x.shape[-1])

    def start(self, scene: Scene, randomness: Randomness) -> Params:
        return {"pixels": self.x}

    def resize(self, params: Params, old: Size, new: Size) -> Params:
        return self.pixels.resize(params, old, new)

    def image(self, params: Params, scene: Scene) -> Tensor:
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


# ---------------------------------------------------------------------- what is compared


@dataclass(frozen=True)
class Contest:
    """Loops that solve the same problem.

    Args:
        loop: Which released loop it is.
        phase: What its steps do.
        released: Takes `unit` steps of the released loop.
        engines: The same of the engine, by what is special about it; `ENGINE` if nothing is.
        counted: The same engines, stepped by Python, so that operations can be counted.
        unit: Steps a call takes.
        kinds: Kinds of steps, and the share of the steps that are of it.
        go_to: Brings all loops to a step of a kind.
    """

    loop: str
    phase: str
    released: Call
    engines: Mapping[str, Call]
    counted: Mapping[str, Call]
    unit: int = 1
    kinds: Mapping[str, float] = field(default_factory=lambda: {"every": 1.0})
    go_to: Callable[[str], None] = lambda kind: None


@dataclass(frozen=True)
class Work:
    """GFLOP and kernels of a step."""

    gflop: float = 0.0
    kernels: float = 0.0

    def plus(self, other: Work, share: float) -> Work:
        """With a share of another step."""
        return Work(self.gflop + share * other.gflop, self.kernels + share * other.kernels)


@dataclass(frozen=True)
class Row:
    """One engine against the released loop: seconds, ratio and work of a step."""

    loop: str
    phase: str
    seconds: tuple[float, float]
    ratio: float
    work: tuple[Work, Work]

    def cells(self, rate: float) -> list[str]:
        """As `HEADS` says, `rate` being what the machine can do, in GFLOP a second."""
        released, engine = self.work
        floor = engine.gflop / rate
        return [
            self.loop,
            self.phase,
            *(f"{seconds:.4g}" for seconds in self.seconds),
            f"{self.ratio:.2f}",
            f"{released.gflop:.4g}",
            f"{engine.gflop:.4g}",
            f"{released.kernels:.0f}",
            f"{engine.kernels:.0f}",
            f"{floor:.3g}",
            f"{self.seconds[1] / floor:.2f}" if floor else "–",
        ]


def compare(contest: Contest, *, turns: int, warm_up: int, device: torch.device) -> list[Row]:
    """All loops of a contest in turns: `warm_up` and `turns` of each kind of step."""
    loops = {RELEASED: contest.released, **contest.engines}
    counting = {RELEASED: contest.released, **contest.counted}
    seconds = {name: [0.0] * turns for name in loops}
    work = {name: Work() for name in loops}
    for kind, share in contest.kinds.items():
        part = share / contest.unit
        for turn in range(-warm_up, turns):
            for name, call in loops.items():
                contest.go_to(kind)
                spent = timed(call, device)
                if turn >= 0:
                    seconds[name][turn] += part * spent
        for name, call in counting.items():
            if call is not loops[name]:  # it has not begun
                contest.go_to(kind)
                call()
            contest.go_to(kind)
            work[name] = work[name].plus(counted(call), part)
    return [
        Row(
            contest.loop,
            contest.phase if name == ENGINE else f"{contest.phase}, {name}",
            (median(seconds[RELEASED]), median(seconds[name])),
            median(a / b for a, b in zip(seconds[RELEASED], seconds[name], strict=True)),
            (work[RELEASED], work[name]),
        )
        for name in contest.engines
    ]


# ---------------------------------------------------------------------- measuring


def timed(call: Call, device: torch.device | None = None) -> float:
    """Seconds of one call, until the device has done all that it started."""
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def counted(call: Call) -> Work:
    """Work of one call; two FLOP for a multiplication with its addition."""
    with _Counter() as counter:
        call()
    return Work(counter.flop / 1e9, counter.kernels)


class _Counter(TorchDispatchMode):
    """Counts operations that compute: neither views nor the making of empty tensors.

    Instead of PyTorch's `FlopCounterMode`, whose table of modules refuses a gradient's gradient.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flop, self.kernels = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if not func.is_view and "empty" not in packet.__name__:
            self.kernels += 1
        if packet in flop_registry:
            self.flop += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        return out


def matmul_rate(device: torch.device, repeats: int = 5) -> float:
    """GFLOP a second of a square float32 matrix product: what this machine can do, at best."""
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    torch.mm(a, b)
    best = math.inf
    for _ in range(repeats):
        best = min(best, timed(lambda: torch.mm(a, b), device))
    return 2 * side**3 / best / 1e9
