"""The ways to project that `projection.py` compares, at equal numbers of generator evaluations.

An evaluation is one picture that the generator makes for a loss, with a gradient or without: what a
population is judged by counts too. A run has `members · steps` of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal, final

SEARCH: Final = "stages.search"
RULE: Final = "stages.search.optimizer"
PHI: Final = 7
"""Candidates of the transform in a generation, in its 3 dimensions."""

Kind = Literal["population", "descents", "alone"]


@final
@dataclass(frozen=True)
class Budget:
    """How much every method may evaluate.

    Args:
        members: Candidates of a population, and descents that stand beside it.
        steps: Evaluations of each member.
        inner: Steps of a descent within a generation.
        transform: Generations of the transform's search, and steps of a descent in them.
    """

    members: int
    steps: int
    inner: int = 15
    transform: tuple[int, int] = (6, 9)

    @property
    def evaluations(self) -> int:
        """Of a run."""
        return self.members * self.steps

    @property
    def for_transform(self) -> int:
        """Evaluations of the transform's search."""
        generations, inner = self.transform
        return PHI * generations * (inner + 1)


@final
@dataclass(frozen=True)
class Method:
    """A way to project.

    Args:
        name: In the tables.
        recipe: That does it.
        options: Overrides for a budget.
        kind: A `population` whose members are seeds of the paper; `descents`, of which as many
            stand side by side; `alone`, descents one after the other.
        choices: Of the recipe.
        counted: As one long run, as in the paper, or both; a population is always both.
        most: Descents that stand for the members of a population, if not as many.
        off_centre: Whether it is of use for objects out of the middle only.
        beside: Evaluations that it takes beside those of the budget.
    """

    name: str
    recipe: str
    options: Callable[[Budget], list[str]]
    kind: Kind
    choices: tuple[tuple[str, str], ...] = ()
    counted: tuple[Literal["run", "member"], ...] = ("run", "member")
    most: int | None = None
    off_centre: bool = False
    beside: int = 0

    def made(self, name: str, *more: str, **changes: object) -> Method:
        """This method with more overrides, under another name."""
        plain = self.options

        def options(budget: Budget) -> list[str]:
            return [*plain(budget), *more]

        return replace(self, name=name, options=options, **changes)  # type: ignore[arg-type]


def basin(steps: int, inner: int) -> list[str]:
    """So many evaluations a member: generations with their judging, a last descent with its own."""
    each = min(inner, max(1, steps // 8))
    generations = max(1, round(0.75 * steps) // (each + 1))
    last = max(1, steps - generations * (each + 1) - 1)
    return [
        f"{SEARCH}.steps={generations * each + last}",
        f"{RULE}.inner_steps={each}",
        f"{RULE}.last_steps={last}",
    ]


def _population(budget: Budget, *, nested: bool = True) -> list[str]:
    return [f"{RULE}.{'outer.' if nested else ''}population={budget.members}"]


def _descents(budget: Budget) -> list[str]:
    return [f"{SEARCH}.steps={budget.steps}"]


def _lbfgs(budget: Budget) -> list[str]:
    return [f"{SEARCH}.steps=100000", f"{RULE}.iterations=20"]  # until its evaluations are spent


def _cma(budget: Budget) -> list[str]:
    return [f"{SEARCH}.steps={budget.steps}", *_population(budget, nested=False)]


def _cma_adam(budget: Budget) -> list[str]:
    """200 generations and 300 steps, as in the released code, in proportion."""
    last = round(0.6 * budget.steps)
    steps = budget.steps - 1  # the last population is judged
    return [f"{SEARCH}.steps={steps}", f"{RULE}.last_steps={last}", *_population(budget)]


def _basin(budget: Budget) -> list[str]:
    return [*basin(budget.steps, budget.inner), *_population(budget)]


def _basin_transform(budget: Budget) -> list[str]:
    """The transform's search is paid for by the other."""
    generations, inner = budget.transform
    left = (budget.evaluations - budget.for_transform) // budget.members
    return [
        f"stages.transform.steps={generations * inner}",
        f"stages.transform.optimizer.inner_steps={inner}",
        "stages.transform.optimizer.outer.sigma=0.1",
        *basin(max(left, 8), budget.inner),
        *_population(budget),
    ]


def _basin_beside(generations: int, inner: int) -> Callable[[Budget], list[str]]:
    """The transform's search comes beside the other, which has all of the budget."""
    return lambda budget: [
        f"stages.transform.steps={generations * inner}",
        f"stages.transform.optimizer.inner_steps={inner}",
        "stages.transform.optimizer.outer.sigma=0.1",
        *_basin(budget),
    ]


ADAM: Final = Method("adam", "project-adam", _descents, "descents")
LBFGS: Final = Method("lbfgs", "project-lbfgs", _lbfgs, "alone", counted=("run",))
CMA: Final = Method("cma", "project-cma", _cma, "population")
CMA_ADAM: Final = Method("cma+adam", "project-cma-adam", _cma_adam, "population")
BASIN: Final = Method("basincma", "project-basincma", _basin, "population")
FIRST: Final = (("transform", "spatial"),)
"""Choices of a recipe that sees the photograph as φ₀ moves it, with the search for φ left out."""
ENCODER: Final = (("encoder", "with"),)
UNSEARCHED: Final = "stages.transform=null"


def _of_class(start: str) -> Method:
    return replace(ADAM, name=f"adam, {start}", choices=(("class", start),), counted=("member",))


def _transformed(generations: int, inner: int) -> Method:
    return Method(
        f"basincma, φ by {generations}×{inner}",
        "project",
        _basin_beside(generations, inner),
        "population",
        off_centre=True,
        beside=PHI * generations * (inner + 1),
    )


STUDIES: Final[dict[str, tuple[Method, ...]]] = {
    "optimizers": (
        ADAM,
        LBFGS,
        CMA,
        CMA_ADAM,
        BASIN,
        ADAM.made("adam + φ₀", UNSEARCHED, choices=FIRST, off_centre=True, counted=("member",)),
        BASIN.made("basincma + φ₀", UNSEARCHED, choices=FIRST, off_centre=True),
        Method("basincma + φ", "project", _basin_transform, "population", off_centre=True),
    ),
    "encoder": (
        replace(ADAM, name="adam + encoder", choices=ENCODER, counted=("member",)),
        replace(BASIN, name="basincma + encoder", choices=ENCODER),
    ),
    "classes": (
        _of_class("gaussian"),
        _of_class("random"),
        _of_class("predicted"),
        replace(ADAM, counted=("member",)),
        replace(ADAM, name="adam + encoder", choices=ENCODER, counted=("member",)),
    ),
    "tuning": (
        BASIN,
        replace(BASIN, name="basincma + tuning", choices=(("finetune", "with"),), beside=200),
    ),
    "told": (BASIN, BASIN.made("basincma, sampled", f"{RULE}.told=sampled")),
    "freedom": tuple(
        method.made(f"{method.name}, {words}", *more, counted=("member",), most=4)
        for words, more in (
            ("z alone", [f"{RULE}.over=[latent]"]),
            ("c a fifth as free", []),
            ("c as free as z", [f"{RULE}.rates.embedding=1"]),
        )
        for method in (ADAM, LBFGS)
    ),
    "transform": (
        BASIN,
        BASIN.made("basincma + φ₀", UNSEARCHED, choices=FIRST, off_centre=True),
        *(_transformed(*each) for each in ((5, 7), (10, 15), (20, 15), (30, 30))),
    ),
}
"""What is compared with what, by name of the study."""


def methods_of(studies: list[str]) -> list[Method]:
    """The methods of some studies, each once and counted as all of them count it."""
    found: dict[str, Method] = {}
    for study in studies:
        for method in STUDIES[study]:
            before = found.get(method.name, method)
            both = tuple(dict.fromkeys((*before.counted, *method.counted)))
            found[method.name] = replace(method, counted=both)
    return list(found.values())
