"""The loop. It knows roles, not parts: stages, terms, players, observers, checkpoints.

`Run` holds everything that changes while an inversion goes on. `Run.steps()` takes one step at a
time and yields a report; whoever iterates decides what to show, when to save and when to stop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.errors import InputError, InvertkitError
from invertkit.objectives.base import Objective, evaluate
from invertkit.optimizers.base import Optimizer
from invertkit.players.base import Player
from invertkit.randomness import Randomness
from invertkit.schedules import Schedule, value_at
from invertkit.variables.base import Variable
from invertkit.view import Scene, View, resize_image

_ASK_EVERY = 50


class Status(Enum):
    """How a run ended; each value is the sentence that is shown."""

    FINISHED = "took every step it was given"
    INTERRUPTED = "was interrupted; `invertkit resume` continues it"
    STOPPED = "was stopped by an observer"
    NON_FINITE = (
        "met a loss that is not a number or infinite and stopped; the last finite picture is "
        "kept. Lower the learning rate or the weight of the term that grew"
    )
    RUNNING = "is still running"


@final
@dataclass(frozen=True)
class Term:
    """An objective with its place in the recipe.

    Args:
        name: Unique in the recipe.
        objective: What is wanted.
        weight: Multiplies its value; a function of the step of the whole run.
        region: Where it looks.
        start: First step of the run at which it counts.
        stop: First step at which it no longer counts; None for never.
        min_size: Smallest stage at which it counts: side of the square of as many pixels.
        max_size: Largest stage at which it counts, likewise.
    """

    name: str
    objective: Objective
    weight: Schedule = 1.0
    region: str = "everywhere"
    start: int = 0
    stop: int | None = None
    min_size: int = 0
    max_size: int | None = None

    def fits(self, size: tuple[int, int]) -> bool:
        """Whether it counts at stages of this size."""
        side = round(math.sqrt(size[0] * size[1]))
        return self.min_size <= side and (self.max_size is None or side <= self.max_size)

    def counts(self, step: int) -> bool:
        """Whether it counts at this step of the run."""
        return self.start <= step and (self.stop is None or step < self.stop)


@final
@dataclass(frozen=True)
class Stage:
    """So many steps at one size."""

    size: tuple[int, int]
    steps: int


@final
@dataclass(frozen=True)
class Problem:
    """Everything that is fixed before the first step.

    Args:
        scene: Makes the scene of a size; called once a stage.
        models: Frozen networks by name.
        variable: What is optimised.
        terms: What is wanted.
        optimizer: How it is searched.
        players: Networks that learn, by name.
        stages: In order.
        seeds: One per image; they are separate problems, solved side by side.
        device: Where.
    """

    scene: Callable[[tuple[int, int]], Scene]
    models: Mapping[str, Any]
    variable: Variable
    terms: Sequence[Term]
    optimizer: Optimizer
    players: Mapping[str, Player]
    stages: Sequence[Stage]
    seeds: tuple[int, ...] = (0,)
    device: torch.device = torch.device("cpu")

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)


@final
@dataclass(frozen=True)
class Report:
    """What one step did.

    Args:
        step: Steps of the run taken so far, from 1.
        total: Steps of the whole run.
        stage: Index of the stage.
        size: Of the stage.
        values: `(b,)` raw value of every term that counted, by name, before the change.
        weights: Their weights on this step.
        losses: `(b,)` weighted sum.
        run: The run, for whoever wants pictures or a checkpoint.
    """

    step: int
    total: int
    stage: int
    size: tuple[int, int]
    values: Mapping[str, Tensor]
    weights: Mapping[str, float]
    losses: Float[Tensor, " b"]
    run: Run


@dataclass
class _Best:
    """Lowest loss and its image, per image; kept on the device, compared without a branch."""

    losses: Tensor
    images: Tensor
    steps: Tensor
    terms: tuple[str, ...] = ()
    stage: int = -1


@final
@dataclass
class Run:
    """A problem under way.

    Args:
        problem: What is solved.
    """

    problem: Problem
    step: int = field(default=0, init=False)
    stage: int = field(default=-1, init=False)
    status: Status = field(default=Status.RUNNING, init=False)
    seconds: float = field(default=0.0, init=False)
    params: list[Tensor] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        problem = self.problem
        names = [term.name for term in problem.terms]
        if len(set(names)) < len(names):
            raise InputError(f"Term names must be unique, got {names}.")
        if problem.optimizer.couples_images and len(problem.seeds) > 1:
            raise InputError("This optimizer mixes the images of a batch; give it one seed a run.")
        self.randomness = Randomness(problem.seeds, problem.device)
        self._scene: Scene | None = None
        self._terms: list[Term] = []
        self._players: dict[str, Player] = {}
        self._begun: set[str] = set()
        self._state: Any = None
        self._best: _Best | None = None
        self._restored: dict[str, Any] | None = None

    # ------------------------------------------------------------------ the loop

    def steps(self) -> Iterator[Report]:
        """Take the steps that are left, one at a time.

        The status is set when the iterator ends. Breaking out of it leaves a run that can be
        saved, restored or iterated again.
        """
        self.status = Status.RUNNING
        while (place := self._place()) is not None:
            stage, stage_step = place
            started = time.perf_counter()
            if self._scene is None or stage != self.stage:
                self._enter(stage)
            report = self._take(stage_step)
            if stage_step + 1 == self.problem.stages[stage].steps:
                self.problem.optimizer.finish(self.params, self._state)
            self.seconds += time.perf_counter() - started
            if not self._finite(report.losses):
                self.status = Status.NON_FINITE
            yield report
            if self.status is not Status.RUNNING:
                return
        self.status = Status.FINISHED

    def _finite(self, losses: Tensor) -> bool:
        """Whether all is well; on an accelerator asked rarely, since asking waits for it."""
        if losses.device.type != "cpu" and self.step % _ASK_EVERY:
            return True
        return bool(losses.isfinite().all())

    def _place(self) -> tuple[int, int] | None:
        """Stage and step in it of the next step; None when all are taken."""
        left = self.step
        for index, stage in enumerate(self.problem.stages):
            if left < stage.steps:
                return index, left
            left -= stage.steps
        return None

    def _enter(self, index: int) -> None:
        """Everything that is done once a stage: scene, terms, players, optimizer state."""
        stage, problem = self.problem.stages[index], self.problem
        self._terms = [term for term in problem.terms if term.fits(stage.size)]
        needs = _union([term.objective.needs(problem.models) for term in self._terms])
        self._players = self._asked(index)
        self._scene = scene = replace(
            problem.scene(stage.size), models=problem.models, players=self._players, needs=needs
        )
        for name in self._players:
            self._begin(name, scene)
        with torch.no_grad():
            self._prepare_terms(scene)
            if not self.params:
                fresh = problem.variable.start(scene, self.randomness)
            else:
                old = problem.stages[self.stage].size
                fresh = problem.variable.resize(self.params, old, stage.size)
        self.params = [param.detach().clone().requires_grad_() for param in fresh]
        self.stage = index
        if self._restored is not None:
            self._resume(self._restored)
            self._restored = None
        else:
            self._state = problem.optimizer.init(self.params)

    def _asked(self, index: int) -> dict[str, Player]:
        """The players that a term of this stage asks."""
        terms = [t for t in self.problem.terms if t.fits(self.problem.stages[index].size)]
        asked = {name for term in terms for name in term.objective.players()}
        return {name: player for name, player in self.problem.players.items() if name in asked}

    def _begin(self, name: str, scene: Scene) -> None:
        self.problem.players[name].begin(scene, self.randomness, purpose=f"players/{name}")
        self._begun.add(name)

    def _prepare_terms(self, scene: Scene) -> None:
        reference = None
        if scene.reference is not None:
            reference = View(scene.reference, scene, Randomness((0,)), is_reference=True)
        for term in self._terms:
            term.objective.prepare(reference and reference.within(term.region))

    def _take(self, stage_step: int) -> Report:
        """One step: the players learn, the terms are evaluated, the variable changes."""
        problem, scene, step = self.problem, self._scene, self.step
        if scene is None:
            raise InputError("A step was asked for before its stage began.")
        terms = [term for term in self._terms if term.counts(step)]
        if not terms:
            raise InputError(
                f"No term counts at step {step} (stage {self.stage + 1}, size "
                f"{scene.size[0]}×{scene.size[1]}). Check `start`, `stop` and `min_size`."
            )
        weights = {t.name: value_at(t.weight, step, problem.total_steps) for t in terms}
        # One image serves the players, the best and the first evaluation of the terms.
        looks = [problem.variable.look(self.params, scene, self.randomness, step)]
        images = looks[0].detach()
        if problem.variable.moves_pixels:
            with torch.no_grad():
                images = problem.variable.image(self.params, scene)
        images = images.clone()  # pixels are their own image, and the step will change them
        for player in self._players.values():
            player.learn(images, step=step)
        values: dict[str, Tensor] = {}

        def closure() -> Tensor:
            if looks:
                look = looks.pop()
            else:  # a line search asks again
                look = problem.variable.look(self.params, scene, self.randomness, step)
            view = View(look, scene, self.randomness, step)
            total = look.new_zeros(len(look))
            for term in terms:
                value = evaluate(term.objective, view, term.region)
                values.setdefault(term.name, value.detach())
                total = total + weights[term.name] * value
            return total

        stage = problem.stages[self.stage]
        losses = problem.optimizer.step(
            closure, self.params, self._state, step=stage_step, total=stage.steps
        )
        self._keep_best(losses, images, tuple(weights))
        self.step += 1
        return Report(
            step=self.step,
            total=problem.total_steps,
            stage=self.stage,
            size=scene.size,
            values=values,
            weights=weights,
            losses=losses,
            run=self,
        )

    def _keep_best(self, losses: Tensor, images: Tensor, terms: tuple[str, ...]) -> None:
        """Compare with the best so far; a new stage or another set of terms starts afresh."""
        best, step = self._best, torch.full_like(losses, self.step, dtype=torch.long)
        if best is None or best.stage != self.stage or best.terms != terms:
            infinite, kept = torch.full_like(losses, torch.inf), images
            if best is not None:  # until there is a finite loss: the last finite picture
                finite = images.isfinite().all((1, 2, 3), keepdim=True)
                size = (images.shape[-2], images.shape[-1])
                kept = torch.where(finite, images, resize_image(best.images, size))
            best = self._best = _Best(infinite, kept, step, terms, self.stage)
        better = (losses < best.losses) & losses.isfinite()
        best.losses = torch.where(better, losses, best.losses)
        best.steps = torch.where(better, step, best.steps)
        best.images = torch.where(better[:, None, None, None], images, best.images)

    # ------------------------------------------------------------------ what it has

    def last_images(self) -> Float[Tensor, "b 3 h w"]:
        """The images as they are now, cut to [0, 1]."""
        if self._scene is None:
            raise InputError("There is no image before the first step.")
        with torch.no_grad():
            return self.problem.variable.image(self.params, self._scene).clamp(0, 1)

    def best_images(self) -> Float[Tensor, "b 3 h w"]:
        """The images of lowest loss since the last change of stage or terms, cut to [0, 1]."""
        return self.last_images() if self._best is None else self._best.images.clamp(0, 1)

    def best_steps(self) -> list[int]:
        """The step of each best image."""
        return [] if self._best is None else [int(step) for step in self._best.steps]

    def best_losses(self) -> list[float]:
        """The loss of each best image."""
        return [] if self._best is None else [float(loss) for loss in self._best.losses]

    # ------------------------------------------------------------------ surviving

    def save(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors, numbers, strings, lists and dicts."""
        best = self._best
        return {
            "step": self.step,
            "stage": self.stage,
            "seconds": self.seconds,
            "seeds": list(self.problem.seeds),
            "params": [param.detach().clone() for param in self.params],
            "optimizer": self.problem.optimizer.save(self._state) if self.params else {},
            "players": {name: self.problem.players[name].save() for name in sorted(self._begun)},
            "terms": {term.name: deepcopy(term.objective.save()) for term in self._terms},
            "best": None
            if best is None
            else {
                "losses": best.losses,
                "images": best.images,
                "steps": best.steps,
                "terms": list(best.terms),
                "stage": best.stage,
            },
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from where `save` was called, in a run of the same problem not yet begun."""
        if tuple(saved["seeds"]) != self.problem.seeds:
            raise InvertkitError(
                f"The checkpoint is of seeds {saved['seeds']}, this run of "
                f"{list(self.problem.seeds)}."
            )
        self.step, self.seconds = saved["step"], saved["seconds"]
        if saved["stage"] < 0:
            return
        self.params = [param.to(self.problem.device) for param in saved["params"]]
        if (best := saved["best"]) is not None:
            losses, images, steps = (
                best[name].to(self.problem.device) for name in ("losses", "images", "steps")
            )
            self._best = _Best(losses, images, steps, tuple(best["terms"]), best["stage"])
        # Between two stages the next one starts from the finished images; within one, the state
        # of players and optimizer is taken up after the stage has been set up.
        self._enter_at(saved)

    def _enter_at(self, saved: Mapping[str, Any]) -> None:
        self._restored, self.stage = dict(saved), saved["stage"]
        self._enter(self.stage)

    def _here(self, value: Any) -> Any:
        return value.to(self.problem.device, copy=True) if isinstance(value, Tensor) else value

    def _resume(self, saved: Mapping[str, Any]) -> None:
        with torch.no_grad():
            for param, value in zip(self.params, saved["params"], strict=True):
                param.copy_(value)
        self._state = self.problem.optimizer.load(self.params, saved["optimizer"])
        for term in self._terms:
            computed = saved["terms"][term.name].items()
            term.objective.load({name: self._here(value) for name, value in computed})
        for name, learnt in saved["players"].items():
            if name not in self._begun:  # it rests in this stage: begin where it learnt last
                last = max(i for i in range(self.stage) if name in self._asked(i))
                self._begin(name, self.problem.scene(self.problem.stages[last].size))
            self.problem.players[name].load(learnt)


def _union(needs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    layers: dict[str, set[str]] = {}
    for need in needs:
        for model, names in need.items():
            layers.setdefault(model, set()).update(names)
    return {model: tuple(sorted(names)) for model, names in layers.items()}
