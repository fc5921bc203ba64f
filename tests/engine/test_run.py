from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from invertkit.core.schedules import Cosine, Linear, Piecewise
from invertkit.core.view import View
from invertkit.engine.problem import Problem, Stage, Status, Term
from invertkit.engine.run import Run
from invertkit.errors import InputError, InvertkitError
from invertkit.objectives.asked_players import CriticScore, MaskBCE
from invertkit.objectives.base import Objective
from invertkit.objectives.outputs import CrossEntropy, KLDivergence
from invertkit.objectives.patches.sliced import PatchSWD
from invertkit.objectives.priors import Norm, TotalVariation
from invertkit.objectives.reference import PixelDistance
from invertkit.objectives.statistics import FeatureStatistics
from invertkit.optimizers.base import Optimizer
from invertkit.optimizers.torch_optim import LBFGS, Adam, TorchOptimizer
from invertkit.optimizers.wrappers import Clip, KeepBest
from invertkit.variables.base import Variable
from invertkit.variables.fourier import Fourier
from invertkit.variables.pixels import Pixels
from invertkit.variables.wrappers import Jitter
from tests.helpers import (
    SIZE,
    copied,
    global_generators_unmoved,
    make_problem,
    make_scene,
    networks,
    same,
    through_a_file,
    tiny_critic,
    tiny_segmenter,
    uniform,
)


class Script(Objective):
    """Says what it is told: a function of the step and the mean of each image."""

    weighs_region: ClassVar[bool] = True

    def __init__(self, value: Callable[[int, Tensor], Tensor]) -> None:
        self.value = value

    def forward(self, view: View) -> Tensor:
        return self.value(view.step, view.image.mean((1, 2, 3)))


def still() -> TorchOptimizer:
    """Evaluates and never moves."""
    return TorchOptimizer("SGD", lr=0.0)


def walk(run: Run, steps: int) -> None:
    for report in run.steps():
        if report.step == steps:
            break


def state(run: Run) -> Any:
    return copied({k: v for k, v in run.save().items() if k != "seconds"})


# ---------------------------------------------------------------------- reports


def test_the_total_is_the_sum_of_weights_times_values() -> None:
    weight = Linear("linear", start=1.0, stop=-2.0)
    problem = make_problem(
        Term(CrossEntropy(), name="class", weight=weight),
        Term(TotalVariation(), name="tv", weight=0.3, region="object"),
        Term(Norm(), name="norm", weight=Piecewise("piecewise", ((2, 0.01),))),
        stages=[(SIZE, 3), ((12, 12), 2)],
        seeds=(1, 2),
    )
    for i, report in enumerate(Run(problem).steps()):
        assert report.weights["class"] == pytest.approx(1 - 3 * i / 4)  # over the whole run
        assert report.weights["norm"] == (0.01 if i >= 2 else 0)
        wanted = sum(report.weights[name] * report.values[name] for name in report.values)
        torch.testing.assert_close(report.losses, wanted)
        assert list(report.values) == ["class", "tv", "norm"]
        assert all(value.shape == (2,) for value in report.values.values())
        assert not report.losses.requires_grad


def test_reports_count_steps_stages_and_sizes() -> None:
    problem = make_problem(Term(Norm(), name="norm"), stages=[((8, 10), 2), ((9, 9), 0), (SIZE, 1)])
    run, seen = Run(problem), []
    for report in run.steps():
        seen.append((report.step, report.total, report.stage, report.size))
        assert run.last_images().shape[-2:] == report.size
        assert run.status is Status.RUNNING
    assert seen == [(1, 3, 0, (8, 10)), (2, 3, 0, (8, 10)), (3, 3, 2, SIZE)]
    assert run.status is Status.FINISHED
    assert run.seconds > 0


def test_values_are_those_of_the_images_before_the_change() -> None:
    run = Run(make_problem(Term(PixelDistance(), name="distance"), variable=Pixels(noise=0.3)))
    before = None
    for report in run.steps():
        if before is not None:
            torch.testing.assert_close(report.values["distance"], before)
        reference = make_scene(dtype=torch.float32).reference
        before = (run.params["pixels"].detach() - reference).abs().mean((1, 2, 3))  # type: ignore[operator]


def test_the_learning_rate_begins_again_with_every_stage() -> None:
    schedule = Cosine("cosine", peak=0.1, warmup=4)  # 0.025 at the first step of a stage
    script = Script(lambda step, mean: mean)
    problem = make_problem(
        Term(script, name="up"), optimizer=Adam(lr=schedule), stages=[(SIZE, 3), ((12, 12), 1)]
    )
    run, before = Run(problem), None
    for report in run.steps():
        if report.step == 3:
            before = problem.variable.resize(run.params, SIZE, (12, 12))["pixels"].detach()
    torch.testing.assert_close(run.params["pixels"].detach(), before - 0.025, rtol=1e-4, atol=1e-5)


def test_the_total_is_that_of_the_first_look_where_a_step_looks_often() -> None:
    problem = make_problem(
        Term(CrossEntropy(), name="class", weight=2.0),
        Term(TotalVariation(), name="tv", weight=0.3),
        optimizer=LBFGS(iterations=4, lr=0.5),
    )
    for report in Run(problem).steps():
        wanted = 2.0 * report.values["class"] + 0.3 * report.values["tv"]
        torch.testing.assert_close(report.losses, wanted)


def test_players_are_told_the_step_of_the_run_and_see_the_images_before_the_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    critic, told, run = tiny_critic(), [], None

    def learn(images: Tensor, *, step: int) -> None:
        assert run is not None
        assert not images.requires_grad
        assert torch.equal(images, run.params["pixels"].detach())
        told.append(step)

    monkeypatch.setattr(critic, "learn", learn)
    run = Run(
        make_problem(
            Term(CriticScore(), name="critic"),
            players={"critic": critic},
            stages=[((9, 12), 2), (SIZE, 3)],
        )
    )
    list(run.steps())
    assert told == [0, 1, 2, 3, 4]


# ---------------------------------------------------------------------- terms


def test_a_term_is_prepared_once_a_stage_at_its_size_and_for_its_region(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective, seen = Norm(), []

    def prepare(reference: View) -> None:
        seen.append((reference.region_name, reference.is_reference, reference.image.shape[-2:]))

    monkeypatch.setattr(objective, "prepare", prepare)
    stages = [((9, 12), 2), (SIZE, 2)]
    list(Run(make_problem(Term(objective, name="norm", region="vacated"), stages=stages)).steps())
    assert seen == [("vacated", True, (9, 12)), ("vacated", True, SIZE)]


def test_terms_count_from_their_start_until_their_stop() -> None:
    problem = make_problem(
        Term(Norm(), name="always"),
        Term(Norm(), name="late", start=2),
        Term(Norm(), name="early", stop=3),
        Term(Norm(), name="middle", start=1, stop=4),
        stages=[(SIZE, 5)],
    )
    counted = [set(report.values) for report in Run(problem).steps()]
    assert counted == [
        {"always", "early"},
        {"always", "early", "middle"},
        {"always", "early", "middle", "late"},
        {"always", "middle", "late"},
        {"always", "late"},
    ]


def test_terms_count_at_the_sizes_they_are_meant_for() -> None:
    problem = make_problem(
        Term(Norm(), name="always"),
        Term(Norm(), name="large", min_size=12),
        Term(Norm(), name="small", max_size=12),
        stages=[((8, 16), 1), ((12, 12), 1), (SIZE, 1)],
    )
    counted = [set(report.values) for report in Run(problem).steps()]
    assert counted == [{"always", "small"}, {"always", "small", "large"}, {"always", "large"}]


def test_a_step_at_which_no_term_counts_is_an_error_that_says_where() -> None:
    problem = make_problem(
        Term(Norm(), name="early", stop=1),
        Term(Norm(), name="large", min_size=99),
        stages=[(SIZE, 3)],
    )
    with pytest.raises(InputError, match=r"No term counts at step 1 \(stage 1, size 16×20\)"):
        list(Run(problem).steps())


def test_term_names_are_unique() -> None:
    with pytest.raises(InputError, match="unique"):
        Run(make_problem(Term(Norm(), name="a"), Term(TotalVariation(), name="a")))


def test_an_optimizer_that_mixes_images_takes_one_seed() -> None:
    with pytest.raises(InputError, match="one seed a run"):
        Run(make_problem(Term(Norm(), name="a"), optimizer=LBFGS(), seeds=(0, 1)))
    assert list(Run(make_problem(Term(Norm(), name="a"), optimizer=LBFGS())).steps())


# ---------------------------------------------------------------------- the best image


def scripted(values: list[list[float]], *more: Term, **options: Any) -> Problem:
    """Image i has loss `values[step][i]`; its pixels fall by one on every step."""

    def value(step: int, mean: Tensor) -> Tensor:
        return torch.tensor(values[step]) + (mean - mean.detach())

    options = {"stages": [((4, 4), len(values))]} | options
    return make_problem(
        Term(Script(value), name="script"),
        *more,
        variable=Pixels(start="constant", colour=(0.9, 0.9, 0.9), noise=0),
        optimizer=TorchOptimizer("SGD", lr=0.1 * 48),  # 0.1 a step, as the slope is 1/48
        seeds=tuple(range(len(values[0]))),
        **options,
    )


def test_the_best_is_kept_for_each_image_on_its_own() -> None:
    run = Run(scripted([[3, 3], [1, 4], [2, 2], [5, 9]]))
    list(run.steps())
    assert run.best_steps() == [1, 2]
    assert run.best_losses() == [1, 2]
    wanted = torch.tensor([0.8, 0.7])  # before the change of that step
    torch.testing.assert_close(run.best_images().mean((1, 2, 3)), wanted)
    torch.testing.assert_close(run.last_images().mean((1, 2, 3)), torch.tensor([0.5, 0.5]))


def test_the_best_begins_again_when_a_term_switches_on() -> None:
    late = Term(Script(lambda step, mean: 10 + 0 * mean), name="late", start=2)
    run = Run(scripted([[1], [2], [7], [5], [6]], late))
    seen = []
    for _ in run.steps():
        seen.append((run.best_steps(), run.best_losses()))
    assert seen == [([0], [1]), ([0], [1]), ([2], [17]), ([3], [15]), ([3], [15])]


def test_the_best_begins_again_with_a_stage() -> None:
    run = Run(scripted([[1], [2], [7], [6]], stages=[((4, 4), 2), ((6, 6), 2)]))
    list(run.steps())
    assert run.best_steps() == [3]
    assert run.best_images().shape == (1, 3, 6, 6)


@pytest.mark.parametrize("variable", [Pixels(), Jitter(inner=Pixels(noise=0.1), pixels=2)])
def test_what_is_saved_carries_no_graph(variable: Variable) -> None:
    run = Run(make_problem(Term(Norm(), name="norm"), variable=variable, stages=[(SIZE, 4)]))
    walk(run, 3)
    best = run.save()["best"]
    assert not best["images"].requires_grad
    assert not any(tensor.requires_grad for tensor in run.save()["params"].values())


def test_the_best_image_is_the_one_that_is_saved_and_not_a_moved_look() -> None:
    variable = Jitter(inner=Pixels(noise=0.3), pixels=4, at=16, flip=0.5)
    run = Run(make_problem(Term(Norm(), name="norm"), variable=variable, optimizer=still()))
    list(run.steps())
    assert torch.equal(run.best_images(), run.last_images())


def test_images_are_cut_to_the_valid_range_and_the_variable_is_not() -> None:
    run = Run(
        make_problem(Term(Norm(), name="norm"), variable=Pixels(noise=3.0), optimizer=still())
    )
    assert run.best_steps() == [0]  # of what is there, as nothing has been compared
    assert torch.tensor(run.best_losses()).isnan().all()
    list(run.steps())
    for images in (run.best_images(), run.last_images()):
        assert images.min() == 0
        assert images.max() == 1
    assert run.params["pixels"].min() < 0


# ---------------------------------------------------------------------- how it ends


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_finite_picture(
    bad: float,
) -> None:
    run = Run(scripted([[3], [2], [bad], [0]]))
    reports = list(run.steps())
    assert len(reports) == 3
    assert run.status is Status.NON_FINITE
    assert "learning rate" in run.status.value
    assert run.best_losses() == [2]
    assert run.best_images().isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_image_that_is_lost_does_not_end_the_others(bad: float) -> None:
    table = [[3, 3, 3], [2, bad, 4], [1, bad, bad], [0, bad, bad], [bad, bad, bad], [0, 0, 0]]
    run = Run(scripted(table))
    steps = run.steps()
    assert [next(steps).run.lost for _ in range(4)] == [
        (False, False, False), (False, True, False), (False, True, True), (False, True, True),
    ]  # fmt: skip
    assert run.status is Status.RUNNING
    again = Run(scripted(table))
    again.restore(run.save())
    assert again.lost == run.lost
    assert len(list(steps)) == 1, "none is left"
    assert run.status is Status.NON_FINITE
    assert run.best_losses() == [0, 3, 3]
    assert run.best_images().isfinite().all()


def test_what_comes_after_a_loss_that_is_not_finite_does_not_count() -> None:
    run = Run(scripted([[3, 3], [2, float("inf")], [1, 1]]))
    list(run.steps())
    assert run.best_losses() == [1, 3]
    assert run.best_steps() == [2, 0]
    assert not torch.equal(run.best_images()[0], run.best_images()[1])
    alone = Run(scripted([[3], [float("inf")], [1]]))
    list(alone.steps())
    assert torch.equal(alone.best_images()[0], run.best_images()[1])


@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (2, 3)])
def test_an_objective_gives_one_number_an_image(shape: tuple[int, ...]) -> None:
    wrong = Script(lambda step, mean: mean.sum() * torch.ones(shape))
    run = Run(make_problem(Term(wrong, name="wrong"), seeds=(0, 1)))
    with pytest.raises(InputError, match=r"one number an image, of shape \(2,\): got shape"):
        list(run.steps())


@pytest.mark.parametrize("value", [None, 1.0, (torch.ones(2),)])
def test_an_objective_gives_a_tensor(value: object) -> None:
    wrong = Script(lambda step, mean: value)
    run = Run(make_problem(Term(wrong, name="wrong"), seeds=(0, 1)))
    with pytest.raises(InputError, match=rf"of shape \(2,\): got {type(value).__name__}\."):
        list(run.steps())


def test_a_run_that_lost_an_image_says_so_at_its_end() -> None:
    run = Run(scripted([[3, 3], [2, float("nan")], [1, 1]]))
    assert len(list(run.steps())) == 3
    assert run.status is Status.NON_FINITE


def test_the_last_finite_picture_outlives_a_step_to_nowhere() -> None:
    """The gradient is not finite one step before the loss, and a term switches on there."""
    broken = Script(lambda step, mean: mean + ((mean - mean.detach()).sqrt() if step == 1 else 0))
    late = Term(Norm(), name="late", start=2)
    run = Run(
        make_problem(Term(broken, name="broken"), late, optimizer=TorchOptimizer("SGD", lr=0.1))
    )
    assert [bool(report.losses.isfinite()) for report in run.steps()] == [True, True, False]
    assert run.status is Status.NON_FINITE
    assert run.best_images().isfinite().all()


def test_an_observer_can_stop_and_the_run_can_go_on() -> None:
    run, plain = (
        Run(make_problem(Term(Norm(), name="norm"), stages=[(SIZE, 6)])) for _ in range(2)
    )
    for report in run.steps():
        if report.step == 2:
            report.run.status = Status.STOPPED
    assert run.step == 2
    assert run.status is Status.STOPPED
    assert [report.step for report in run.steps()] == [3, 4, 5, 6]
    assert run.status is Status.FINISHED
    list(plain.steps())
    assert same(state(run), state(plain))


def test_the_inner_optimizer_is_told_when_a_stage_ends() -> None:
    problem = scripted([[3], [1], [2], [9], [5], [7]], stages=[((4, 4), 3), ((4, 4), 3)])
    run = Run(replace(problem, optimizer=KeepBest(problem.optimizer)))
    means = [float(run.last_images().mean()) for _ in run.steps()]
    assert means == pytest.approx([0.8, 0.7, 0.8, 0.7, 0.6, 0.7])


# ---------------------------------------------------------------------- seeds


def full_problem(seeds: tuple[int, ...] = (3, 5), **options: Any) -> Problem:
    """Every role at once, in two stages."""
    return make_problem(
        Term(CrossEntropy(), name="class", region="object"),
        Term(FeatureStatistics(), name="features", weight=Linear("linear", start=1.0, stop=5.0)),
        Term(PatchSWD(filters=4, kernel=3), name="patches"),
        Term(CriticScore(), name="critic", weight=0.1, start=2),
        Term(MaskBCE(), name="mask", min_size=10),
        **{
            "players": {"critic": tiny_critic(start=1, every=2), "segmenter": tiny_segmenter()},
            "optimizer": KeepBest(Clip(Adam(lr=Cosine("cosine", peak=0.1, warmup=2)))),
            "stages": [((9, 12), 3), ((12, 14), 3)],
            "seeds": seeds,
        }
        | options,
    )


def test_seed_gives_the_same_picture_alone_and_in_company() -> None:
    """Up to rounding: a batch adds in another order."""
    together, alone = Run(full_problem((3, 5, 8))), Run(full_problem((5,)))
    for a, b in zip(together.steps(), alone.steps(), strict=True):
        torch.testing.assert_close(a.losses[1:2], b.losses, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(together.last_images()[1:2], alone.last_images(), rtol=0, atol=2e-3)


def test_seed_gives_the_same_picture_to_the_last_bit_where_terms_read_pixels_only() -> None:
    def problem(seeds: tuple[int, ...]) -> Problem:
        return make_problem(
            Term(PixelDistance(form="l2"), name="distance"),
            Term(TotalVariation(), name="tv", region="object"),
            seeds=seeds,
        )

    together, alone = Run(problem((3, 5, 8))), Run(problem((5,)))
    for _ in zip(together.steps(), alone.steps(), strict=True):
        many, one = together.params["pixels"], alone.params["pixels"]
        torch.testing.assert_close(many[1:2], one, rtol=1e-6, atol=1e-7)
    assert not torch.equal(many[0], many[1])


def test_two_runs_of_equal_problems_are_equal_and_leave_the_global_generators_alone() -> None:
    runs = []
    with global_generators_unmoved():
        for _ in range(2):
            run = Run(full_problem())
            list(run.steps())
            runs.append(run)
    assert same(state(runs[0]), state(runs[1]))


def test_only_players_that_are_asked_learn() -> None:
    critic, segmenter = tiny_critic(), tiny_segmenter()
    problem = full_problem(
        players={"critic": critic, "segmenter": segmenter}, stages=[((9, 10), 1)]
    )
    list(Run(problem).steps())
    assert networks(critic)
    assert not networks(segmenter)  # its term needs a larger stage


# ---------------------------------------------------------------------- surviving


RESUMED: dict[str, Callable[[], Problem]] = {
    "everything": full_problem,
    "lbfgs": lambda: make_problem(
        Term(KLDivergence(), name="kl"),
        Term(TotalVariation(form="l2"), name="tv", weight=0.01),
        optimizer=LBFGS(iterations=3, lr=0.5),
        stages=[((12, 12), 3), (SIZE, 2)],
    ),
    "fourier": lambda: full_problem(
        variable=Fourier(noise=0.1), optimizer=TorchOptimizer("NAdam", lr=0.01)
    ),
    "jitter": lambda: make_problem(
        Term(CrossEntropy(), name="class"),
        variable=Jitter(inner=Pixels(space="imagenet", size=16), pixels=3, at=16, flip=0.5),
        stages=[((8, 8), 2), ((16, 16), 3)],
        seeds=(1, 2),
    ),
    "shared critic": lambda: full_problem(
        players={
            "critic": tiny_critic(shared=True, norm="batch"),
            "segmenter": tiny_segmenter(when="before", norm="batch"),
        }
    ),
    "a player that rests": lambda: full_problem(
        stages=[((12, 14), 2), ((9, 10), 2), ((12, 14), 2)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("carry", [lambda saved: saved, through_a_file], ids=["kept", "file"])
@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_equals_one_that_never_stopped_bit_for_bit(
    name: str, carry: Callable[[Any], Any]
) -> None:
    """At every step, borders of stages included, and the step before the first."""
    whole, saved = Run(RESUMED[name]()), []
    saved.append(carry(whole.save()))
    losses = []
    for report in whole.steps():
        losses.append(report.losses)
        saved.append(carry(whole.save()))
    ended = state(whole)
    for step, at in enumerate(saved):
        run = Run(RESUMED[name]())
        run.restore(at)
        assert run.step == step
        if step:
            assert same(state(run), state(run))
        rest = [report.losses for report in run.steps()]
        assert same(rest, losses[step:])
        assert run.status is Status.FINISHED
        assert same(state(run), ended)
        assert torch.equal(run.best_images(), whole.best_images())
        assert torch.equal(run.last_images(), whole.last_images())


def test_a_restored_run_has_its_pictures_before_it_goes_on() -> None:
    run, other = Run(full_problem()), Run(full_problem())
    walk(run, 2)
    other.restore(through_a_file(run.save()))
    assert torch.equal(run.last_images(), other.last_images())
    assert torch.equal(run.best_images(), other.best_images())
    assert run.best_steps() == other.best_steps()
    assert run.best_losses() == other.best_losses()
    assert other.seconds == run.seconds


def test_a_checkpoint_of_other_seeds_is_refused() -> None:
    run = Run(full_problem((1, 2)))
    walk(run, 1)
    with pytest.raises(InvertkitError, match=r"of seeds \[1, 2\], this run of \[3\]"):
        Run(full_problem((3,))).restore(run.save())


def test_an_iterator_left_early_can_be_taken_up_again() -> None:
    whole, parts = Run(full_problem()), Run(full_problem())
    list(whole.steps())
    for stop in (2, 3, 5, 99):
        walk(parts, stop)
    assert same(state(whole), state(parts))


# ---------------------------------------------------------------------- stages of their own


def test_a_run_without_seeds_or_without_terms_says_so() -> None:
    with pytest.raises(InputError, match="nothing to do without a seed; give at least one"):
        Run(make_problem(Term(Norm(), name="norm"), seeds=()))
    with pytest.raises(InputError, match="No term counts at step 0"):
        list(Run(make_problem()).steps())
    empty = Run(make_problem(Term(Norm(), name="norm"), stages=[(SIZE, 0)]))
    assert list(empty.steps()) == []
    assert empty.status is Status.FINISHED


def test_a_stage_may_have_an_optimizer_of_its_own() -> None:
    def stages(first: Optimizer | None, second: Optimizer | None) -> Problem:
        problem = make_problem(Term(Norm(), name="norm"), optimizer=still())
        return replace(problem, stages=[Stage(SIZE, 2, first), Stage(SIZE, 2, second)])

    moved = Run(stages(None, Adam(lr=0.05)))
    before = None
    for report in moved.steps():
        if report.step == 2:
            before = moved.params["pixels"].detach().clone()
    start = Run(stages(None, None))
    list(start.steps())
    assert before is not None
    assert torch.equal(before, start.params["pixels"])
    assert not torch.equal(moved.params["pixels"], before)
    with pytest.raises(InputError, match="mixes the images of a batch; give it one seed"):
        Run(replace(stages(None, LBFGS()), seeds=(1, 2)))


def test_a_variable_of_a_stage_takes_over_what_has_its_name_and_begins_the_rest() -> None:
    problem = make_problem(Term(Norm(), name="norm"), variable=Pixels(noise=0.3), optimizer=still())
    other = Pixels(noise=0.1, start="constant")
    same_name = replace(problem, stages=[Stage(SIZE, 1), Stage(SIZE, 1, None, other)])
    run, found = Run(same_name), []
    for _ in run.steps():
        found.append(run.params["pixels"].detach().clone())
    assert torch.equal(*found)
    fourier = Run(replace(problem, stages=[Stage(SIZE, 1), Stage(SIZE, 1, None, Fourier())]))
    list(fourier.steps())
    wanted = Fourier().start(make_scene(dtype=torch.float32), fourier.randomness)
    assert torch.equal(fourier.params["spectrum"], wanted["spectrum"])
    sized = replace(problem, stages=[Stage(SIZE, 1), Stage(SIZE, 1, None, Pixels(size=8))])
    with pytest.raises(
        InputError, match=r"Stage 2 takes over 'pixels' as .* from the stage before"
    ):
        list(Run(sized).steps())


def test_a_problem_knows_its_length() -> None:
    problem = make_problem(Term(Norm(), name="norm"), stages=[(SIZE, 3), ((8, 8), 4)])
    assert problem.total_steps == 7
    assert problem.stages[0] == Stage(SIZE, 3)
    assert uniform(1).shape == (1,)
