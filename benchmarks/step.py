"""How long a step of the engine takes, beside released loops and the machine's own limit.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/step.py --threads 1

compares with the released loops of MAGIC, BasinCMA (pix2latent) and DeepInversion, written again in
plain PyTorch with all they do (`released*.py`). Two loops solve the same problem from the same
weights, and take turns in one process, so that a busy machine slows both; the ratio is the median
of the ratios of single turns. Operations are counted on steps taken by Python. Networks have random
weights, but for the embedded ones: they cost what trained ones cost.

The floor is the engine's GFLOP at the rate of this machine's matrix product; the distance is how
many times longer a step takes.

- `magic`: phase A is the first 5,000 iterations, B adds the critic, in C the segmenter has stopped;
  `frozen` has a segmenter that learnt before the first step, as in the paper.
- `basincma`: `generation` is a step with its share of drawing, judging and telling; `descent` is a
  bare step of all candidates.
- `deepinversion`: `half` is the first stage of setting 0, `full` is setting 2.
"""

from __future__ import annotations

import argparse
from typing import Any

import deepinversion
import magic
import torch
from magic import make_released, same_problem
from measuring import HEADS, Contest, calibrated, compare, matmul_rate
from torch import nn

from invertkit.models.classifiers.sources.embedded import embedded

__all__ = ["calibrated", "make_released", "same_problem"]

PHASES = {
    "magic": ("A", "B", "C"),
    "basincma": ("generation", "descent"),
    "deepinversion": ("half", "full"),
}


def main() -> None:
    """Measure and print."""
    options = _options()
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if device.type == "cuda":  # as cuDNN's convolutions, so that the floor is theirs
        torch.set_float32_matmul_precision("high")
    rate = matmul_rate(device)
    print(
        f"{_name(device)}, torch {torch.__version__}, threads {options.threads}, batch "
        f"{options.batch}, compile {options.compile}, medians of {options.steps} turns; matrix "
        f"product {rate:.0f} GFLOP/s\n"
    )
    print("| " + " | ".join(HEADS) + " |\n" + "|---" * len(HEADS) + "|", flush=True)
    warm_up = 1 if options.compile == "off" else 6  # a replay begins with a kind's fifth step
    for loop in options.loop:
        for phase in PHASES[loop]:
            if not options.phases or phase in options.phases:
                contest = _contest(loop, phase, options, device)
                for row in compare(contest, turns=options.steps, warm_up=warm_up, device=device):
                    print("| " + " | ".join(row.cells(rate)) + " |", flush=True)


def _contest(loop: str, phase: str, options: argparse.Namespace, device: torch.device) -> Contest:
    common: dict[str, Any] = {
        "phase": phase,
        "batch": options.batch,
        "device": device,
        "options": {} if options.compile == "off" else {"compile": options.compile},
    }
    if loop == "magic":
        size = options.size or 224
        return magic.contest(_resnet50(size), size, **common)
    if loop == "deepinversion":
        if options.classifier == "embedded":
            return deepinversion.contest(embedded().net, options.size or 64, **common)
        size = options.size or 224
        return deepinversion.contest(_resnet50(size), size, **common)
    import basincma  # with `cma`, which takes seconds

    made = (
        basincma.random_biggan(options.generator_size, options.width)
        if options.generator == "biggan"
        else basincma.embedded()
    )
    common |= {"inner_steps": options.inner_steps, "memory": options.memory}
    return basincma.contest(made, **common)


def _resnet50(size: int) -> nn.Module:
    from torchvision.models import resnet50

    return calibrated(resnet50(weights=None), size)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loop", nargs="+", choices=list(PHASES), default=list(PHASES))
    parser.add_argument("--phases", nargs="+", help="only these")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1, help="images, side by side in the engine")
    parser.add_argument("--steps", type=int, default=5, help="turns that are timed")
    parser.add_argument("--compile", default="off", help="handed to the engine: see `Run`")
    parser.add_argument("--size", type=int, help="of images in magic and deepinversion; 224")
    inversion = parser.add_argument_group("deepinversion")
    inversion.add_argument("--classifier", choices=["resnet50", "embedded"], default="resnet50")
    basin = parser.add_argument_group("basincma")
    basin.add_argument("--generator", choices=["embedded", "biggan"], default="embedded")
    basin.add_argument("--generator-size", type=int, default=128, help="of biggan, in pixels")
    basin.add_argument("--width", type=int, default=32, help="of biggan; the published has 128")
    basin.add_argument("--inner-steps", type=int, default=30)
    basin.add_argument("--memory", type=float, default=8.0, help="GiB, as in a recipe")
    options = parser.parse_args()
    known = {phase for loop in options.loop for phase in PHASES[loop]}
    if unknown := set(options.phases or ()) - known:
        parser.error(f"unknown phase {', '.join(sorted(unknown))}; there are {sorted(known)}")
    return options


if __name__ == "__main__":
    main()
