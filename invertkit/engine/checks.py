"""Whether the parts of a problem go together, told before the first step."""

from __future__ import annotations

from invertkit.engine.plan import StagePlan
from invertkit.engine.problem import Problem
from invertkit.errors import InputError, RecipeError


def check_problem(problem: Problem) -> None:
    """Look at a problem as a whole, and at each of its stages.

    Raises:
        InputError: There is no seed, two terms share a name, or a batch has images that its
            optimizer would mix.
        RecipeError: Parts of a stage do not go together; the message starts where they stand.
    """
    names = [term.name for term in problem.terms]
    if len(set(names)) < len(names):
        raise InputError(f"Term names must be unique, got {names}.")
    if not problem.seeds:
        raise InputError("There is nothing to do without a seed; give at least one.")
    for index in range(len(problem.stages)):
        plan = StagePlan.of(problem, index)
        _check_optimizer(plan, len(problem.seeds))
        _check_frame(plan)
        _check_tensors(plan)


def _check_optimizer(plan: StagePlan, images: int) -> None:
    """Whether it may have this batch, this number of steps, and these players."""
    if plan.optimizer.couples_images and images > 1:
        raise InputError("This optimizer mixes the images of a batch; give it one seed a run.")
    plan.optimizer.check(plan.stage.steps)
    if plan.optimizer.searches and plan.players:
        raise RecipeError(
            f"players: {', '.join(plan.players)} would learn from one picture of each image, and "
            f"this optimizer ({type(plan.optimizer).__name__}) judges a population of them; use "
            "`adam`, or leave out the terms that ask players."
        )


def _check_frame(plan: StagePlan) -> None:
    """Whether a term would go on looking at the reference where it no longer lies."""
    holding = [term.name for term in plan.terms if term.objective.holds_reference]
    if plan.variable.frame_names and holding:
        raise RecipeError(
            f"objective.{holding[0]}: {type(plan.variable).__name__} moves the reference while "
            "images are judged, and this term keeps it as it lies; use one that asks for it at "
            "every look, such as `pixel_distance`, `lpips` or `feature_cosine`."
        )


def _check_tensors(plan: StagePlan) -> None:
    """Whether the optimizer names tensors that there are, and that a gradient reaches."""
    names, behind_frame = plan.variable.names, plan.variable.frame_names
    if not names:
        return
    at = "optimizer"
    if plan.stage.optimizer is not None:
        at = f"stages.{plan.stage.name or plan.index}.optimizer"
    try:
        plan.optimizer.moves(names)
    except RecipeError as error:
        raise RecipeError(f"{at}: {error}") from None
    follows = plan.optimizer.follows(names)
    if follows and set(follows) <= set(behind_frame):
        raise RecipeError(
            f"{at}: over: no gradient reaches {', '.join(follows)}; search it with `cma_es`, "
            "or let the optimizer change another tensor too: "
            f"{', '.join(name for name in names if name not in behind_frame)}."
        )
