"""From the times of a few steps to those of a run: sums over kinds, and guesses for what lacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import final

from invertkit.apps.bench.cost import Cost
from invertkit.apps.bench.machine import Machine
from invertkit.apps.bench.steps import KindTimes, Times


@final
@dataclass(frozen=True)
class KindFacts:
    """A kind of step in numbers.

    Args:
        stage: Index.
        pixels: Of an image.
        terms: That count.
        phases: What players, terms and optimizer do.
        first_step: Of the run.
        steps: How many.
        seconds_per_step_eager: Taken by Python; guessed if `estimated`.
        seconds_per_step_replayed: Of a replay; None if they are not replayed or nobody knows.
        seconds_before_replays: Of all steps before the first replay.
        steps_before_replays: How many these are.
        timed_steps_eager: That the median is of.
        timed_steps_replayed: Likewise.
        flop_per_step: Of products.
        product_bytes_per_step: That products must move.
        operations_per_step: Of all sorts.
        seconds_per_step_floor: That the machine needs at least.
        estimated: Whether a number is guessed from other kinds, by pixels.
        not_replayed: Why not; empty if they are.
    """

    stage: int
    pixels: int
    terms: tuple[str, ...]
    phases: tuple[str, ...]
    first_step: int
    steps: int
    seconds_per_step_eager: float
    seconds_per_step_replayed: float | None
    seconds_before_replays: float
    steps_before_replays: int
    timed_steps_eager: int
    timed_steps_replayed: int
    flop_per_step: float
    product_bytes_per_step: float
    operations_per_step: float
    seconds_per_step_floor: float
    estimated: bool
    not_replayed: str

    @property
    def seconds_eager(self) -> float:
        """Of all its steps."""
        return self.steps * self.seconds_per_step_eager

    @property
    def seconds_replayed(self) -> float:
        """Of all its steps, those before the first replay included."""
        if self.seconds_per_step_replayed is None:
            return self.seconds_eager
        left = max(0, self.steps - self.steps_before_replays)
        return self.seconds_before_replays + left * self.seconds_per_step_replayed


@final
@dataclass(frozen=True)
class RunFacts:
    """A run in numbers; means are over its steps.

    Args:
        steps: How many.
        seconds_setup: Of all its stages, with what players learn beforehand.
        seconds_per_step_eager: Mean.
        seconds_per_step_replayed: Mean, once replays have begun; None if no step is replayed.
        seconds_per_run_eager: From beginning to end.
        seconds_per_run_replayed: Likewise, with the steps before the first replays.
        images_per_hour: In the quicker way that was measured.
        flop_per_step: Mean.
        product_bytes_per_step: Mean.
        operations_per_step: Mean.
        seconds_per_step_floor: Mean.
        share_of_floor: Floor by time of a step, replayed if it is; 1 would be perfect.
        estimated: Whether a number is guessed for some of the kinds.
        not_replayed: Why not; empty if they are.
    """

    steps: int
    seconds_setup: float
    seconds_per_step_eager: float
    seconds_per_step_replayed: float | None
    seconds_per_run_eager: float
    seconds_per_run_replayed: float | None
    images_per_hour: float
    flop_per_step: float
    product_bytes_per_step: float
    operations_per_step: float
    seconds_per_step_floor: float
    share_of_floor: float
    estimated: bool
    not_replayed: str


def summed(times: Times, machine: Machine, *, batch: int) -> tuple[RunFacts, list[KindFacts]]:
    """A run in numbers, and its kinds of steps.

    Args:
        times: At least one kind was timed.
        machine: What the floor is of.
        batch: Images side by side.
    """
    kinds = [_facts(each, times.kinds, machine) for each in times.kinds]
    steps = sum(kind.steps for kind in kinds)
    setup, whole = _setup(times)

    def mean(of: Callable[[KindFacts], float]) -> float:
        return sum(kind.steps * of(kind) for kind in kinds) / steps

    replays = any(kind.seconds_per_step_replayed is not None for kind in kinds)
    eager = setup + sum(kind.seconds_eager for kind in kinds)
    replayed = setup + sum(kind.seconds_replayed for kind in kinds) if replays else None
    taken = mean(_step)
    floor = mean(lambda kind: kind.seconds_per_step_floor)
    heaviest = max(kinds, key=lambda kind: kind.steps * kind.pixels)
    facts = RunFacts(
        steps=steps,
        seconds_setup=setup,
        seconds_per_step_eager=mean(lambda kind: kind.seconds_per_step_eager),
        seconds_per_step_replayed=taken if replays else None,
        seconds_per_run_eager=eager,
        seconds_per_run_replayed=replayed,
        images_per_hour=3600 * batch / max(eager if replayed is None else replayed, 1e-9),
        flop_per_step=mean(lambda kind: kind.flop_per_step),
        product_bytes_per_step=mean(lambda kind: kind.product_bytes_per_step),
        operations_per_step=mean(lambda kind: kind.operations_per_step),
        seconds_per_step_floor=floor,
        share_of_floor=floor / max(taken, 1e-9),
        estimated=not whole or any(kind.estimated for kind in kinds),
        not_replayed="" if replays else heaviest.not_replayed,
    )
    return facts, kinds


def _step(kind: KindFacts) -> float:
    """Seconds of a step in the quicker way that was measured."""
    replayed = kind.seconds_per_step_replayed
    return kind.seconds_per_step_eager if replayed is None else replayed


def _setup(times: Times) -> tuple[float, bool]:
    """Seconds of setting up all stages, and whether each was timed; the others by pixels."""
    pixels = {each.kind.stage: each.pixels for each in times.kinds}
    total = 0.0
    for stage, size in pixels.items():
        known = [stage] if stage in times.setups else list(times.setups)
        near = min(known, key=lambda other: _distance(pixels[other], size))
        total += times.setups[near].seconds * size / pixels[near]
    return total, set(pixels) == set(times.setups)


def _facts(times: KindTimes, kinds: Sequence[KindTimes], machine: Machine) -> KindFacts:
    """The numbers of a kind; those that lack from the kind that is nearest in pixels."""
    like = _nearest(times, [each for each in kinds if each.eager])
    scale = times.pixels / like.pixels
    eager = scale * median(like.eager)
    cost, known = times.cost, like.cost
    if cost is None and known is not None:
        cost = Cost(scale * known.flop, scale * known.product_bytes, known.operations)
    assert cost is not None  # noqa: S101 # what is timed has been counted
    replayed, before, opening, obstacle = None, 0.0, 0, times.obstacle
    models = [times] if times.replayed else [each for each in kinds if each.replayed]
    if not obstacle and models:
        model = _nearest(times, models)
        ratio = eager / max(median(model.eager), 1e-9)
        replayed = ratio * median(model.replayed)
        before, opening = ratio * sum(model.opening), len(model.opening)
    elif not obstacle:
        obstacle = "there was no time to see it replayed"
    guessed = replayed is not None and not times.replayed
    return KindFacts(
        stage=times.kind.stage,
        pixels=times.pixels,
        terms=times.kind.terms,
        phases=tuple(str(phase.key) for phase in times.kind.phases),
        first_step=times.kind.steps[0],
        steps=len(times.kind.steps),
        seconds_per_step_eager=eager,
        seconds_per_step_replayed=replayed,
        seconds_before_replays=before,
        steps_before_replays=opening,
        timed_steps_eager=len(times.eager),
        timed_steps_replayed=len(times.replayed),
        flop_per_step=cost.flop,
        product_bytes_per_step=cost.product_bytes,
        operations_per_step=cost.operations,
        seconds_per_step_floor=machine.floor(cost),
        estimated=not times.eager or guessed,
        not_replayed=obstacle or "",
    )


def _nearest(times: KindTimes, others: Sequence[KindTimes]) -> KindTimes:
    """Itself if it is among them, else the one nearest in pixels, the heaviest of several."""
    if times in others:
        return times
    return min(others, key=lambda each: (_distance(each.pixels, times.pixels), -each.weight))


def _distance(pixels: int, others: int) -> float:
    return abs(math.log(pixels / others))
