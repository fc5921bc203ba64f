from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from invertkit.core.recording.phase import Phase
from invertkit.core.view import View
from invertkit.engine.problem import Problem, Term
from invertkit.engine.run import Run
from invertkit.engine.step_kinds import kinds_of
from invertkit.objectives.asked_players import CriticScore, MaskBCE
from invertkit.objectives.base import Objective
from invertkit.objectives.outputs import CrossEntropy
from invertkit.objectives.patches.nearest import NearestPatches
from invertkit.optimizers.population.basin import BasinCMA
from invertkit.optimizers.population.cma_es import CmaEs
from invertkit.optimizers.torch_optim import Adam
from invertkit.optimizers.wrappers import Clip
from invertkit.recipe.overlay import read_raw, recipe_names
from invertkit.runs.prepare import prepare_job
from tests.helpers import make_problem, tiny_critic, tiny_segmenter
from tests.recipe.test_recipes import tiny_collage

SMALL = (12, 10)


class Alternating(Objective):
    """Does another thing on odd steps."""

    def phase(self, step: int) -> Phase:
        return Phase(step % 2)

    def forward(self, view: View) -> Tensor:
        return (1 + view.step % 2) * view.image.square().mean((1, 2, 3))


def varied() -> Problem:
    """Both players, terms that come and go, a search now and then, two stages."""
    return make_problem(
        Term(CrossEntropy(), name="class", stop=25),
        Term(CriticScore(), name="critic", weight=0.1, start=10),
        Term(MaskBCE(), name="mask", max_size=15),
        Term(NearestPatches(every=4), name="nearest"),
        players={
            "critic": tiny_critic(every=3, start=12),
            "segmenter": tiny_segmenter(updates=20),
        },
        stages=[(SMALL, 30), ((16, 14), 8)],
    )


def searched() -> Problem:
    """Generations of five steps, and four more at the end."""
    return make_problem(
        Term(Alternating(), name="bright"),
        optimizer=BasinCMA(outer=CmaEs(), inner=Adam(), inner_steps=5, last_steps=4),
        stages=[((4, 4), 19)],
    )


def covered(problem: Problem) -> list[int]:
    return sorted(step for kind in kinds_of(problem) for step in kind.steps)


@pytest.mark.parametrize("make", [varied, searched])
def test_the_kinds_of_a_problem_have_every_step_once_and_tell_its_stage_and_terms(
    make: Callable[[], Problem],
) -> None:
    problem = make()
    assert covered(problem) == list(range(problem.total_steps))
    of = {step: kind for kind in kinds_of(problem) for step in kind.steps}
    for report in Run(problem).steps():
        kind = of[report.step - 1]
        assert (kind.stage, kind.terms) == (report.stage, tuple(report.weights))


@pytest.mark.parametrize("recipe", recipe_names())
def test_the_kinds_of_the_recipes_have_every_step_once(recipe: str) -> None:
    choices = {"budget": "preview"} if "budget" in read_raw(recipe).get("choices", {}) else {}
    if recipe in ("blend", "collage"):  # which have no demonstration among photographs
        job = tiny_collage(recipe)
    else:
        job = prepare_job(recipe, device="cpu", choices=choices)
    problem = job.problem((0,))
    assert covered(problem) == list(range(problem.total_steps))
    begins = [kind.steps[0] for kind in kinds_of(problem)]
    assert begins == sorted(begins)


def test_players_terms_and_searches_make_kinds() -> None:
    counts = {(k.stage, k.terms, k.phases): len(k.steps) for k in kinds_of(varied())}
    learnt = [
        (stage, len(terms), *(phase.key for phase in phases[:2])) for stage, terms, phases in counts
    ]
    assert (0, 4, True, True) in learnt  # critic and segmenter
    assert (0, 4, False, True) in learnt
    assert (0, 3, False, False) in learnt  # without the class
    assert sum(counts.values()) == 38
    drawn = [kind.steps for kind in kinds_of(searched()) if kind.phases[-1].key[1]]  # type: ignore[index]
    assert sorted(drawn) == [(0, 10), (5,), (15,)]  # of even and odd steps


def test_a_wrapped_optimizer_has_the_phases_of_the_inner_one() -> None:
    inner = BasinCMA(outer=CmaEs(), inner=Adam(), inner_steps=2, last_steps=1)
    for step in range(5):
        assert Clip(inner).phase(step=step, total=5) == inner.phase(step=step, total=5)
    assert Adam().phase(step=0, total=5) == Phase()


def test_a_kind_is_replayable_where_no_part_forbids_it() -> None:
    draws = [kind for kind in kinds_of(searched()) if kind.phases[-1].key[1]]  # type: ignore[index]
    assert draws
    assert not any(kind.replayable for kind in draws)
    assert any(kind.replayable for kind in kinds_of(searched()))
    assert all(kind.replayable for kind in kinds_of(varied()))
