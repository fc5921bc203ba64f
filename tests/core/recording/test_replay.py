"""A run whose steps are replayed is the run whose steps are taken by Python, bit for bit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.recording.phase import Phase
from invertkit.core.recording.replay import Compile
from invertkit.core.scene import Scene
from invertkit.core.schedules import Cosine, Linear
from invertkit.core.view import View
from invertkit.engine.problem import Problem, Stage, Status, Term
from invertkit.engine.run import Run
from invertkit.objectives.asked_players import CriticScore, MaskBCE
from invertkit.objectives.base import Objective
from invertkit.objectives.outputs import CrossEntropy, KLDivergence
from invertkit.objectives.patches.sliced import PatchSWD
from invertkit.objectives.priors import Norm, TotalVariation
from invertkit.objectives.reference import PixelDistance
from invertkit.objectives.statistics import FeatureStatistics
from invertkit.optimizers.base import Optimizer
from invertkit.optimizers.population.basin import BasinCMA
from invertkit.optimizers.population.cma_es import CmaEs
from invertkit.optimizers.torch_optim import LBFGS, Adam, TorchOptimizer
from invertkit.optimizers.wrappers import Clip, KeepBest
from invertkit.players.base import Player
from invertkit.recipe.overlay import read_raw
from invertkit.variables.base import Variable
from invertkit.variables.fourier import Fourier
from invertkit.variables.pixels import Pixels
from invertkit.variables.wrappers import Hold, Jitter
from tests.helpers import (
    copied,
    make_problem,
    make_scene,
    same,
    through_a_file,
    tiny_critic,
    tiny_models,
    tiny_segmenter,
)
from tests.recipe.test_recipes import COMBINATIONS, tiny_collage, tiny_job, tiny_projection
from tests.test_contracts import every_objective

SMALL = (12, 14)
STEPS = 24


def state(run: Run) -> Any:
    return copied({key: value for key, value in run.save().items() if key != "seconds"})


def taken(make: Callable[[], Problem], compile: Compile) -> tuple[Run, list[Any]]:
    """The run at its end, and everything it reported."""
    run = Run(make(), compile=compile)
    said = [
        (r.losses.clone(), {n: v.clone() for n, v in r.values.items()}, dict(r.weights))
        for r in run.steps()
    ]
    return run, said


def assert_alike(make: Callable[[], Problem], *, replayed: int | None = None) -> Run:
    """Both ways give the same; at least, or if it is 0 exactly, so many steps were replayed."""
    plain, wanted = taken(make, "off")
    run, said = taken(make, "graph")
    assert plain.replays.replayed == 0
    assert same(said, wanted)
    assert same(state(run), state(plain))
    assert torch.equal(run.best_images(), plain.best_images())
    assert run.best_steps() == plain.best_steps()
    assert same(run.best_tensors(), plain.best_tensors())
    assert torch.equal(run.last_images(), plain.last_images())
    if replayed is not None:
        assert run.replays.replayed == 0 if replayed == 0 else run.replays.replayed >= replayed
    return run


def assert_goes_on(make: Callable[[], Problem], stops: Sequence[int]) -> None:
    """What was saved after each of these steps ends as the whole; going on does not change it."""
    whole, reports, saved = Run(make(), compile="graph"), [], {}
    for report in whole.steps():
        reports.append((report.losses.clone(), dict(report.values), dict(report.weights)))
        if report.step in stops:
            saved[report.step] = whole.save()
    assert saved.keys() == set(stops)
    for stop, at_stop in saved.items():
        other = Run(make(), compile="graph")
        other.restore(through_a_file(at_stop))
        after = [(r.losses.clone(), dict(r.values), dict(r.weights)) for r in other.steps()]
        assert same(after, reports[stop:])
        assert same(state(other), state(whole))


def everything(**changes: Any) -> Problem:
    """Both players, schedules, draws, a region, a term that comes and one that goes."""
    given = {
        "players": {
            "critic": tiny_critic(every=3, start=2),
            "segmenter": tiny_segmenter(updates=30),
        },
        "optimizer": Clip(Adam(lr=Cosine("cosine", peak=0.05, warmup=4))),
        "stages": [(SMALL, 66), ((16, 18), 18)],
        "seeds": (3, 7),
    }
    return make_problem(
        Term(CrossEntropy(), name="class", weight=Linear("linear", start=1.0, stop=0.1)),
        Term(FeatureStatistics(layers=("layer1",)), name="statistics", region="object"),
        Term(PatchSWD(filters=4, kernel=3), name="swd", stop=40),
        Term(CriticScore(), name="critic", weight=0.1, start=20),
        Term(MaskBCE(), name="mask"),
        Term(TotalVariation(form="l2"), name="tv", weight=0.01),
        **(given | changes),
    )


# ---------------------------------------------------------------------- the same run


def test_a_run_with_everything_in_it_is_the_same() -> None:
    assert_alike(everything, replayed=20)


def test_a_run_that_learns_before_its_stages_and_remembers_the_best_point_is_the_same() -> None:
    def make() -> Problem:
        players = {
            "critic": tiny_critic(norm="batch", shared=True),
            "segmenter": tiny_segmenter(when="before", norm="batch"),
        }
        return everything(players=players, optimizer=KeepBest(Adam(lr=0.1)))

    assert_alike(make, replayed=20)


def problem_of(objective: Callable[[], Objective], variable: Variable, **options: Any) -> Problem:
    players: dict[str, Callable[[], Player]] = {"critic": tiny_critic, "segmenter": tiny_segmenter}
    made = objective()
    return make_problem(
        Term(made, name="it"),
        variable=variable,
        players={name: players[name]() for name in made.players()},
        models=dict(tiny_models(torch.float32)),
        stages=[(SMALL, STEPS)],
        seeds=(1, 2),
        **options,
    )


@every_objective
def test_every_objective_is_replayed_to_the_same_run(make: Callable[[], Objective]) -> None:
    assert_alike(lambda: problem_of(make, Pixels(noise=0.3)), replayed=8)


@pytest.mark.parametrize(
    "variable",
    [
        Pixels(space="imagenet"),
        Pixels(size=20),
        Fourier(noise=0.1),
        Jitter(inner=Pixels(), pixels=4, at=14, flip=0.5),
        Hold(inner=Pixels()),
    ],
    ids=lambda variable: type(variable).__name__,
)
def test_every_variable_of_pixels_is_replayed_to_the_same_run(variable: Variable) -> None:
    assert_alike(lambda: problem_of(KLDivergence, variable), replayed=8)


LONG = [pair for pair in COMBINATIONS if not pair[0].startswith("project")]


@pytest.mark.parametrize(
    ("recipe", "wanted"), LONG, ids=[f"{r} {' '.join(w.values())}" for r, w in LONG]
)
def test_every_recipe_of_pixels_is_replayed_to_the_same_run(
    recipe: str, wanted: dict[str, str]
) -> None:
    finished = recipe in ("blend", "collage")  # what they make of a projection is no step
    job = tiny_collage(recipe) if finished else tiny_job(recipe, wanted, sizes=(32,))
    job = replace(job, page=job.page.model_copy(update={"stages": (longer(job.page.stages[0]),)}))
    assert_alike(lambda: job.problem((0,)), replayed=0 if "lbfgs" in wanted.values() else 4)


def longer(stage: Any) -> Any:
    return stage.model_copy(update={"steps": 16})


def test_a_projection_by_adam_is_replayed_to_the_same_run() -> None:
    raw = read_raw("project-adam")
    wanted = {name: choice["default"] for name, choice in raw["choices"].items()}
    wanted["budget"] = "preview"
    job = tiny_projection("project-adam", wanted)
    stages = {name: longer(stage) for name, stage in job.page.in_order()}
    job = replace(job, page=job.page.model_copy(update={"stages": stages}))
    assert_alike(lambda: job.problem((0,)), replayed=4)


def short_generations(problem: Problem, steps: int = 16) -> Problem:
    """Four generations of seven steps and a last descent, a stage."""
    stages = []
    for i, stage in enumerate(problem.stages):
        optimizer = problem.optimizer_of(i)
        if isinstance(optimizer, BasinCMA):
            inner, last = min(optimizer.inner_steps, 7), min(optimizer.last_steps, 18)
            optimizer = replace(optimizer, inner_steps=inner, last_steps=last)
            stages.append(replace(stage, optimizer=optimizer, steps=4 * max(1, inner) + last))
        else:
            stages.append(replace(stage, steps=steps))
    return replace(problem, stages=stages)


POPULATIONS = ("project", "project-basincma", "project-sampled", "project-cma-adam")


@pytest.mark.parametrize("recipe", POPULATIONS)
@pytest.mark.parametrize("seeds", [(0,), (3, 5)])
def test_the_descents_of_populations_are_replayed_to_the_same_run(
    recipe: str, seeds: tuple[int, ...]
) -> None:
    raw = read_raw(recipe)
    wanted = {name: choice["default"] for name, choice in raw["choices"].items()}
    wanted |= {"budget": "full"} | ({"finetune": "with"} if recipe == "project" else {})
    job = tiny_projection(recipe, wanted)
    run = assert_alike(lambda: short_generations(job.problem(seeds)), replayed=10)
    assert not [sentence for sentence in run.replays.said if "does not say" in sentence]
    assert run.obstacle == ""


class Ball(TorchOptimizer):  # type: ignore[misc]  # final, but for this
    """As its class, and says that it can be replayed, but not that it restarts in place."""

    @property
    def obstacle(self) -> str:
        return ""


def test_a_descent_that_does_not_restart_in_place_is_taken_by_python_and_named() -> None:
    ball = Ball("SGD", lr=0.05, options={"momentum": 0.9})

    def make() -> Problem:
        optimizer = BasinCMA(outer=CmaEs(), inner=ball, inner_steps=20)
        return make_problem(
            Term(PixelDistance(form="l2"), name="match"), optimizer=optimizer, stages=[((4, 4), 60)]
        )

    run = assert_alike(make, replayed=0)
    assert "Ball does not say that it restarts in place" in run.obstacle


def test_a_replayed_population_goes_on_after_a_stop_at_any_step_bit_for_bit() -> None:
    raw = read_raw("project")
    wanted = {name: choice["default"] for name, choice in raw["choices"].items()}
    job = tiny_projection("project", wanted | {"budget": "full"})
    assert_goes_on(lambda: short_generations(job.problem((3,))), (3, 7, 10, 28, 31, 50, 58, 72))


def test_chunks_of_a_population_are_replayed_to_the_same_run() -> None:
    raw = read_raw("project")
    wanted = {name: choice["default"] for name, choice in raw["choices"].items()}
    job = tiny_projection("project", wanted | {"budget": "full"})
    for memory in (0, 2 * 10**6):
        problem = replace(short_generations(job.problem((3, 4))), memory=memory)
        stages = [replace(stage, steps=28) for stage in problem.stages[:1]]
        assert_alike(lambda: replace(problem, stages=stages), replayed=10)  # noqa: B023


def test_a_replayed_run_goes_on_after_a_stop_at_any_step_bit_for_bit() -> None:
    assert_goes_on(everything, (2, 30, 60, 66, 70))


def test_reports_of_replayed_steps_keep_their_numbers() -> None:
    """The recording writes to one place; a report is not that place."""
    run = Run(everything(), compile="graph")
    kept, copies = [], []
    for report in run.steps():
        kept.append(report.losses)
        copies.append(report.losses.clone())
    assert run.replays.replayed
    assert same(kept, copies)


def test_a_replayed_run_stops_at_a_loss_that_is_no_number() -> None:
    class Steep(Objective):
        def forward(self, view: View) -> Tensor:
            return view.image.square().sum((1, 2, 3))

    def make() -> Problem:
        lr = Linear("linear", start=0.0, stop=1e25)
        return make_problem(
            Term(Steep(), name="steep"), optimizer=Adam(lr=lr), stages=[(SMALL, 40)]
        )

    plain, wanted = taken(make, "off")
    run, said = taken(make, "graph")
    assert same(said[:-1], wanted[:-1])
    assert len(said) == len(wanted)
    assert same(run.best_images(), plain.best_images())
    assert run.status is Status.NON_FINITE


# ---------------------------------------------------------------------- what is refused, aloud


class ReadsBack(Objective):
    def forward(self, view: View) -> Tensor:
        scale = 1.0 if view.image.mean().item() > 0 else 2.0
        return scale * view.image.square().mean((1, 2, 3))


class ByStep(Objective):
    def forward(self, view: View) -> Tensor:
        return (view.step % 5 + 1) * view.image.square().mean((1, 2, 3))


class ByStepSaidSo(ByStep):
    def phase(self, step: int) -> Phase:
        return Phase(step % 2 * 100 + step % 5)


class SometimesByPython(ByStep):
    def phase(self, step: int) -> Phase:
        return Phase(step, replayable=False) if step % 4 == 0 else Phase(step % 5)


class Counts(Objective):
    """Counts in Python."""

    def __init__(self) -> None:
        self.count = 0

    def forward(self, view: View) -> Tensor:
        self.count += 1
        return self.count * view.image.square().mean((1, 2, 3))


class Remembers(Objective):
    """A running mean that is another tensor each time."""

    def __init__(self) -> None:
        self.mean: Tensor | None = None

    def forward(self, view: View) -> Tensor:
        now = view.image.detach()
        self.mean = now if self.mean is None else 0.9 * self.mean + 0.1 * now
        return (view.image - 0.5 * self.mean).square().mean((1, 2, 3))


class DrawsOnItsOwn(Objective):
    def forward(self, view: View) -> Tensor:
        return (view.image * torch.rand(1)).square().mean((1, 2, 3))


class Unsaid(Objective):
    @property
    def obstacle(self) -> str:
        return "it asks the weather"

    def forward(self, view: View) -> Tensor:
        return view.image.square().mean((1, 2, 3))


def own(objective: Callable[[], Objective], **options: Any) -> Problem:
    return make_problem(Term(objective(), name="own"), stages=[(SMALL, 60)], **options)


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        (ReadsBack, "objective.own: it reads a number back into Python"),
        (ByStep, "objective.own: it reads `view.step`, but has no `phase`"),
        (Counts, "its losses came out otherwise"),
        (Remembers, "its losses came out otherwise"),
        (Unsaid, "it asks the weather"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_objective_that_cannot_be_replayed_is_taken_by_python_and_says_why(
    objective: Callable[[], Objective], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="invertkit"):
        assert_alike(lambda: own(objective), replayed=0)
    told = [record.message for record in caplog.records]
    assert len(told) == 1, "once, not at every step"
    assert reason in told[0]
    assert "one by one" in told[0]


def test_draws_from_a_global_generator_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="invertkit"), torch.random.fork_rng(devices=[]):
        run, _ = taken(lambda: own(DrawsOnItsOwn), "graph")
    assert run.replays.replayed == 0
    assert "objective.own: it draws from a global generator" in caplog.text


@pytest.mark.parametrize("objective", [ByStepSaidSo, SometimesByPython])
def test_an_objective_that_says_which_steps_are_alike_is_replayed(
    objective: Callable[[], Objective],
) -> None:
    def make() -> Problem:
        return make_problem(Term(objective(), name="own"), stages=[(SMALL, 300)])

    assert_alike(make, replayed=100)


class Shaking(Variable):
    """Looks differ by step, and it does not say that they can be replayed."""

    def start(self, scene: Scene, randomness: Randomness) -> Params:
        return {"pixels": randomness.normal("start", (3, *scene.size))}

    def resize(self, params: Params, old: Any, new: Any) -> Params:
        return params

    def image(self, params: Params, scene: Scene) -> Tensor:
        return params["pixels"]

    def look(self, params: Params, scene: Scene, randomness: Randomness, step: int) -> Tensor:
        return params["pixels"].roll(step, 2)


class Idle(Player):
    def begin(self, scene: Scene, randomness: Randomness, *, purpose: str) -> None: ...

    def learn(self, images: Tensor, *, step: int) -> None: ...

    def save(self) -> dict[str, Any]:
        return {}

    def load(self, saved: dict[str, Any]) -> None: ...


class AsksIdle(Objective):
    def players(self) -> tuple[str, ...]:
        return ("idle",)

    def forward(self, view: View) -> Tensor:
        return view.image.square().mean((1, 2, 3))


@pytest.mark.parametrize(
    ("make", "who"),
    [
        (lambda: own(Norm, optimizer=LBFGS(iterations=2)), "LBFGS"),
        (lambda: own(Norm, optimizer=Clip(TorchOptimizer("RMSprop", lr=0.01))), "TorchOptimizer"),
        (lambda: own(Norm, variable=Shaking()), "Shaking"),
        (lambda: own(AsksIdle, players={"idle": Idle()}), "Idle"),
    ],
    ids=["lbfgs", "inside a wrapper", "variable", "player"],
)
def test_a_part_that_does_not_say_it_can_be_replayed_is_taken_by_python_and_named(
    make: Callable[[], Problem], who: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="invertkit"):
        assert_alike(make, replayed=0)
    assert f"are taken one by one: {who} does not say" in caplog.text


def test_stages_and_kinds_too_short_to_pay_are_not_recorded() -> None:
    assert_alike(lambda: make_problem(Term(Norm(), name="tv"), stages=[(SMALL, 9)] * 5), replayed=0)


def test_a_stage_of_its_own_optimizer_is_replayed_beside_one_that_cannot_be() -> None:
    def make() -> Problem:
        optimizer: Optimizer = LBFGS(iterations=1)
        stages = [Stage(SMALL, 20), Stage(SMALL, 5, optimizer=optimizer), Stage(SMALL, 20)]
        return replace(make_problem(Term(Norm(), name="tv")), stages=stages)

    assert_alike(make, replayed=20)


def test_every_variable_of_the_registry_says_that_it_can_be_replayed() -> None:
    """Those that override `look` too."""
    from invertkit.recipe.registry import Registry
    from invertkit.recipe.tables import VARIABLES

    for name in VARIABLES:
        kind = Registry().load("variable", name)
        overridden = kind.obstacle is not Variable.obstacle
        assert overridden or kind.look is Variable.look, name


# ---------------------------------------------------------------------- Inductor


@pytest.mark.slow
def test_a_compiled_step_gives_the_run_to_within_rounding() -> None:
    def make() -> Problem:
        return make_problem(
            Term(CrossEntropy(), name="class"),
            Term(TotalVariation(), name="tv", weight=0.1),
            stages=[(SMALL, 20)],
            scene=lambda size: make_scene(size, dtype=torch.float32),
        )

    plain, wanted = taken(make, "off")
    run, said = taken(make, "inductor")
    assert run.replays.replayed >= 8
    for (losses, _, _), (goal, _, _) in zip(said, wanted, strict=True):
        torch.testing.assert_close(losses, goal, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(run.last_images(), plain.last_images(), rtol=0, atol=0.05)
