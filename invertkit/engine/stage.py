"""A stage under way: what is set up once for all of its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.core.schedules import value_at
from invertkit.core.view import View
from invertkit.engine.frames import FrameCache
from invertkit.engine.memory import Chunking
from invertkit.engine.plan import StagePlan
from invertkit.engine.problem import Problem, Term
from invertkit.errors import InputError


class Moment(NamedTuple):
    """A step that is about to be taken.

    Attributes:
        step: Of the run, from 0.
        stage_step: Of its stage, from 0.
        terms: That count.
        weights: Of these, by name.
    """

    step: int
    stage_step: int
    terms: tuple[Term, ...]
    weights: dict[str, float]


@final
@dataclass
class StageRun:
    """A stage that has begun.

    Args:
        plan: What was known before.
        total_steps: Of the whole run, which schedules of weights go by.
        scene: Its fixed side, with networks and players.
        params: The variable's tensors, which the steps change in place.
        frames: The scenes in which candidates are judged.
        chunks: How many candidates are evaluated at once.
        state: Of the optimizer.
    """

    plan: StagePlan
    total_steps: int
    scene: Scene
    params: Params
    frames: FrameCache
    chunks: Chunking
    state: Any = None

    @property
    def index(self) -> int:
        """Of the stage, from 0."""
        return self.plan.index

    def moment(self, step: int) -> Moment:
        """What a step of the run goes by.

        Raises:
            InputError: No term counts.
        """
        terms = self.plan.terms_at(step)
        if not terms:
            height, width = self.scene.size
            raise InputError(
                f"No term counts at step {step} (stage {self.index + 1}, size {height}×{width}). "
                "Check `start`, `stop` and `min_size`."
            )
        weights = {term.name: value_at(term.weight, step, self.total_steps) for term in terms}
        return Moment(step, step - self.plan.first, terms, weights)

    def start_search(self) -> None:
        """A fresh state for the optimizer."""
        self.state = self.plan.optimizer.init(self.params)

    def finish(self) -> None:
        """The optimizer's last word, and the variable's."""
        self.plan.optimizer.finish(self.params, self.state)
        self.confine()

    def confine(self) -> None:
        """Bring the tensors back to where they may be."""
        if self.plan.variable.confines:
            with torch.no_grad():
                self.plan.variable.confine(self.params)

    def images(self) -> Tensor:
        """The images as they are now, at the stage's size."""
        with torch.no_grad():
            return self.plan.variable.image(self.params, self.scene).detach()


def enter_stage(
    problem: Problem,
    index: int,
    randomness: Randomness,
    *,
    before: StageRun | None = None,
    params: Params | None = None,
) -> StageRun:
    """Set up a stage: scene, players, what terms keep of the reference, and the tensors.

    The optimizer has no state yet: see `StageRun.start_search`.

    Args:
        problem: Of the run.
        index: Of the stage.
        randomness: Of the run.
        before: The stage that has ended, if any: its tensors go on.
        params: Tensors to take up as they are, instead.

    Raises:
        InputError: The stages' tensors do not fit, or a part lacks an input.
    """
    plan = StagePlan.of(problem, index)
    scene = replace(
        problem.scene(plan.stage.size),
        models=problem.models,
        players=plan.players,
        needs=_layers_read(plan.terms, problem.models),
    )
    for name, player in plan.players.items():
        player.begin(scene, randomness, purpose=f"players/{name}")
    with torch.no_grad():
        _prepare_terms(plan.terms, scene)
        if params is None:
            params = _first_tensors(plan, scene, randomness, before)
            _expect_tensors(params, len(problem.seeds))
    return StageRun(
        plan=plan,
        total_steps=problem.total_steps,
        scene=scene,
        # Leaves of their own: what a variable gives may be a view, or the stage before's.
        params={name: param.detach().clone().requires_grad_() for name, param in params.items()},
        frames=FrameCache(len(problem.seeds)),
        # Players and terms share one look at the image, which cannot be taken in chunks.
        chunks=Chunking(None if plan.players else problem.memory),
    )


def _expect_tensors(params: object, images: int) -> None:
    """Whether a variable begins with tensors by name that have a row for each image.

    Raises:
        InputError: It does not.
    """
    if not isinstance(params, Mapping):
        raise InputError(
            f"variable: `start` gives tensors by name, such as {{'pixels': …}}; got "
            f"{type(params).__name__}."
        )
    for name, param in params.items():
        if not param.is_floating_point() or len(param) != images:
            raise InputError(
                f"variable: `start` gives a row for each image, of floating-point numbers; "
                f"{name!r} has shape {tuple(param.shape)} and {param.dtype}, for {images} images."
            )


def _layers_read(terms: Sequence[Term], models: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The layers that any of the terms reads, by model."""
    layers: dict[str, set[str]] = {}
    for term in terms:
        for model, names in term.objective.needs(models).items():
            layers.setdefault(model, set()).update(names)
    return {model: tuple(sorted(names)) for model, names in layers.items()}


def _prepare_terms(terms: Sequence[Term], scene: Scene) -> None:
    """Let the terms compute what depends on the inputs alone."""
    looks: dict[str, View] = {}  # one an input, so that its terms share what models say of it
    for term in terms:
        image = scene.image_of(term.of)
        if image is not None and term.of not in looks:
            draws = Randomness((0,) * len(image))
            looks[term.of] = View(image, scene, draws, is_reference=True)
        look = looks.get(term.of)
        term.objective.prepare(look and look.within(term.region, term.of))


def _first_tensors(
    plan: StagePlan, scene: Scene, randomness: Randomness, before: StageRun | None
) -> Params:
    """The tensors to begin with: those of the stage before by name, and fresh ones beside them."""
    variable = plan.variable
    if before is None:
        return variable.start(scene, randomness)
    earlier = before.plan
    resized = earlier.variable.resize(before.params, earlier.stage.size, plan.stage.size)
    if earlier.variable is variable:
        return resized
    fresh = variable.start(scene, randomness)
    for name, param in fresh.items():
        if name in resized and resized[name].shape != param.shape:
            raise InputError(
                f"Stage {plan.index + 1} takes over {name!r} as {tuple(resized[name].shape)} from "
                f"the stage before, and its own variable wants {tuple(param.shape)}: they are not "
                "of one model or size."
            )
    return {name: resized.get(name, param) for name, param in fresh.items()}
