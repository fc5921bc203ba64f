"""Evaluations a second of a projection's inner loop, beside its networks alone.

    python benchmarks/projection_speed.py --threads 1

The inner loop is what the engine does between two populations of BasinCMA: losses of all
candidates, gradients, Adam, limits, and keeping the best. The networks alone are the generator's
picture and the layers of the perceptual network, forward and backward, on the same candidates in
the same chunks and precision; without distances, photograph, mask or optimizer. Both take turns in
one process; on a CPU it is the thread's own time that counts, and the ratio is the median of the
ratios of single turns.

`--populations` times a generation of CMA-ES too: many populations at once, and one by one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from measuring import timed
from torch import Tensor

from invertkit.core.precision import Precision, networks, products
from invertkit.engine.run import Run
from invertkit.optimizers.population.cma import CMA
from invertkit.runs.prepare import prepare_job

INNER = 30


def inner_loop(options: argparse.Namespace) -> Run:
    """A run of project-basincma that stands in its first generation, and never judges it."""
    size = options.size
    row, column = torch.meshgrid(*[torch.linspace(0, 1, size)] * 2, indexing="ij")
    image = torch.stack([row, column, (row - column).abs()])
    mask = torch.zeros(1, size, size)
    mask[:, size // 5 : -size // 5, size // 5 : -size // 5] = 1
    weights = [f"models.generator.weights={options.generator}"] if options.generator else []
    population = options.candidates
    job = prepare_job(
        options.recipe,
        image=image,
        mask=mask,
        device=options.device,
        choices={"class": "given", "transform": "none"},
        overrides=[
            "variable.inner.label=0",
            f"stages.search.size={size}",
            f"stages.search.steps={1000 * INNER}",
            f"stages.search.optimizer.inner_steps={1000 * INNER}",
            "stages.search.optimizer.last_steps=0",
            f"memory={options.memory}",
            *([f"stages.search.optimizer.outer.population={population}"] if population else []),
            *weights,
        ],
    )
    return Run(job.problem(tuple(range(options.seeds))), compile=options.compile)


def bare(run: Run, chunks: list[int], precision: Precision) -> Callable[[], None]:
    """Forward and backward of generator and perceptual network on the run's candidates."""
    generator, perceptual = (run.problem.models[name] for name in ("generator", "perceptual"))
    candidates = run.search_state.candidates
    parts = {name: candidates[name].detach().split(chunks) for name in generator.latents}
    rows = [
        {name: split[i].clone().requires_grad_() for name, split in parts.items()}
        for i in range(len(chunks))
    ]
    layers = perceptual.default_layers
    device = candidates["latent"].device

    def once() -> None:
        for latents in rows:
            with networks(precision, device):
                picture = generator.generate(**latents)
                seen = list(perceptual.observe(picture, layers).values())
            torch.autograd.backward([picture, *seen], [_ones(x) for x in (picture, *seen)])

    return once


def _ones(like: Tensor) -> Tensor:
    return like.detach().new_ones(()).expand_as(like)


def contest(options: argparse.Namespace) -> None:
    """Print the rates of both, turn by turn."""
    run = inner_loop(options)
    chunks: list[int] = []
    net = run.problem.models["generator"].net
    hook = net.register_forward_pre_hook(lambda _net, latents: chunks.append(len(latents[0])))
    steps = run.steps()
    next(steps)
    chunks.clear()
    next(steps)  # the first made candidates too
    hook.remove()
    for _ in range(6):  # a replay begins with a kind's fifth step
        next(steps)
    alone = bare(run, chunks, "tf32")
    device = torch.device(options.device)
    # A thread's own time knows of no other work on the machine.
    own = device.type == "cpu" and options.threads == 1
    spent = own_seconds if own else partial(timed, device=device)
    pairs = []
    for turn in range(-1, options.turns):

        def engine() -> None:
            for _ in range(options.steps):
                next(steps)

        def networks_alone() -> None:
            for _ in range(options.steps):
                alone()

        ours, theirs = spent(engine), spent(networks_alone)
        if turn >= 0:
            pairs.append((ours, theirs))
    work = sum(chunks) * options.steps
    ours, theirs = (work / median(times) for times in zip(*pairs, strict=True))
    ratio = median(b / a for a, b in pairs)
    print(
        f"{run.problem.models['generator'].description}; chunks of "
        f"{chunks}: engine {ours:.0f}/s, networks alone {theirs:.0f}/s, ratio "
        f"{ratio:.3f} "
        f"({min(b / a for a, b in pairs):.3f} to {max(b / a for a, b in pairs):.3f})"
    )


def own_seconds(call: Callable[[], object]) -> float:
    """Seconds of the processor that one call takes."""
    began = time.process_time()
    call()
    return time.process_time() - began


def populations(count: int, dimension: int, turns: int) -> None:
    """Milliseconds of asking and telling many populations, at once and one by one."""
    rule = CMA(clip_injected=True)
    size = rule.size(dimension)
    starts = torch.zeros(count, dimension)
    together = [rule.start(starts)]
    apart = [rule.start(starts[:1]) for _ in range(count)]
    spent: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(turns):
        normals = torch.randn(count, size, dimension, generator=torch.Generator().manual_seed(turn))
        ends = {}
        for at_once, states in ((True, together), (False, apart)):
            began = time.perf_counter()
            for state, rows in zip(states, normals.split(len(normals) // len(states)), strict=True):
                points = rule.ask(state, rows)
                rule.tell(state, points, (points - 1).square().sum(-1))
            spent[at_once].append(1000 * (time.perf_counter() - began))
            ends[at_once] = torch.cat([state.mean for state in states])
        assert torch.equal(ends[True], ends[False])
    print(
        f"{count} populations of {size} in {dimension} dimensions: at once "
        f"{median(spent[True]):.2f} ms, one by one {median(spent[False]):.2f} ms, equal to the bit"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="project-basincma")
    parser.add_argument("--generator", type=Path, help="of `invertkit train generator`")
    parser.add_argument("--size", type=int, default=64, help="of the photograph")
    parser.add_argument("--seeds", type=int, default=1, help="searches side by side")
    parser.add_argument("--candidates", type=int, help="of each search; by default its own")
    parser.add_argument("--memory", type=float, default=8.0, help="GiB, as in a recipe")
    parser.add_argument("--compile", default="auto", help="as in a run")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=5, help="of a turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--populations", type=int, nargs="*", help="time CMA-ES itself instead")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.populations is not None:
        for count in options.populations or (8, 32):
            for dimension in (64, 128):
                populations(count, dimension, turns=20)
        return
    with products("tf32"):
        contest(options)


if __name__ == "__main__":
    main()
