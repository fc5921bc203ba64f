"""The loop. It knows roles, not parts: stages, terms, players, observers, checkpoints.

`Run` holds everything that changes while an inversion goes on. `Run.steps()` takes one step at a
time and yields a report; whoever iterates decides what to show, when to save and when to stop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.randomness import Randomness, StepDraws
from invertkit.core.recording.recorder import speaking_of
from invertkit.core.recording.replay import Compile, Replays
from invertkit.engine.best import Best
from invertkit.engine.candidates import StepBest
from invertkit.engine.checks import check_problem
from invertkit.engine.landscape import StepLandscape, StepSetting
from invertkit.engine.problem import Problem, Status
from invertkit.engine.replaying import StepTaker
from invertkit.engine.stage import Moment, StageRun, enter_stage
from invertkit.errors import InputError, InvertkitError

_ASK_EVERY = 50
"""Steps between two questions to an accelerator whether the losses are finite."""


@final
@dataclass(frozen=True, repr=False)
class StepReport:
    """What one step did.

    Args:
        step: Steps of the run taken so far, from 1.
        total: Steps of the whole run.
        stage: Index of the stage.
        size: Of the stage.
        weights: Of the terms that counted, by name.
        readings: `(1 + terms, b)`: the weighted sum, then the raw value of every term, before the
            change. They stay on the device: reading them waits for it.
        run: The run, for whoever wants pictures or a checkpoint.
    """

    step: int
    total: int
    stage: int
    size: tuple[int, int]
    weights: Mapping[str, float]
    readings: Float[Tensor, "n b"]
    run: Run

    @property
    def losses(self) -> Float[Tensor, " b"]:
        """Weighted sum of the terms."""
        return self.readings[0]

    @property
    def values(self) -> dict[str, Float[Tensor, " b"]]:
        """Raw value of every term that counted, by name."""
        return dict(zip(self.weights, self.readings[1:], strict=True))

    def __repr__(self) -> str:
        height, width = self.size
        losses = ", ".join(f"{loss:.4g}" for loss in self.losses[:4].tolist())
        more = ", …" if len(self.losses) > 4 else ""
        return (
            f"<StepReport of step {self.step}/{self.total}, {width}×{height}, loss {losses}{more}>"
        )


@final
@dataclass(repr=False)
class Run:
    """A problem under way.

    Args:
        problem: What is solved.
        compile: How its steps are taken; see `invertkit.core.recording.replay.Compile`.

    Attributes:
        step: How many steps are taken.
        status: How it ended, or that it has not.
        seconds: That the steps have taken.
        lost: Of each image, whether its loss was seen not to be finite.

    Raises:
        InputError: The problem has no seed, or names a term twice.
        RecipeError: Its parts do not go together.
    """

    problem: Problem
    compile: Compile = "off"
    step: int = field(default=0, init=False)
    status: Status = field(default=Status.RUNNING, init=False)
    seconds: float = field(default=0.0, init=False)
    lost: tuple[bool, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        problem = self.problem
        check_problem(problem)
        self.lost = (False,) * len(problem.seeds)
        draws = StepDraws()
        self.randomness = Randomness(problem.seeds, problem.device, step_draws=draws)
        self._taker = StepTaker(self.compile, problem.device, draws)
        self._stage: StageRun | None = None
        self._begun: set[str] = set()
        self._best: Best | None = None

    def __repr__(self) -> str:
        steps, images = self.problem.total_steps, len(self.problem.seeds)
        return f"<Run: step {self.step} of {steps}, {images} images; it {self.status.value}>"

    # ------------------------------------------------------------------ the loop

    def steps(self) -> Iterator[StepReport]:
        """Take the steps that are left, one at a time.

        The status is set when the iterator ends. Breaking out of it leaves a run that can be
        saved, restored or iterated again.
        """
        self.status = Status.RUNNING
        while (index := self._stage_of(self.step)) is not None:
            started = time.perf_counter()
            stage = self._stage
            if stage is None or stage.index != index:
                stage = self._enter(index)
            report = self._take(stage)
            if self.step == stage.plan.end:
                stage.finish()
            self.seconds += time.perf_counter() - started
            if not self._goes_on(report.losses):
                self.status = Status.NON_FINITE
            yield report
            if self.status is not Status.RUNNING:
                return
        self.status = Status.NON_FINITE if any(self.lost) else Status.FINISHED

    def go_to(self, step: int) -> None:
        """Stand before a step without having taken those before it, for timing it alone."""
        index = self._stage_of(step)
        if index is None:
            raise InputError(f"There is no step {step}; the run has {self.problem.total_steps}.")
        self.step = step
        if index != self.stage:
            self._enter(index)

    def _stage_of(self, step: int) -> int | None:
        """Index of the stage that a step belongs to; None after the last one."""
        for index, stage in enumerate(self.problem.stages):
            if step < stage.steps:
                return index
            step -= stage.steps
        return None

    def _enter(self, index: int, saved: Mapping[str, Any] | None = None) -> StageRun:
        """Begin a stage, or go on in it from where it was saved."""
        params = None if saved is None else self._on_device(saved["params"])
        stage = enter_stage(self.problem, index, self.randomness, before=self._stage, params=params)
        self._stage = stage
        self._begun.update(stage.plan.players)
        self._taker.enter(stage)
        if saved is None:
            stage.start_search()
        else:
            self._resume(stage, saved)
        return stage

    def _take(self, stage: StageRun) -> StepReport:
        """One step, taken by Python or replayed."""
        moment = stage.moment(self.step)
        readings = self._taker.take(stage, moment, lambda: self._work(stage, moment))
        self.step += 1
        return StepReport(
            step=self.step,
            total=self.problem.total_steps,
            stage=stage.index,
            size=stage.plan.stage.size,
            weights=moment.weights,
            readings=readings,
            run=self,
        )

    def _work(self, stage: StageRun, moment: Moment) -> Float[Tensor, "n b"]:
        """The step itself: the players learn, the terms are evaluated, the variable changes.

        Returns:
            The losses, then the raw value of every term.
        """
        plan, step_best = stage.plan, StepBest(len(self.problem.seeds))
        setting = StepSetting(
            variable=plan.variable,
            scene=stage.scene,
            terms=moment.terms,
            weights=self._taker.weights(moment),
            randomness=self.randomness,
            step=moment.step,
            frames=stage.frames,
            chunks=stage.chunks,
            best=step_best,
        )
        landscape = StepLandscape(stage.params, setting)
        if plan.players:  # one look serves the players and the first evaluation of the terms
            images = landscape.look_ahead()
            for name, player in plan.players.items():
                with speaking_of(f"players.{name}"):
                    player.learn(images, step=moment.step)
        losses = plan.optimizer.step(
            landscape, stage.params, stage.state, step=moment.stage_step, total=plan.stage.steps
        )
        stage.confine()
        self._keep_best(stage, step_best, tuple(moment.weights))
        values = (step_best.values[name].to(losses) for name in moment.weights)
        return torch.stack([losses, *values])

    def _keep_best(self, stage: StageRun, seen: StepBest, terms: tuple[str, ...]) -> None:
        """Compare with the best so far; a new stage or another set of terms starts afresh."""
        if seen.losses is None:  # candidates in frames of their own have not been compared yet
            return
        best = self._best
        if best is None or best.stage != stage.index or best.terms != terms:
            best = self._best = Best.afresh(
                best, seen.losses, seen.images, seen.points, terms=terms, stage=stage.index
            )
        best.offer(seen.losses, seen.images, seen.points, self._taker.now)

    def _goes_on(self, losses: Float[Tensor, " b"]) -> bool:
        """Whether an image is left to go on with; on an accelerator asked rarely, since it waits.

        Images are separate problems: one that is lost does not end the others.
        """
        last = self.step == self.problem.total_steps
        if losses.device.type != "cpu" and self.step % _ASK_EVERY and not last:
            return True
        fine = losses.isfinite().tolist()
        self.lost = tuple(lost or not good for lost, good in zip(self.lost, fine, strict=True))
        return not all(self.lost)

    # ------------------------------------------------------------------ what it has

    @property
    def stage(self) -> int:
        """Index of the stage that has begun last; -1 before the first."""
        return -1 if self._stage is None else self._stage.index

    @property
    def params(self) -> Params:
        """The variable's tensors by name, as they are now; empty before the first stage."""
        return {} if self._stage is None else self._stage.params

    @property
    def search_state(self) -> Any:
        """What the optimizer remembers; None before the first stage."""
        return None if self._stage is None else self._stage.state

    @property
    def replays(self) -> Replays:
        """The recordings of its steps."""
        return self._taker.replays

    @property
    def obstacle(self) -> str:
        """Why the steps of this stage are not replayed; empty if they are."""
        return self._taker.obstacle

    def last_images(self) -> Float[Tensor, "b 3 h w"]:
        """The images as they are now, cut to [0, 1]."""
        if self._stage is None:
            raise InputError("There is no image before the first step.")
        return self._stage.images().clamp(0, 1)

    def best_images(self) -> Float[Tensor, "b 3 h w"]:
        """The images of lowest loss since the last change of stage or terms, cut to [0, 1].

        Where nothing has been compared yet, as in the first generation of a search whose
        candidates are judged at its end, the images as they are now; so for what is below.
        """
        return self.last_images() if self._best is None else self._best.images.clamp(0, 1)

    def best_tensors(self) -> Params:
        """The tensors behind the best images, by name; empty where the image itself is searched."""
        variable = None if self._stage is None else self._stage.plan.variable
        if self._best is not None:
            tensors = dict(self._best.params)
        elif variable is None or not variable.is_latent:
            return {}
        else:
            tensors = {name: param.detach().clone() for name, param in self.params.items()}
        return tensors if variable is None else variable.result_tensors(tensors)

    def best_steps(self) -> list[int]:
        """The step of each best image, from 0."""
        if self._best is None:
            return [max(0, self.step - 1)] * len(self.problem.seeds)
        return [int(step) for step in self._best.steps]

    def best_losses(self) -> list[float]:
        """The loss of each best image; not a number where nothing has been compared yet."""
        if self._best is None:
            return [math.nan] * len(self.problem.seeds)
        return [float(loss) for loss in self._best.losses]

    # ------------------------------------------------------------------ surviving

    def save(self) -> dict[str, Any]:
        """Everything that `restore` needs, as tensors, numbers, strings, lists and dicts."""
        stage, players = self._stage, self.problem.players
        return {
            "step": self.step,
            "stage": self.stage,
            "seconds": self.seconds,
            "seeds": list(self.problem.seeds),
            "lost": list(self.lost),
            "params": {name: param.detach().clone() for name, param in self.params.items()},
            "optimizer": {} if stage is None else stage.plan.optimizer.save(stage.state),
            "players": {name: players[name].save() for name in sorted(self._begun)},
            "terms": {
                term.name: deepcopy(term.objective.save())
                for term in (() if stage is None else stage.plan.terms)
            },
            "best": None if self._best is None else self._best.save(),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from where `save` was called, in a run of the same problem not yet begun.

        Raises:
            InvertkitError: It was a run of other seeds.
        """
        if tuple(saved["seeds"]) != self.problem.seeds:
            raise InvertkitError(
                f"The checkpoint is of seeds {saved['seeds']}, this run of "
                f"{list(self.problem.seeds)}."
            )
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.lost = tuple(saved["lost"])
        if saved["best"] is not None:
            self._best = Best.load(saved["best"], self.problem.device)
        # Between two stages too it is the one that has ended that is entered: the next one begins
        # with its finished tensors, as if it had not been left.
        if saved["stage"] >= 0:
            self._enter(saved["stage"], saved)

    def _resume(self, stage: StageRun, saved: Mapping[str, Any]) -> None:
        """Take up what optimizer, terms and players knew."""
        stage.state = stage.plan.optimizer.load(stage.params, saved["optimizer"])
        for term in stage.plan.terms:
            term.objective.load(self._on_device(saved["terms"][term.name]))
        for name, learnt in saved["players"].items():
            if name not in self._begun:
                self._begin_resting(name, stage.index)
            self.problem.players[name].load(learnt)

    def _begin_resting(self, name: str, index: int) -> None:
        """A player that this stage does not ask, but an earlier one did, begins where it learnt."""
        problem = self.problem
        last = max(i for i in range(index) if name in problem.players_of(i))
        scene = problem.scene(problem.stages[last].size)
        problem.players[name].begin(scene, self.randomness, purpose=f"players/{name}")
        self._begun.add(name)

    def _on_device(self, saved: Mapping[str, Any]) -> dict[str, Any]:
        """Copies of the tensors among what was saved, where the run is."""
        return {
            name: value.to(self.problem.device, copy=True) if isinstance(value, Tensor) else value
            for name, value in saved.items()
        }
