"""Searching with a population: CMA-ES alone, before Adam, and with Adam inside (BasinCMA)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.ranges import Count, Index
from invertkit.core.recording.phase import Phase
from invertkit.errors import RecipeError
from invertkit.optimizers.base import Landscape, Optimizer, chosen
from invertkit.optimizers.population.search import LARGEST, Outer, _sane, flat


@dataclass
class _Basin:
    """Where a composed search stands; `searched` and `fresh` are names of tensors."""

    searched: tuple[str, ...]
    fresh: tuple[str, ...]
    search: Any = None
    generation: int = 0
    drawn: Tensor | None = None
    candidates: Params = field(default_factory=dict)
    record: Tensor | None = None
    inner: Any = None


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
    """

    outer: Optimizer
    inner: Optimizer
    inner_steps: Index = 30
    last_steps: Index = 0
    told: Literal["refined", "sampled"] = "refined"
    result: Literal["best", "mean"] = "best"

    def __post_init__(self) -> None:
        if not isinstance(self.outer, Outer):
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
    def _outer(self) -> Outer:
        assert isinstance(self.outer, Outer)  # noqa: S101 # by __post_init__
        return self.outer

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
        each, free = max(1, self.inner_steps), steps - self.last_steps
        if free >= 0 and free % each == 0:
            return steps
        return max(1, round(free / each)) * each + self.last_steps

    def _place(self, step: int, total: int) -> tuple[bool, int, int]:
        """Whether a step is one of the last, which step of its descent, and of how many."""
        last = step >= total - self.last_steps
        each = self.last_steps if last else max(1, self.inner_steps)
        return last, step - (total - self.last_steps) if last else step % each, each

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
        last, inside, each = self._place(step, total)
        descent = self.inner.phase(step=inside, total=each)
        draws, judges = inside == 0, inside + 1 == each
        replayable = descent.replayable and not (draws or judges)
        return Phase((last, draws, judges, descent.key), replayable)

    def schedule(self, state: _Basin, *, step: int, total: int) -> None:
        _, inside, each = self._place(step, total)
        if state.inner is not None:
            self.inner.schedule(state.inner, step=inside, total=each)

    def check(self, steps: int) -> None:
        """Generations and last steps must fill the stage."""
        if self._fitting(steps) != steps:
            raise RecipeError(
                f"optimizer: {steps} steps of this stage are not {self.last_steps} last steps and "
                f"whole generations of {max(1, self.inner_steps)}; take {self._fitting(steps)}."
            )

    def trial(self) -> BasinCMA:
        """One step inside a generation, one at the end."""
        each, last = min(1, self.inner_steps), min(1, self.last_steps)
        return replace(self, inner_steps=each, last_steps=last)

    def init(self, params: Params) -> _Basin:
        names = tuple(params)
        searched = chosen(self._outer.over, names)
        count = sum(params[name][0].numel() for name in searched)
        if not count:
            raise RecipeError("over: there are no numbers to search; this variable's is empty.")
        if count > LARGEST:
            raise RecipeError(
                f"over: a population search of {', '.join(searched)} would search "
                f"{count:,} numbers at once, and no more than {LARGEST:,} can be; name a latent "
                "in `over`, or use `adam`."
            )
        inner = self.inner.moves(names) if self.inner_steps else ()
        fresh = tuple(name for name in names if name in inner and name not in searched)
        for param in params.values():
            param.requires_grad_(False)
        return _Basin(searched, fresh)

    def step(
        self, landscape: Landscape, params: Params, state: _Basin, *, step: int, total: int
    ) -> Float[Tensor, " b"]:
        last, inside, each = self._place(step, total)
        images = len(landscape.randomness.seeds)
        if inside == 0:
            self._populate(landscape, state)
        here = landscape.at(state.candidates)
        if not last and self.inner_steps == 0:
            here.confine()
            losses = self._judge(here, params, state, images, tell=True)
        else:
            losses = self.inner.step(here, state.candidates, state.inner, step=inside, total=each)
            if inside + 1 == each:
                self.inner.finish(state.candidates, state.inner)
            here.confine()
            if inside + 1 == each:
                self._judge(here, params, state, images, tell=not last)
        return _sane(losses).reshape(images, -1).amin(1)

    def _populate(self, landscape: Landscape, state: _Basin) -> None:
        """Draw candidates; what descends but is not searched begins afresh."""
        outer = self._outer
        if state.search is None:
            state.search = outer.begin(landscape, state.searched)
        state.drawn = drawn = outer.draw(state.search, landscape, state.generation)
        count = drawn.shape[1]
        starts = landscape.fresh(count, f"generation{state.generation}") if state.fresh else {}
        begun, offset = bool(state.candidates), 0
        for name, point in landscape.points.items():
            if name in state.searched:
                size = point[0].numel()
                rows = drawn[..., offset : offset + size].reshape(-1, *point.shape[1:])
                offset += size
            elif name in state.fresh:
                rows = starts[name]
            elif begun:
                continue  # it is where it was
            else:
                rows = point.detach().repeat_interleave(count, 0)
            if begun:  # the same tensors, which recordings know
                with torch.no_grad():
                    state.candidates[name].copy_(rows)
            else:
                state.candidates[name] = rows.to(point, copy=True)
        landscape.at(state.candidates).confine()
        if not self._descends:
            return
        if state.inner is None:
            state.inner = self.inner.init(state.candidates)
        else:
            state.inner = self.inner.restart(state.candidates, state.inner)

    def _judge(
        self, here: Landscape, params: Params, state: _Basin, images: int, *, tell: bool
    ) -> Tensor:
        """Losses of the candidates as they are; the search is told, the best one handed on."""
        losses = here.losses()
        table = losses.reshape(images, -1)
        rows = _sane(table).argmin(1)
        rows = rows + torch.arange(images, device=rows.device) * table.shape[1]
        lowest = _sane(losses[rows])
        record = torch.full_like(lowest, torch.inf) if state.record is None else state.record
        better = lowest < record
        state.record = torch.where(better, lowest, record)
        with torch.no_grad():
            for name, param in params.items():
                candidates = state.candidates[name]
                keep = better.reshape(-1, *[1] * (param.ndim - 1))
                param.copy_(torch.where(keep, candidates[rows].to(param), param))
        if tell and state.drawn is not None:
            points, refined = state.drawn, self.told == "refined" and self.inner_steps > 0
            if refined:
                points = flat(state.candidates, state.searched, images * table.shape[1])
                points = points.reshape(images, table.shape[1], -1)
            self._outer.tell(state.search, points, table, injected=refined)
            state.generation += 1
        return losses

    def finish(self, params: Params, state: _Basin) -> None:
        if self.result == "mean" and state.search is not None:
            centre, offset = self._outer.centre(state.search), 0
            with torch.no_grad():
                for name in state.searched:
                    param = params[name]
                    size = param[0].numel()
                    param.copy_(centre[:, offset : offset + size].reshape(param.shape))
                    offset += size

    def save(self, state: _Basin) -> dict[str, Any]:
        return {
            "generation": state.generation,
            "search": None if state.search is None else self._outer.save_search(state.search),
            "record": None if state.record is None else state.record.clone(),
            "drawn": None if state.drawn is None else state.drawn.clone(),
            "candidates": {
                name: candidate.detach().clone() for name, candidate in state.candidates.items()
            },
            "inner": None if state.inner is None else self.inner.save(state.inner),
        }

    def load(self, params: Params, saved: dict[str, Any]) -> _Basin:
        state, device = self.init(params), next(iter(params.values())).device
        state.generation = saved["generation"]
        if saved["search"] is not None:
            state.search = self._outer.load_search(saved["search"], device)
        if saved["record"] is not None:
            state.record = saved["record"].to(device)
        if saved["drawn"] is not None:
            state.drawn = saved["drawn"].to(device)
        state.candidates = {
            name: candidate.to(device).clone() for name, candidate in saved["candidates"].items()
        }
        if saved["inner"] is not None:
            state.inner = self.inner.load(state.candidates, saved["inner"])
        return state


def cma_adam(
    *,
    outer: Optimizer,
    inner: Optimizer,
    last_steps: Count = 300,
) -> BasinCMA:
    """A population search, then a descent from a last population: CMA + Adam.

    Args:
        outer: Draws the population; each step but the last ones is a generation.
        inner: Descends.
        last_steps: Steps of the descent.

    Source: the baseline of Huh et al. 2020, Table 1 (200 generations and 300 steps in the code).
    """
    return BasinCMA(outer=outer, inner=inner, inner_steps=0, last_steps=last_steps)
