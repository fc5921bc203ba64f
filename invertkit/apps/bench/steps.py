"""Timing the kinds of steps of one problem, the heaviest first, until a moment."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Final, final

from invertkit.apps.bench.cost import Cost, Counting
from invertkit.apps.bench.machine import Clock, timed
from invertkit.core.randomness import Randomness
from invertkit.core.recording.replay import WORTH, Compile
from invertkit.engine.problem import Problem
from invertkit.engine.run import Run
from invertkit.engine.step_kinds import StepKind, kinds_of
from invertkit.players.base import Player

_ENOUGH: Final = 0.3  # seconds, and
_FEW: Final = 3  # steps of a kind after which its median is believed
_MANY: Final = 15
_SLOW: Final = 1.0  # seconds beside which counting operations takes nothing
_TRIES: Final = 4  # steps of a kind after which it is replayed or never
_PRICE: Final = 4  # steps that it costs to see one replayed
_TOO_FEW: Final = f"fewer than {WORTH} steps are alike"


@final
@dataclass(eq=False)
class KindTimes:
    """What was measured of a kind of step; None for what was not.

    Args:
        kind: Which.
        pixels: Of an image of its stage.
        eager: Seconds of each timed step that Python took.
        replayed: Seconds of each timed replay.
        opening: Seconds of the steps from its first to the one before its first replay.
        cost: Of a step.
        obstacle: Why its steps are not replayed; empty if they are, None if nobody knows.
    """

    kind: StepKind
    pixels: int
    eager: list[float] = field(default_factory=list)
    replayed: list[float] = field(default_factory=list)
    opening: list[float] = field(default_factory=list)
    cost: Cost | None = None
    obstacle: str | None = None

    @property
    def weight(self) -> int:
        """Its share in a run, as far as pixels tell."""
        return len(self.kind.steps) * self.pixels


@final
@dataclass
class Setup:
    """Seconds of setting up a stage.

    Args:
        entering: Scene, terms, players and optimizer, without what players learn beforehand.
        learning: Of what players learn beforehand.
    """

    entering: float
    learning: float

    @property
    def seconds(self) -> float:
        """Of entering and learning together."""
        return self.entering + self.learning


@final
@dataclass
class Times:
    """What was measured of one problem.

    Args:
        kinds: All kinds of its steps.
        setups: By index of the stage; those that were entered.
    """

    kinds: list[KindTimes]
    setups: dict[int, Setup] = field(default_factory=dict)

    @classmethod
    def of(cls, problem: Problem) -> Times:
        """A problem of whose kinds of steps nothing was measured yet."""
        kinds = []
        for kind in kinds_of(problem):
            height, width = problem.stages[kind.stage].size
            kinds.append(KindTimes(kind, height * width, obstacle=_known_obstacle(kind)))
        return cls(kinds)

    def by_stage(self) -> list[list[KindTimes]]:
        """Stages and the kinds in each, the heaviest first."""
        groups: dict[int, list[KindTimes]] = {}
        for times in sorted(self.kinds, key=lambda each: -each.weight):
            groups.setdefault(times.kind.stage, []).append(times)
        return sorted(groups.values(), key=lambda group: -sum(each.weight for each in group))


@final
class _StepTimer:
    """A run that stands wherever one likes, and takes steps by Python unless told otherwise.

    A stage is entered at its first step, which is taken before any other of it: later ones may
    need what it leaves behind.
    """

    def __init__(self, problem: Problem, compile: Compile, clock: Clock) -> None:
        # What players learn before a stage is timed apart, from a few of their updates.
        players = {
            name: player.trial(0) if player.updates_before else player
            for name, player in problem.players.items()
        }
        self.run, self._clock = Run(replace(problem, players=players), compile=compile), clock
        self._problem = problem
        self._next: dict[int, int] = {}  # by the first step of a kind

    def enter(self, times: Times, stage: int) -> None:
        """Set up a stage and take its first step."""
        first = next(each.kind for each in times.kinds if each.kind.stage == stage)
        learning = _learning(self._problem, stage, self._clock)
        entering = self._time(lambda: self.run.go_to(first.steps[0]))
        times.setups[stage] = Setup(entering, learning)
        self._by_python()
        self._take(first)

    def count(self, times: KindTimes) -> float:
        """Count what a step does, and how many seconds it takes meanwhile."""
        self._by_python()
        with Counting() as counting:
            seconds = self._take(times.kind)
        times.cost = counting.cost
        if self.run.problem.device.type != "cpu":  # libraries choose their ways
            self._take(times.kind)
        return seconds

    def several(self, kind: StepKind, *, until: float, at_least: int = 1) -> list[float]:
        """Seconds of a few steps."""
        times: list[float] = []
        while len(times) < _MANY and (len(times) < _FEW or sum(times) < _ENOUGH):
            if len(times) >= at_least and self._clock() + max(times, default=0.0) > until:
                break
            times.append(self._take(kind))
        return times

    def replay(self, times: KindTimes, *, until: float) -> None:
        """Take steps until they are replayed, and time replays; or say why they are not."""
        taken = self.run.replays
        told, before = len(taken.said), taken.replayed
        taken.paused = False
        opening = [median(times.eager)] * taken.warm_up
        self._next[times.kind.steps[0]] = taken.warm_up  # so that as many are to come as in a run
        for _ in range(_TRIES):
            seconds = self._take(times.kind)
            if taken.replayed > before:
                more = self.several(times.kind, until=until, at_least=0)
                times.replayed, times.opening, times.obstacle = [seconds, *more], opening, ""
                return
            opening.append(seconds)
        times.obstacle = taken.said[-1] if len(taken.said) > told else _TOO_FEW

    def _by_python(self) -> None:
        self.run.replays.paused = True

    def _take(self, kind: StepKind) -> float:
        """Seconds of the next step of the kind; after the last one comes the first."""
        place = self._next.get(kind.steps[0], 0)
        self._next[kind.steps[0]] = place + 1
        self.run.go_to(kind.steps[place % len(kind.steps)])
        return self._time(self._step)

    def _time(self, call: Callable[[], object]) -> float:
        return timed(call, self.run.problem.device, self._clock)

    def _step(self) -> None:
        steps = self.run.steps()
        next(steps)
        steps.close()  # type: ignore[attr-defined]  # a generator


def time_kinds(
    problem: Problem,
    times: Times,
    *,
    compile: Compile,
    clock: Clock,
    until: float,
    at_last: float,
) -> None:
    """Time steps of each kind as Python takes them, count what they do, and time their replays.

    The heaviest kind is timed however late it is.

    Args:
        problem: Not yet begun.
        times: Where to put what comes out.
        compile: How to replay.
        clock: Tells the time.
        until: Begin nothing that would not be done by then.
        at_last: The same for the replays of the heaviest kind.
    """
    timer = _StepTimer(problem, compile, clock)
    for group in times.by_stage():
        if clock() + _guess(times, group[0]) > until:
            continue
        timer.enter(times, group[0].kind.stage)
        for each in group:
            if clock() + _guess(times, each) > until:
                continue
            heaviest = not _known(times)
            share = each.weight / sum(one.weight for one in times.kinds if not one.eager)
            end = clock() + max(0.0, until - clock()) * share
            counted = timer.count(each)
            if counted > _SLOW and clock() + counted > until:  # counting did not slow it much
                each.eager = [counted]
            else:
                each.eager = timer.several(each.kind, until=(clock() + end) / 2)
            each.obstacle = timer.run.obstacle or each.obstacle
            late = at_last if heaviest else until
            if each.obstacle is None and clock() + _PRICE * median(each.eager) <= late:
                timer.replay(each, until=end)


def _known(times: Times) -> list[KindTimes]:
    return [each for each in times.kinds if each.eager]


def _guess(times: Times, each: KindTimes) -> float:
    """Seconds that timing a kind takes at least, by pixels; none where nothing is known yet."""
    if not (known := _known(times)):
        return -math.inf
    like = max(known, key=lambda one: one.weight)
    setup = 0.0 if each.kind.stage in times.setups else times.setups[like.kind.stage].entering
    return (2 * median(like.eager) + setup) * each.pixels / like.pixels


def _known_obstacle(kind: StepKind) -> str | None:
    """Why steps of the kind are never replayed, if that can be told without trying."""
    if len(kind.steps) < WORTH:
        return _TOO_FEW
    return None if kind.replayable else "one of its parts cannot be replayed"


# ---------------------------------------------------------------------- learning beforehand


def _learning(problem: Problem, stage: int, clock: Clock) -> float:
    """Seconds that players learn before a stage, from a few of their updates."""
    scene = replace(problem.scene(problem.stages[stage].size), models=problem.models)
    randomness, total = Randomness(problem.seeds, problem.device), 0.0
    for name, player in problem.players_of(stage).items():
        if not player.updates_before:
            continue

        def begin(updates: int, name: str = name, player: Player = player) -> float:
            trial = player.trial(updates)
            call = partial(trial.begin, scene, randomness, purpose=f"players/{name}")
            return timed(call, problem.device, clock)

        # The first call warms up and tells how slow it is; what a stage costs without updates is
        # taken off, since `enter` has it already.
        few = 1 if begin(1) > _ENOUGH / 4 else 4
        total += player.updates_before * max(0.0, begin(few) - begin(0)) / few
    return total
