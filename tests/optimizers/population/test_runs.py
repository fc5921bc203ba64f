"""Population searches in runs: through the engine, over a generator's latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from invertkit.engine.problem import Status, Term
from invertkit.engine.run import Run
from invertkit.objectives.priors import Norm
from invertkit.objectives.reference import PixelDistance
from invertkit.optimizers.population.basin import BasinCMA, cma_adam
from invertkit.optimizers.population.cma_es import CmaEs
from invertkit.optimizers.torch_optim import Adam
from invertkit.variables.transformed import Transformed
from tests.helpers import normal, same, through_a_file, with_inputs
from tests.latents import finished, latent_problem, latents, state


def basin(**options: Any) -> BasinCMA:
    inner = Adam(lr=0.05, over=("latent", "embedding"), rates={"embedding": 0.2})
    values = {"outer": CmaEs(over=("transform",), sigma=0.1), "inner": inner, "inner_steps": 2}
    return BasinCMA(**values | options)  # type: ignore[arg-type]


def search(library: Any = "torch", **options: Any) -> BasinCMA:
    outer = CmaEs(over=("latent",), sigma=1.0, mean="zero", population=4, library=library)
    return basin(outer=outer, **options)


RESUMED: dict[str, Callable[[], Any]] = {
    "algorithm 1": lambda: latent_problem(
        (4, basin(result="mean")), (5, search(last_steps=3)),
        variable=Transformed(inner=latents(), colour=("contrast",)),
    ),
    "pycma, in chunks": lambda: latent_problem(
        (4, search("pycma", told="sampled")), (2, Adam(lr=0.05)), memory=1,
    ),
    "cma and adam": lambda: latent_problem(
        (5, cma_adam(outer=CmaEs(over=("latent",), population=4), inner=Adam(), last_steps=3)),
        variable=latents(embedding="gaussian", beyond="wrap"),
    ),
    "a term that switches on": lambda: latent_problem(
        (6, search()),
        terms=(
            Term(PixelDistance(form="l2"), name="l2"),
            Term(Norm(), name="norm", weight=1e-4, start=3),
        ),
        variable=Transformed(inner=latents(limit=0)), memory=40_000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_search_equals_one_that_never_stopped_bit_for_bit(name: str) -> None:
    """In a generation, between two, and between stages: step by step."""
    whole, saved, losses = Run(RESUMED[name]()), [], []
    saved.append(through_a_file(whole.save()))
    for report in whole.steps():
        losses.append(report.losses)
        saved.append(through_a_file([whole.save(), whole.best_tensors()]))
    assert whole.status is Status.FINISHED
    assert whole.best_tensors()
    for step, at in enumerate(saved[1:], 1):
        run = Run(RESUMED[name]())
        run.restore(at[0])
        assert run.step == step
        assert same(run.best_tensors(), at[1])
        assert same([report.losses for report in run.steps()], losses[step:])
        assert same(state(run), state(whole))


def test_the_best_picture_is_made_of_the_best_tensors_and_no_picture_was_better() -> None:
    run = Run(latent_problem((4, basin()), variable=Transformed(inner=latents())))
    lowest = torch.full((2,), torch.inf, dtype=torch.float64)
    for _ in run.steps():
        losses = torch.tensor(run.best_losses(), dtype=torch.float64)
        compared = ~losses.isnan()  # in the first generation nothing is, until it is judged
        assert (losses <= lowest)[compared].all()
        lowest = torch.where(compared, losses, lowest)
    assert lowest.isfinite().all()
    tensors = run.best_tensors()
    assert list(tensors) == ["latent", "embedding", "transform"]
    problem = run.problem
    scene = replace(problem.scene(problem.stages[0].size), models=problem.models)
    images = problem.variable.image(tensors, scene)
    torch.testing.assert_close(images.clamp(0, 1), run.best_images(), rtol=0, atol=1e-12)
    for name, param in run.params.items():  # the search stands at its best
        assert torch.equal(tensors[name], param)


def test_latents_stay_within_their_limit_at_every_step_and_after_each_stage() -> None:
    stages = [(4, search(result="mean")), (4, basin()), (2, Adam(lr=2.0))]
    for beyond in ("clamp", "wrap"):
        variable = Transformed(inner=latents(limit=0.5, beyond=beyond))
        run = Run(latent_problem(*stages, variable=variable))
        for report in run.steps():
            assert run.params["latent"].abs().max() <= 0.5
            held = run.search_state
            if report.stage < 2:
                assert held.candidates["latent"].abs().max() <= 0.5


def test_a_latent_is_found_again_from_the_picture_it_made() -> None:
    """With everything in between: a search, a descent, and the best of both."""
    problem = latent_problem((1, Adam()), seeds=(0,))
    generator, size = problem.models["generator"], problem.stages[0].size
    wanted = 0.8 * normal(1, 5, seed=11).clamp(-1, 1)
    embedding = generator.tables["embedding"][1:2]
    scene = replace(problem.scene(size), models=problem.models)
    with torch.no_grad():
        picture = (
            latents().bind(problem.models).image({"latent": wanted, "embedding": embedding}, scene)
        )
    scene = with_inputs(scene, image=picture)
    inner = Adam(lr=0.1, over=("latent",))
    searching = BasinCMA(
        CmaEs(over=("latent",), sigma=1.0, mean="zero"), inner, inner_steps=10, last_steps=150
    )
    terms = (Term(PixelDistance(form="l2"), name="distance"),)
    for optimizer, steps, seeds in ((searching, 210, (0,)), (inner, 250, (0, 1, 2))):
        run = finished(
            latent_problem((steps, optimizer), terms=terms, seeds=seeds, scene=lambda size: scene)
        )
        at = min(range(len(seeds)), key=run.best_losses().__getitem__)
        error = (run.best_images()[at] - picture[0].clamp(0, 1)).norm() / picture.std()
        assert error < 0.05
        torch.testing.assert_close(run.best_tensors()["latent"][at], wanted[0], rtol=0, atol=0.05)
