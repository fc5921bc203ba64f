"""The loop. It knows roles, not parts: stages, terms, players, observers, checkpoints.

`Run` holds everything that changes while an inversion goes on. `Run.steps()` takes one step at a
time and yields a report; whoever iterates decides what to show, when to save and when to stop.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.randomness import Randomness, Standing
from invertkit.core.recording.replay import Compile, Replays
from invertkit.core.recording.tape import speaking_of
from invertkit.core.scene import Scene
from invertkit.core.schedules import value_at
from invertkit.core.view import View
from invertkit.engine.best import Best
from invertkit.engine.candidates import Seen
from invertkit.engine.frames import Frames
from invertkit.engine.landscape import Evaluation
from invertkit.engine.problem import Problem, Status, Term
from invertkit.engine.step_kinds import Phases, phases_of, replays
from invertkit.errors import InputError, InvertkitError, RecipeError
from invertkit.objectives.base import Objective
from invertkit.optimizers.base import Optimizer
from invertkit.players.base import Player
from invertkit.variables.base import Variable

_ASK_EVERY = 50


@final
@dataclass(frozen=True)
class Report:
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
        return f"<Report of step {self.step}/{self.total}, {width}×{height}, loss {losses}{more}>"


@final
@dataclass(repr=False)
class Run:
    """A problem under way.

    Args:
        problem: What is solved.
        compile: How its steps are taken; see `invertkit.core.recording.replay.Compile`.
    """

    problem: Problem
    compile: Compile = "off"
    step: int = field(default=0, init=False)
    stage: int = field(default=-1, init=False)
    status: Status = field(default=Status.RUNNING, init=False)
    seconds: float = field(default=0.0, init=False)
    params: Params = field(default_factory=dict, init=False)
    lost: tuple[bool, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        problem = self.problem
        names = [term.name for term in problem.terms]
        if len(set(names)) < len(names):
            raise InputError(f"Term names must be unique, got {names}.")
        if not problem.seeds:
            raise InputError("There is nothing to do without a seed; give at least one.")
        for index in range(len(problem.stages)):
            self._check(index)
        self.lost = (False,) * len(problem.seeds)
        self._standing = Standing()
        self.randomness = Randomness(problem.seeds, problem.device, standing=self._standing)
        self.replays = Replays(self.compile, problem.device)
        self._obstacle = ""
        self._epoch: tuple[Any, ...] = ()
        self._now = torch.zeros((), dtype=torch.long, device=problem.device)
        self._weights = torch.zeros(0)
        self._scene: Scene | None = None
        self._terms: list[Term] = []
        self._players: dict[str, Player] = {}
        self._begun: set[str] = set()
        self._state: Any = None
        self._frames = Frames(len(problem.seeds))
        self._best: Best | None = None
        self._restored: dict[str, Any] | None = None

    def _check(self, index: int) -> None:
        """Whether the parts of a stage go together."""
        problem, stage = self.problem, self.problem.stages[index]
        optimizer, variable = problem.optimizer_of(index), problem.variable_of(index)
        if optimizer.couples_images and len(problem.seeds) > 1:
            raise InputError("This optimizer mixes the images of a batch; give it one seed a run.")
        optimizer.check(stage.steps)
        if optimizer.searches and (players := problem.players_of(index)):
            raise RecipeError(
                f"players: {', '.join(players)} would learn from one picture of each image, and "
                f"this optimizer ({type(optimizer).__name__}) judges a population of them; use "
                "`adam`, or leave out the terms that ask players."
            )
        held = [t.name for t in problem.terms if t.objective.holds_reference and t.fits(stage)]
        if variable.frame_names and held:
            raise RecipeError(
                f"objective.{held[0]}: {type(variable).__name__} moves the reference while images "
                "are judged, and this term keeps it as it lies; use one that asks for it at every "
                "look, such as `pixel_distance`, `lpips` or `feature_cosine`."
            )
        if not variable.names:
            return
        at = "optimizer" if stage.optimizer is None else f"stages.{stage.name or index}.optimizer"
        try:
            optimizer.moves(variable.names)
        except RecipeError as error:
            raise RecipeError(f"{at}: {error}") from None
        follows = optimizer.follows(variable.names)
        if follows and set(follows) <= set(variable.frame_names):
            raise RecipeError(
                f"{at}: over: no gradient reaches {', '.join(follows)}; search it with `cma_es`, "
                "or let the optimizer change another tensor too: "
                f"{', '.join(n for n in variable.names if n not in variable.frame_names)}."
            )

    def __repr__(self) -> str:
        steps, images = self.problem.total_steps, len(self.problem.seeds)
        return f"<Run: step {self.step} of {steps}, {images} images; it {self.status.value}>"

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
                self._finish_stage()
            self.seconds += time.perf_counter() - started
            if not self._finite(report.readings[0]):
                self.status = Status.NON_FINITE
            yield report
            if self.status is not Status.RUNNING:
                return
        self.status = Status.NON_FINITE if any(self.lost) else Status.FINISHED

    def go_to(self, step: int) -> None:
        """Stand before a step without having taken those before it, for timing it alone."""
        self.step = step
        if (place := self._place()) is None:
            raise InputError(f"There is no step {step}; the run has {self.problem.total_steps}.")
        if self._scene is None or place[0] != self.stage:
            self._enter(place[0])

    @property
    def obstacle(self) -> str:
        """Why the steps of this stage are not replayed; empty if they are."""
        return self._obstacle

    def _finite(self, losses: Tensor) -> bool:
        """Whether an image is left to go on with; on an accelerator asked rarely, since it waits.

        Images are separate problems: one that is lost does not end the others.
        """
        last = self.step == self.problem.total_steps
        if losses.device.type != "cpu" and self.step % _ASK_EVERY and not last:
            return True
        fine = losses.isfinite().tolist()
        self.lost = tuple(lost or not good for lost, good in zip(self.lost, fine, strict=True))
        return not all(self.lost)

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
        self._terms = [term for term in problem.terms if term.fits(stage)]
        needs = _union([term.objective.needs(problem.models) for term in self._terms])
        self._players = problem.players_of(index)
        self._scene = scene = replace(
            problem.scene(stage.size), models=problem.models, players=self._players, needs=needs
        )
        for name in self._players:
            self._begin(name, scene)
        with torch.no_grad():
            self._prepare_terms(scene)
            fresh = self._params_of(index, scene)
        self.params = {
            name: param.detach().clone().requires_grad_() for name, param in fresh.items()
        }
        self.stage, self._frames, self._epoch = index, Frames(len(problem.seeds)), ()
        self._obstacle = self._obstacles()
        if self._obstacle and self.compile != "off":
            self.replays.say(
                f"The steps of stage {index + 1} are taken one by one: {self._obstacle}."
            )
        if self._restored is not None:
            self._resume(self._restored)
            self._restored = None
        else:
            self._state = self._optimizer.init(self.params)

    @property
    def _optimizer(self) -> Optimizer:
        return self.problem.optimizer_of(self.stage)

    @property
    def _variable(self) -> Variable:
        return self.problem.variable_of(self.stage)

    def _params_of(self, index: int, scene: Scene) -> Params:
        """Tensors to begin a stage with: those of the stage before, as far as there are any."""
        variable, size = self.problem.variable_of(index), self.problem.stages[index].size
        if not self.params:
            return variable.start(scene, self.randomness)
        if self._restored is not None:  # they are of this stage
            return self.params
        before = self.problem.variable_of(self.stage)
        old = before.resize(self.params, self.problem.stages[self.stage].size, size)
        if before is variable:
            return old
        fresh = variable.start(scene, self.randomness)
        for name, new in fresh.items():
            if name in old and old[name].shape != new.shape:
                raise InputError(
                    f"Stage {index + 1} takes over {name!r} as {tuple(old[name].shape)} from the "
                    f"stage before, and its own variable wants {tuple(new.shape)}: they are not "
                    "of one model or size."
                )
        return {name: old.get(name, new) for name, new in fresh.items()}

    def _finish_stage(self) -> None:
        self._optimizer.finish(self.params, self._state)
        if self._variable.confines:
            with torch.no_grad():
                self._variable.confine(self.params)

    def _begin(self, name: str, scene: Scene) -> None:
        self.problem.players[name].begin(scene, self.randomness, purpose=f"players/{name}")
        self._begun.add(name)

    def _prepare_terms(self, scene: Scene) -> None:
        looks: dict[str, View] = {}  # one an input, so that its terms share what models say of it
        for term in self._terms:
            image = scene.image_of(term.of)
            if image is not None and term.of not in looks:
                draws = Randomness((0,) * len(image))
                looks[term.of] = View(image, scene, draws, is_reference=True)
            look = looks.get(term.of)
            term.objective.prepare(look and look.within(term.region, term.of))

    def _take(self, stage_step: int) -> Report:
        """One step, taken by Python or replayed."""
        problem, scene = self.problem, self._scene
        if scene is None:
            raise InputError("A step was asked for before its stage began.")
        terms = [term for term in self._terms if term.counts(self.step)]
        if not terms:
            raise InputError(
                f"No term counts at step {self.step} (stage {self.stage + 1}, size "
                f"{scene.size[0]}×{scene.size[1]}). Check `start`, `stop` and `min_size`."
            )
        weights = {t.name: value_at(t.weight, self.step, problem.total_steps) for t in terms}
        self._tell(weights, stage_step)
        kind = self._kind(terms, self.step, stage_step)

        def step() -> Tensor:
            return self._work(terms, stage_step)

        if self._obstacle or not replays(kind):
            readings = step()
        else:
            with self._standing.opened():
                readings = self.replays.take(
                    kind,
                    step,
                    to_come=lambda: self._to_come(kind, stage_step),
                    volatile=lambda: [*self._standing.tensors, self._weights, self._now],
                    name=f"stage {self.stage + 1}, {scene.size[1]}×{scene.size[0]}",
                )
        self.step += 1
        return Report(
            step=self.step,
            total=problem.total_steps,
            stage=self.stage,
            size=scene.size,
            weights=weights,
            readings=readings,
            run=self,
        )

    def _tell(self, weights: Mapping[str, float], stage_step: int) -> None:
        """Put the numbers of this step where a replay looks for them."""
        epoch = (self.stage, *weights)
        if epoch != self._epoch:
            self._epoch = epoch
            self.replays.forget()
            self._standing.forget()
            self._told: list[float] = []
            self._weights = torch.empty(len(weights), dtype=torch.float64, device=self._now.device)
        if (numbers := list(weights.values())) != self._told:
            self._weights.copy_(torch.tensor(numbers, dtype=torch.float64), non_blocking=True)
            self._told = numbers
        self._now.fill_(self.step)
        self._standing.go_to(self.step)
        total = self.problem.stages[self.stage].steps
        self._optimizer.schedule(self._state, step=stage_step, total=total)

    def _kind(self, terms: Sequence[Term], step: int, stage_step: int) -> Phases:
        """What a step does: steps of one kind do the same operations."""
        return phases_of(
            self._players.values(),
            terms,
            self._optimizer,
            step=step,
            stage_step=stage_step,
            total=self.problem.stages[self.stage].steps,
        )

    def _to_come(self, kind: Phases, stage_step: int) -> int:
        """How many steps like this one are left before the stage or its terms change."""
        left, terms = self.problem.stages[self.stage].steps - stage_step, self._epoch[1:]
        count = 0
        for ahead in range(left):
            step = self.step + ahead
            counting = [term for term in self._terms if term.counts(step)]
            if tuple(term.name for term in counting) != terms:
                break
            count += self._kind(counting, step, stage_step + ahead) == kind
        return count

    def _obstacles(self) -> str:
        """Why the steps of this stage cannot be replayed; empty if they can."""
        if self.compile == "off":
            return "nobody asked for it"
        objectives = [term.objective for term in self._terms]
        parts: list[Variable | Player | Objective | Optimizer] = [
            self._variable,
            *self._players.values(),
            *objectives,
            self._optimizer,
        ]
        return next((part.obstacle for part in parts if part.obstacle), "")

    def _work(self, terms: Sequence[Term], stage_step: int) -> Tensor:
        """The step itself: the players learn, the terms are evaluated, the variable changes.

        Returns:
            `(1 + terms, b)`: the losses, then the raw value of every term.
        """
        problem, scene, step = self.problem, self._scene, self.step
        assert scene is not None  # noqa: S101 # by _take
        names = [term.name for term in terms]
        seen = Seen(len(problem.seeds))
        landscape = Evaluation(
            self.params,
            variable=self._variable,
            scene=scene,
            terms=terms,
            weights=dict(zip(names, self._weights, strict=True)),
            randomness=self.randomness,
            step=step,
            frames=self._frames,
            seen=seen,
            memory=None if self._players else problem.memory,
        )
        if self._players:  # one look serves the players and the first evaluation of the terms
            images = landscape.look_ahead()
            for name, player in self._players.items():
                with speaking_of(f"players.{name}"):
                    player.learn(images, step=step)
        losses = self._optimizer.step(
            landscape,
            self.params,
            self._state,
            step=stage_step,
            total=problem.stages[self.stage].steps,
        )
        if self._variable.confines:
            with torch.no_grad():
                self._variable.confine(self.params)
        self._keep_best(seen, tuple(names))
        return torch.stack([losses, *(seen.values[name].to(losses) for name in names)])

    def _keep_best(self, seen: Seen, terms: tuple[str, ...]) -> None:
        """Compare with the best so far; a new stage or another set of terms starts afresh."""
        if seen.losses is None:
            return
        best = self._best
        if best is None or best.stage != self.stage or best.terms != terms:
            best = self._best = Best.afresh(
                best, seen.losses, seen.images, seen.points, terms=terms, stage=self.stage
            )
        best.offer(seen.losses, seen.images, seen.points, self._now)

    # ------------------------------------------------------------------ what it has

    def last_images(self) -> Float[Tensor, "b 3 h w"]:
        """The images as they are now, cut to [0, 1]."""
        if self._scene is None:
            raise InputError("There is no image before the first step.")
        with torch.no_grad():
            return self._variable.image(self.params, self._scene).clamp(0, 1)

    def best_images(self) -> Float[Tensor, "b 3 h w"]:
        """The images of lowest loss since the last change of stage or terms, cut to [0, 1]."""
        return self.last_images() if self._best is None else self._best.images.clamp(0, 1)

    def best_tensors(self) -> dict[str, Tensor]:
        """The tensors behind the best images, by name; empty where the image itself is searched."""
        return {} if self._best is None else dict(self._best.params)

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
            "lost": list(self.lost),
            "params": {name: param.detach().clone() for name, param in self.params.items()},
            "optimizer": self._optimizer.save(self._state) if self.params else {},
            "players": {name: self.problem.players[name].save() for name in sorted(self._begun)},
            "terms": {term.name: deepcopy(term.objective.save()) for term in self._terms},
            "best": None if best is None else best.save(),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from where `save` was called, in a run of the same problem not yet begun."""
        if tuple(saved["seeds"]) != self.problem.seeds:
            raise InvertkitError(
                f"The checkpoint is of seeds {saved['seeds']}, this run of "
                f"{list(self.problem.seeds)}."
            )
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.lost = tuple(saved["lost"])
        if saved["stage"] < 0:
            return
        self.params = {
            name: param.to(self.problem.device) for name, param in saved["params"].items()
        }
        if saved["best"] is not None:
            self._best = Best.load(saved["best"], self.problem.device)
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
            for name, param in self.params.items():
                param.copy_(saved["params"][name])
        self._state = self._optimizer.load(self.params, saved["optimizer"])
        for term in self._terms:
            computed = saved["terms"][term.name].items()
            term.objective.load({name: self._here(value) for name, value in computed})
        for name, learnt in saved["players"].items():
            if name not in self._begun:  # it rests in this stage: begin where it learnt last
                last = max(i for i in range(self.stage) if name in self.problem.players_of(i))
                self._begin(name, self.problem.scene(self.problem.stages[last].size))
            self.problem.players[name].load(learnt)


def _union(needs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    layers: dict[str, set[str]] = {}
    for need in needs:
        for model, names in need.items():
            layers.setdefault(model, set()).update(names)
    return {model: tuple(sorted(names)) for model, names in layers.items()}
