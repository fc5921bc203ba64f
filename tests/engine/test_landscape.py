from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.core.view import View
from invertkit.engine.candidates import StepBest
from invertkit.engine.frames import FrameCache
from invertkit.engine.landscape import StepLandscape, StepSetting
from invertkit.engine.memory import Chunking
from invertkit.engine.problem import Term
from invertkit.objectives.base import Objective
from invertkit.objectives.feature_cosine import FeatureCosine
from invertkit.objectives.lpips import LPIPS
from invertkit.objectives.outputs import CrossEntropy
from invertkit.objectives.priors import Norm, Range, TotalVariation
from invertkit.objectives.reference import PixelDistance
from invertkit.optimizers.base import Optimizer
from invertkit.optimizers.population.basin import BasinCMA
from invertkit.optimizers.population.cma_es import CmaEs
from invertkit.optimizers.torch_optim import Adam
from invertkit.variables.base import Variable
from invertkit.variables.transformed import Transformed
from invertkit.variables.tuned import Tuned
from tests.helpers import REGIONS, same
from tests.latents import SMALL, WIDE, Looks, finished, latent_problem, latent_scene, latents

SEEDS = (3, 5)


def moved(**options: Any) -> Transformed:
    return Transformed(**{"inner": latents(), "colour": ("contrast",)} | options)


def evaluation(
    *terms: Term,
    variable: Variable | None = None,
    points: Params | None = None,
    count: int = 1,
    seeds: tuple[int, ...] = SEEDS,
    seen: StepBest | None = None,
    frames: FrameCache | None = None,
    chunks: Chunking | None = None,
    memory: int | None = None,
    scene: Scene | None = None,
) -> StepLandscape:
    """The landscape at candidates of every seed, as the engine would make it."""
    randomness = Randomness(seeds)
    terms = terms or (Term(PixelDistance(), name="distance", region="object"),)
    scene = latent_scene() if scene is None else scene
    variable = (variable or moved()).bind(scene.models)
    needs: dict[str, Any] = {}
    for term in terms:
        for model, layers in term.objective.needs(scene.models).items():
            needs.setdefault(model, set()).update(layers)
    scene = replace(scene, needs=needs)
    if points is None:
        points = candidates(variable, scene, randomness, count)
    setting = StepSetting(
        variable=variable,
        scene=scene,
        terms=terms,
        weights={term.name: float(term.weight) for term in terms},  # type: ignore[arg-type]
        randomness=randomness,
        step=2,
        frames=frames or FrameCache(len(seeds)),
        chunks=chunks or Chunking(memory),
        best=seen or StepBest(len(seeds)),
    )
    return StepLandscape(points, setting)


def candidates(variable: Variable, scene: Scene, randomness: Randomness, count: int) -> Params:
    draws = randomness.candidates(count, "population")
    points = variable.start(scene, draws)
    if "transform" in points:
        placed = points["transform"]
        points["transform"] = placed + 0.2 * draws.normal("φ", (placed.shape[1],)).double()
    return {name: point.clone().requires_grad_() for name, point in points.items()}


# ---------------------------------------------------------------------- frames


def l2(image: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """The masked mean square, by hand."""
    weights = mask + 0.3 * (1 - mask)
    return ((image - reference) ** 2 * weights).sum((1, 2, 3)) / (3 * weights.sum((1, 2, 3)))


def test_gradients_are_taken_in_the_generators_frame_and_losses_in_the_photographs() -> None:
    """L(G(z), T(y), T(m)) and L(T⁻¹(G(z)), y, m), the formulas of the paper."""
    term = Term(PixelDistance(form="l2", outside=0.3), name="l2", region="object", weight=2.0)
    variable, scene = moved(), latent_scene()
    here = evaluation(term, variable=variable, scene=scene, count=3)
    z, c, phi = here.points.values()
    generator, move = scene.models["generator"], variable.transform

    descended = here.gradients()
    with torch.no_grad():
        y, m = (
            move.apply(scene.reference, phi, (8, 8)),
            move.weights(scene.inputs["target"], phi, (8, 8)),
        )
    z2, c2 = (point.detach().clone().requires_grad_() for point in (z, c))
    wanted = 2 * l2(generator.generate(latent=z2, embedding=c2), y, m)
    torch.testing.assert_close(descended, wanted.detach(), rtol=1e-10, atol=1e-12)
    slopes = torch.autograd.grad(wanted.sum(), (z2, c2))
    for point, slope in zip((z, c), slopes, strict=True):
        torch.testing.assert_close(point.grad, slope, rtol=1e-10, atol=1e-12)
    assert phi.grad is None

    with torch.no_grad():
        back = variable.still(generator.generate(latent=z, embedding=c), here.points, scene)
        judged = 2 * l2(back, scene.reference, scene.inputs["target"])
    torch.testing.assert_close(here.losses(), judged, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(judged, descended)


def test_gradients_are_added_and_the_graph_is_there_for_whoever_asks() -> None:
    here = evaluation(variable=latents(), count=3)
    here.gradients()
    once = here.points["latent"].grad.clone()  # type: ignore[union-attr]
    here.gradients()
    torch.testing.assert_close(here.points["latent"].grad, 2 * once)
    (slope,) = torch.autograd.grad(here().sum(), here.points["latent"])
    torch.testing.assert_close(slope, once)
    assert not here.losses().requires_grad


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were framed, call by call."""
    framed: list[int] = []
    plain = Transformed.frame

    def frame(self: Transformed, params: Params, scene: Scene) -> Scene:
        framed.append(len(params["transform"]))
        return plain(self, params, scene)

    monkeypatch.setattr(Transformed, "frame", frame)
    return framed


def test_a_frame_is_made_again_only_where_the_transform_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = latent_scene()
    variable = moved().bind(scene.models)
    points = candidates(variable, scene, Randomness(SEEDS), 3)
    framed, frames = counted(monkeypatch), FrameCache(2)
    for memory in (None, WIDE):
        here = evaluation(variable=variable, points=points, frames=frames, memory=memory)
        here.gradients()
        first = here.gradients()
        with torch.no_grad():
            points["latent"].mul_(0.5)
            points["embedding"].add_(0.1)
        here.gradients()
    assert framed == [6, 1]  # and one row when memory was measured
    with torch.no_grad():
        points["transform"].add_(0.1)
    framed.clear()
    here.gradients()
    assert framed == [6]
    copies = {name: point.clone() for name, point in points.items()}
    other = evaluation(variable=variable, points=copies, frames=frames)
    other.gradients()
    assert framed == [6, 6]
    assert not torch.equal(here.gradients(), first)


def test_a_stage_frames_once_a_generation_and_reads_the_reference_once_a_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variable, looks = moved(), Looks()
    inner = Adam(lr=0.05, over=("latent", "embedding"))
    optimizer = BasinCMA(
        CmaEs(over=("transform",), sigma=0.1, population=4), inner, inner_steps=3, last_steps=2
    )
    framed = counted(monkeypatch)
    finished(latent_problem((11, optimizer), variable=variable, terms=[Term(looks, name="looks")]))
    starts = [rows for rows in framed if rows == 1]
    assert framed.count(8) == 4  # three generations and the last population, of two seeds
    assert len(framed) == 4 + len(starts)
    assert looks.made == 4 + 1  # and once for the photograph where it lies
    assert looks.forwards == 11 + 4

    second = BasinCMA(CmaEs(over=("latent",), population=4), inner, inner_steps=3, told="sampled")
    framed.clear()
    looks.made = 0
    finished(latent_problem((9, second), variable=variable, terms=[Term(looks, name="looks")]))
    assert framed.count(8) == 1  # the transform stays, and so does its frame
    assert looks.made == 2


def test_rows_of_a_frame_are_judged_each_in_its_own() -> None:
    """Every objective that weighs a region takes masks of one row an image."""
    variable = moved()
    objectives: list[Objective] = [
        PixelDistance(outside=0.1), LPIPS(outside=0.3), LPIPS(mask="maps"), Norm(), Range(),
        FeatureCosine(model="classifier"), TotalVariation(), TotalVariation(form="l2"),
        TotalVariation(form="mahendran_vedaldi"), CrossEntropy(target=2), Looks(),
    ]  # fmt: skip
    for region in ("everywhere", *REGIONS):
        terms = [
            Term(objective, name=str(i), region=region, weight=1.0 + i)
            for i, objective in enumerate(objectives)
        ]
        here = evaluation(*terms, variable=variable, count=3)
        together, judged = here.gradients(), here.losses()
        for row in (1, 4):
            points = {
                name: point.detach()[row : row + 1].requires_grad_()
                for name, point in here.points.items()
            }
            alone = evaluation(*terms, variable=variable, points=points, seeds=(0,))
            torch.testing.assert_close(alone.gradients()[0], together[row], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(alone.losses()[0], judged[row], rtol=1e-9, atol=1e-9)
            for point, whole in zip(points.values(), here.points.values(), strict=True):
                if point.grad is not None:
                    torch.testing.assert_close(
                        point.grad[0],
                        whole.grad[row],
                        rtol=1e-8,
                        atol=1e-10,  # type: ignore[index]
                    )


# ---------------------------------------------------------------------- chunks


class Noisy(Objective):
    """Another number for every candidate and step."""

    def forward(self, view: View) -> Tensor:
        return view.image.mean((1, 2, 3)) * view.normal("noise")


TERMS = (
    Term(PixelDistance(form="l2"), name="l2", region="object"),
    Term(LPIPS(outside=0.3), name="perceptual", region="object", weight=3.0),
    Term(CrossEntropy(target=2), name="class", weight=0.1),
    Term(Noisy(), name="noise", weight=0.2),
)
VARIABLES: dict[str, Callable[[], Variable]] = {
    "latent": latents,
    "transformed": moved,
    "tuned": lambda: Tuned(inner=moved()),
}


@pytest.mark.parametrize("name", VARIABLES)
def test_chunks_change_no_number(name: str) -> None:
    found = []
    variable = VARIABLES[name]()
    row = evaluation(*TERMS, variable=variable, count=4).bytes_per_row()
    for memory in (None, WIDE, 1, 3 * row, 5 * row + 1):
        seen = StepBest(2)
        here = evaluation(*TERMS, variable=VARIABLES[name](), count=4, memory=memory, seen=seen)
        spans = {None: 1, WIDE: 1, 1: 8, 3 * row: 3, 5 * row + 1: 2}[memory]
        assert len(here.spans()) == spans
        numbers = [here.gradients(), here.losses()]
        numbers += [point.grad for point in here.points.values() if point.grad is not None]
        seen_tensors = [seen.losses, seen.images, *seen.points.values(), *seen.values.values()]
        found.append([*numbers, *seen_tensors])
        assert len(numbers) == 2 + (3 if name == "tuned" else 2)
    for other in found[1:]:
        for mine, wanted in zip(other, found[0], strict=True):
            torch.testing.assert_close(mine, wanted, rtol=1e-12, atol=1e-12)


def test_neighbours_change_nothing() -> None:
    together = evaluation(*TERMS, count=4, seeds=(3, 5, 8))
    alone = evaluation(*TERMS, count=4, seeds=(5,), memory=1)
    for many, one in zip(together.points.values(), alone.points.values(), strict=True):
        assert torch.equal(many[4:8], one)
    torch.testing.assert_close(together.gradients()[4:8], alone.gradients(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(together.losses()[4:8], alone.losses(), rtol=1e-12, atol=1e-12)
    for many, one in zip(together.points.values(), alone.points.values(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(many.grad[4:8], one.grad, rtol=1e-12, atol=1e-12)  # type: ignore[index]


def optimizers() -> dict[str, Optimizer]:
    inner = Adam(lr=0.05, over=("latent", "embedding"))
    return {
        "adam": Adam(lr=0.05),
        "basin": BasinCMA(
            CmaEs(over=("latent",), population=4), inner, inner_steps=2, last_steps=2
        ),
        "cma": CmaEs(over=("transform",), sigma=0.1),
    }


@pytest.mark.parametrize("name", optimizers())
def test_a_run_in_chunks_and_in_company_is_the_same_run(name: str) -> None:
    runs = [
        finished(
            latent_problem(
                (6, optimizers()[name]), variable=moved(), terms=TERMS, seeds=seeds, memory=memory
            )
        )
        for seeds, memory in (((3, 5, 8), None), ((3, 5, 8), 1), ((5,), None))
    ]
    for other, rows in ((runs[1], slice(None)), (runs[2], slice(1, 2))):
        assert other.best_steps() == runs[0].best_steps()[rows]
        for mine, wanted in zip(
            [*other.params.values(), *other.best_tensors().values(), other.best_images()],
            [*runs[0].params.values(), *runs[0].best_tensors().values(), runs[0].best_images()],
            strict=True,
        ):
            torch.testing.assert_close(mine, wanted[rows], rtol=1e-9, atol=1e-10)


def test_how_much_fits_does_not_depend_on_the_machine_or_on_what_was_asked_before() -> None:
    sizes = set()
    for i in range(3):
        held = [torch.empty(1000 * (i + 1)) for _ in range(20 * i)]  # other addresses
        here = evaluation(*TERMS, count=3, memory=10**5)
        if i == 1:
            here.losses()
        if i == 2:
            # as where a population is judged and does not descend
            for point in here.points.values():
                point.requires_grad_(False)
        sizes.add(here.bytes_per_row())
        del held
    assert len(sizes) == 1
    assert min(sizes) > 0


def test_a_term_that_switches_on_is_counted() -> None:
    one_term, all_terms = (
        evaluation(*terms, variable=latents(), count=3).bytes_per_row()
        for terms in (TERMS[:1], TERMS)
    )
    assert one_term < all_terms
    chunks, options = Chunking(2 * one_term), {"variable": latents(), "count": 3}
    for terms in (TERMS[:1], TERMS, TERMS[:1]):
        spans = evaluation(*terms, chunks=chunks, **options).spans()  # type: ignore[arg-type]
        assert (len(spans) == 6) == (terms is TERMS)


def test_no_memory_is_still_enough_for_one_row() -> None:
    for memory in (0, 1):
        here = evaluation(count=3, memory=memory)
        assert here.spans() == [(i, i + 1) for i in range(6)]


# ---------------------------------------------------------------------- what was seen


def test_terms_are_those_of_the_first_look_at_the_best_candidate() -> None:
    seen = StepBest(2)
    here = evaluation(*TERMS, variable=latents(), count=3, seen=seen)
    losses = here.gradients().reshape(2, 3)
    values = dict(seen.values)
    total = sum(float(term.weight) * values[term.name] for term in TERMS)  # type: ignore[arg-type]
    torch.testing.assert_close(total, losses.amin(1))
    with torch.no_grad():
        here.points["latent"].mul_(0.5)
    here.losses()
    assert same(seen.values, values)


def test_candidates_in_other_frames_compete_only_where_the_photograph_lies() -> None:
    seen = StepBest(2)
    here = evaluation(count=3, seen=seen)
    here.gradients()
    assert seen.losses is None
    lowest = here.losses().reshape(2, 3).amin(1)
    assert torch.equal(seen.losses, lowest)
    one = StepBest(2)
    alone = evaluation(count=1, seen=one)
    assert torch.equal(alone.gradients(), one.losses)
    assert one.images.shape[-2:] == SMALL


class Holes(Objective):
    """Darkness; not a number where the picture is darker than that."""

    weighs_region = True

    def __init__(self, dark: float) -> None:
        self.dark = dark

    def forward(self, view: View) -> Tensor:
        means = view.image.mean((1, 2, 3))
        return -means * torch.where(means < self.dark, torch.nan, 1.0)


@pytest.mark.parametrize("memory", [None, 1])
def test_a_candidate_that_is_not_a_number_does_not_reach_the_others(memory: Any) -> None:
    whole = evaluation(Term(Holes(-1.0), name="all"), variable=latents(), count=6).losses()
    dark = -float(whole.kthvalue(9).values)
    broken = evaluation(Term(Holes(dark), name="holes"), variable=latents(), count=6, memory=memory)
    losses = broken.gradients()
    lost = losses.isnan()
    assert lost.any()
    assert not lost.all()
    for point in broken.points.values():
        assert point.grad is not None
        assert point.grad[~lost].isfinite().all()
        assert point.grad[~lost].any()
    cma = BasinCMA(CmaEs(over=("latent",)), Adam(lr=0.05, over=("latent",)), inner_steps=2)
    run = finished(latent_problem((6, cma), terms=[Term(Holes(dark), name="holes")], seeds=(3,)))
    assert run.search_state.search.mean.isfinite().all()
    assert all(param.isfinite().all() for param in run.params.values())
    assert torch.tensor(run.best_losses()).isfinite().all()


# ---------------------------------------------------------------------- starting and confining


def test_new_starts_differ_by_candidate_population_and_seed_and_nothing_else() -> None:
    here = evaluation(variable=latents(embedding="gaussian"), count=1)
    again = evaluation(variable=latents(embedding="gaussian"), count=5)
    rows = []
    for purpose in ("generation0", "generation1"):
        fresh = here.fresh(4, purpose)
        assert same(fresh, again.fresh(4, purpose))
        rows += [*fresh["latent"]]
    assert len(torch.stack(rows).unique(dim=0)) == 16
    only = evaluation(variable=latents(embedding="gaussian"), seeds=(5,))
    one = only.fresh(4, "x")
    for name, many in here.fresh(4, "x").items():
        assert torch.equal(many[4:], one[name])
    assert not torch.equal(here.fresh(1, "x")["latent"], here.points["latent"])
    assert not here.centre()["latent"].any()


def test_confining_moves_the_points_in_place() -> None:
    here = evaluation(variable=latents(limit=0.3), count=2)
    with torch.no_grad():
        here.points["latent"].mul_(9)
    frame = here.points["latent"]
    here.confine()
    assert here.points["latent"] is frame
    assert frame.abs().max() == 0.3
