"""A population search whose candidates descend: CMA + Adam, and BasinCMA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, final

from jaxtyping import Float
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.ranges import Count, Index
from invertkit.core.recording.phase import Phase
from invertkit.errors import RecipeError
from invertkit.optimizers.base import Landscape, Optimizer
from invertkit.optimizers.population.search import PopulationSearch, SearchState, comparable


@dataclass
class BasinState(SearchState):
    """Where a search stands whose candidates descend.

    Attributes:
        afresh: Names of the tensors that descend but are not searched: they begin anew with every
            population.
        inner: State of the optimizer that descends; None before the first population.
    """

    afresh: tuple[str, ...] = ()
    inner: Any = None


class _Place(NamedTuple):
    """Where a step lies in the descent that it belongs to.

    Attributes:
        last: Whether that is the descent of the last population.
        inside: Which of its steps this is, from 0.
        steps: How many it has.
    """

    last: bool
    inside: int
    steps: int

    @property
    def draws(self) -> bool:
        """Whether a population is drawn before the step."""
        return self.inside == 0

    @property
    def judges(self) -> bool:
        """Whether the population is judged after the step."""
        return self.inside + 1 == self.steps


@final
@dataclass(frozen=True)
class BasinCMA(Optimizer):
    """A population search in which every candidate descends before it is judged.

    A generation draws candidates, takes `inner_steps` of the inner optimizer on all of them in one
    batch, judges them as they are, and tells the outer search. The last steps of the stage belong
    to one more population, which descends for `last_steps`. The run stands at the best candidate.
    With `inner_steps: 0` this is the outer search, and then the inner one from its last population.

    Args:
        outer: Draws the population.
        inner: Descends; it must treat every image on its own.
        inner_steps: Of the inner optimizer in each generation; 0 makes a step a generation.
        last_steps: Of the inner optimizer after the last generation.
        told: Whether the outer search learns of the points it drew (the released code, "Baldwin")
            or of where they have descended to (the paper, "Lamarck").
        result: What a stage hands on: the `best` candidate it has judged, or for the tensors that
            are searched the `mean` of the search (the paper's φ*).

    Raises:
        RecipeError: The inner optimizer mixes images, or searches with a population itself.

    Source: Wampler & Popović 2009; Bau et al. 2019; Huh et al. 2020, Algorithm 1. In the paper
    the last of the generations descends longer; here, as in the released code, it is an extra one.

    Example:
        >>> from invertkit.optimizers.population.cma_es import CmaEs
        >>> from invertkit.optimizers.torch_optim import Adam
        >>> search = BasinCMA(CmaEs(over=("z",)), Adam(), inner_steps=30, last_steps=300)
        >>> search.moves(("z", "c")), search.follows(("z", "c"))
        (('z', 'c'), ('z', 'c'))
        >>> search.check(steps=1000)
        Traceback (most recent call last):
        ...
        invertkit.errors.RecipeError: optimizer: 1000 steps of this stage are not 300 last steps ...
    """

    outer: PopulationSearch
    inner: Optimizer
    inner_steps: Index = 30
    last_steps: Index = 0
    told: Literal["refined", "sampled"] = "refined"
    result: Literal["best", "mean"] = "best"

    def __post_init__(self) -> None:
        if not isinstance(self.outer, PopulationSearch):  # a recipe may name any optimizer
            raise RecipeError(
                f"outer: expected a population search such as `cma_es`, got "
                f"{type(self.outer).__name__}."
            )
        if self.inner.searches:
            raise RecipeError(
                f"inner: {type(self.inner).__name__} draws a population itself; use an optimizer "
                "that descends, such as `adam`."
            )
        if self.inner.couples_images:
            raise RecipeError(
                f"inner: {type(self.inner).__name__} mixes the images of a batch, and a "
                "population is a batch; use one that does not, such as `adam`."
            )

    @property
    def searches(self) -> bool:
        return True

    def moves(self, names: Sequence[str]) -> tuple[str, ...]:
        moved = {*self.outer.moves(names), *(self.inner.moves(names) if self._descends else ())}
        return tuple(name for name in names if name in moved)

    def follows(self, names: Sequence[str]) -> tuple[str, ...]:
        return self.inner.follows(names) if self._descends else ()

    @property
    def _descends(self) -> bool:
        return bool(self.inner_steps or self.last_steps)

    def _fitting(self, steps: int) -> int:
        """The nearest length of a stage that can be taken."""
        each, free = max(1, self.inner_steps), steps - self.last_steps
        if free >= 0 and free % each == 0:
            return steps
        return max(1, round(free / each)) * each + self.last_steps

    def _place(self, step: int, total: int) -> _Place:
        first_of_last = total - self.last_steps
        if step >= first_of_last:
            return _Place(last=True, inside=step - first_of_last, steps=self.last_steps)
        steps = max(1, self.inner_steps)
        return _Place(last=False, inside=step % steps, steps=steps)

    @property
    def obstacle(self) -> str:
        """That of the descent."""
        if not self._descends:
            return self.outer.obstacle
        if not self.inner.restarts_in_place:
            name = type(self.inner).__name__
            return self.inner.obstacle or f"{name} does not say that it restarts in place"
        return self.inner.obstacle

    def phase(self, *, step: int, total: int) -> Phase:
        """Whether it draws, descends, judges; drawing and judging are left to Python."""
        place = self._place(step, total)
        descent = self.inner.phase(step=place.inside, total=place.steps)
        replayable = descent.replayable and not (place.draws or place.judges)
        return Phase((place.last, place.draws, place.judges, descent.key), replayable)

    def schedule(self, state: BasinState, *, step: int, total: int) -> None:
        place = self._place(step, total)
        if state.inner is not None:
            self.inner.schedule(state.inner, step=place.inside, total=place.steps)

    def check(self, steps: int) -> None:
        """Generations and last steps must fill the stage."""
        if (fitting := self._fitting(steps)) != steps:
            raise RecipeError(
                f"optimizer: {steps} steps of this stage are not {self.last_steps} last steps and "
                f"whole generations of {max(1, self.inner_steps)}; take {fitting}."
            )

    def trial(self) -> BasinCMA:
        """One step inside a generation, one at the end."""
        each, last = min(1, self.inner_steps), min(1, self.last_steps)
        return replace(self, inner_steps=each, last_steps=last)

    def init(self, params: Params) -> BasinState:
        searched = self.outer.searched(params)
        # Where only the last population descends, nothing else has moved before: it stays.
        moved = self.inner.moves(tuple(params)) if self.inner_steps else ()
        for param in params.values():
            param.requires_grad_(False)
        return BasinState(searched, afresh=tuple(n for n in moved if n not in searched))

    def step(
        self, landscape: Landscape, params: Params, state: BasinState, *, step: int, total: int
    ) -> Float[Tensor, " b"]:
        place = self._place(step, total)
        if place.draws:
            self._populate(landscape, state)
        candidates = landscape.at(state.candidates)
        if self.inner_steps == 0 and not place.last:
            losses = self._judge(candidates, params, state, last=False)
            return comparable(losses).amin(1)
        losses = self.inner.step(
            candidates, state.candidates, state.inner, step=place.inside, total=place.steps
        )
        # The last word may move candidates (`keep_best`), so it comes before they are judged.
        if place.judges:
            self.inner.finish(state.candidates, state.inner)
        candidates.confine()
        if place.judges:
            self._judge(candidates, params, state, last=place.last)
        return comparable(losses).reshape(landscape.images, -1).amin(1)

    def _populate(self, landscape: Landscape, state: BasinState) -> None:
        """Draw candidates, and let the descent begin anew."""
        self.outer.populate(landscape, state, afresh=state.afresh)
        if not self._descends:
            return
        if state.inner is None:
            state.inner = self.inner.init(state.candidates)
        else:
            state.inner = self.inner.restart(state.candidates, state.inner)

    def _judge(
        self, candidates: Landscape, params: Params, state: BasinState, *, last: bool
    ) -> Float[Tensor, "images k"]:
        """Judge the population; the last of a stage teaches the search nothing."""
        losses = self.outer.judge(candidates, params, state)
        if not last:
            refined = self.told == "refined" and self.inner_steps > 0
            self.outer.learn(state, losses, refined=refined)
        return losses

    def finish(self, params: Params, state: BasinState) -> None:
        if self.result == "mean":
            self.outer.hand_on_centre(params, state)

    def save(self, state: BasinState) -> dict[str, Any]:
        inner = None if state.inner is None else self.inner.save(state.inner)
        return {**self.outer.save(state), "inner": inner}

    def load(self, params: Params, saved: dict[str, Any]) -> BasinState:
        state = self.init(params)
        self.outer.take_up(state, saved, next(iter(params.values())).device)
        if saved["inner"] is not None:
            state.inner = self.inner.load(state.candidates, saved["inner"])
        return state


def cma_adam(
    *,
    outer: PopulationSearch,
    inner: Optimizer,
    last_steps: Count = 300,
) -> BasinCMA:
    """A population search, then a descent from a last population: CMA + Adam.

    Args:
        outer: Draws the population; each step but the last ones is a generation.
        inner: Descends.
        last_steps: Steps of the descent.

    Source: the baseline of Huh et al. 2020, Table 1 (200 generations and 300 steps in the code).

    Example:
        >>> from invertkit.optimizers.population.cma_es import CmaEs
        >>> from invertkit.optimizers.torch_optim import Adam
        >>> cma_adam(outer=CmaEs(), inner=Adam()).check(steps=500)
    """
    return BasinCMA(outer=outer, inner=inner, inner_steps=0, last_steps=last_steps)
