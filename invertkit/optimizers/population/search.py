"""A search with a population for each image: drawn, judged, and told what became of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.params import Params, count_rows
from invertkit.errors import RecipeError
from invertkit.optimizers.base import Landscape, Optimizer, chosen

LARGEST: Final = 4096
"""How many numbers of an image are searched at most: the covariance holds their square."""


@dataclass
class SearchState:
    """Where a population search stands.

    Attributes:
        searched: Names of the tensors it searches.
        search: What `begin` made; None before the first population.
        generation: How many populations the search has been told of.
        drawn: The last population as it was drawn.
        candidates: The tensors of that population, `(images·k, …)`, wherever they are by now.
        record: Lowest loss of each image so far; None before any was judged.
    """

    searched: tuple[str, ...]
    search: Any = None
    generation: int = 0
    drawn: Float[Tensor, "images k d"] | None = None
    candidates: Params = field(default_factory=dict)
    record: Float[Tensor, " images"] | None = None


class PopulationSearch(Optimizer):
    """A search that draws a population for each image and is told what became of it.

    A subclass says how: `begin`, `draw`, `tell`, `centre`, and how its own state is saved. Alone,
    a step is a generation: populate, judge, learn. An optimizer around it may move the candidates
    between these three, as `BasinCMA` does.
    """

    @property
    @abstractmethod
    def over(self) -> tuple[str, ...]:
        """Names of the tensors it searches; all if empty."""

    @abstractmethod
    def begin(self, landscape: Landscape, names: Sequence[str]) -> Any:
        """State of a search of the tensors so named, which starts at the landscape."""

    @abstractmethod
    def draw(
        self, search: Any, landscape: Landscape, generation: int
    ) -> Float[Tensor, "images k d"]:
        """The candidates of a generation."""

    @abstractmethod
    def tell(
        self,
        search: Any,
        points: Float[Tensor, "images k d"],
        losses: Float[Tensor, "images k"],
        *,
        injected: bool,
    ) -> None:
        """What became of the candidates; `injected` where they are not where they were drawn."""

    @abstractmethod
    def centre(self, search: Any) -> Float[Tensor, "images d"]:
        """Where the search thinks the optimum is."""

    @abstractmethod
    def save_search(self, search: Any) -> dict[str, Any]:
        """The state of the search as tensors, numbers, lists and dicts."""

    @abstractmethod
    def load_search(self, saved: dict[str, Any], device: torch.device) -> Any:
        """The state that `save_search` saw."""

    # ------------------------------------------------------------------ pieces of a generation

    def searched(self, params: Params) -> tuple[str, ...]:
        """Names of the tensors that it will search.

        Raises:
            RecipeError: There is none of a name, there are no numbers, or there are too many.
        """
        names = chosen(self.over, tuple(params))
        count = sum(params[name][0].numel() for name in names)
        if not count:
            raise RecipeError("over: there are no numbers to search; this variable's is empty.")
        if count > LARGEST:
            raise RecipeError(
                f"over: a population search of {', '.join(names)} would search {count:,} numbers "
                f"at once, and no more than {LARGEST:,} can be; name a latent in `over`, or use "
                "`adam`."
            )
        return names

    def populate(
        self, landscape: Landscape, state: SearchState, *, afresh: Sequence[str] = ()
    ) -> None:
        """Draw candidates, and confine them.

        Args:
            landscape: Seen from where the run stands.
            state: Where the search stands; its candidates change in place, once there are some.
            afresh: Tensors that are not searched, but begin anew with every population. All
                others are those of the run at the first, and later where they were left.
        """
        if state.search is None:
            state.search = self.begin(landscape, state.searched)
        state.drawn = self.draw(state.search, landscape, state.generation)
        count = state.drawn.shape[1]
        rows = unflat(state.drawn, landscape.points, state.searched)
        if afresh:
            starts = landscape.fresh(count, f"generation{state.generation}")
            rows |= {name: starts[name] for name in afresh}
        if state.candidates:  # filled, not replaced: recordings know these tensors
            with torch.no_grad():
                for name, row in rows.items():
                    state.candidates[name].copy_(row)
        else:
            for name, point in landscape.points.items():
                row = rows[name] if name in rows else point.detach().repeat_interleave(count, 0)
                state.candidates[name] = row.to(point, copy=True)
        landscape.at(state.candidates).confine()

    def judge(
        self, landscape: Landscape, params: Params, state: SearchState
    ) -> Float[Tensor, "images k"]:
        """Losses of the candidates as they are; `params` move to the best one ever judged.

        Args:
            landscape: Seen from the candidates.
            params: Tensors of the run.
            state: Where the search stands.
        """
        losses = landscape.losses()
        table = losses.reshape(landscape.images, -1)
        # Without reading a loss back: which candidate is the best stays on the device.
        rows = comparable(table).argmin(1)
        rows = rows + torch.arange(len(rows), device=rows.device) * table.shape[1]
        lowest = comparable(losses[rows])
        record = torch.full_like(lowest, torch.inf) if state.record is None else state.record
        better = lowest < record
        state.record = torch.where(better, lowest, record)
        with torch.no_grad():
            for name, param in params.items():
                best = state.candidates[name][rows].to(param)
                move = better.reshape(-1, *[1] * (param.ndim - 1))
                param.copy_(torch.where(move, best, param))
        return table

    def learn(
        self, state: SearchState, losses: Float[Tensor, "images k"], *, refined: bool
    ) -> None:
        """Tell the search of the population that was judged.

        Args:
            state: Where the search stands.
            losses: Of the candidates.
            refined: Tell of where they are now instead of where they were drawn.
        """
        points = state.drawn
        assert points is not None  # noqa: S101 # by `populate`
        if refined:
            rows = flat(state.candidates, state.searched)
            points = rows.reshape(*losses.shape, -1)
        self.tell(state.search, points, losses, injected=refined)
        state.generation += 1

    def hand_on_centre(self, params: Params, state: SearchState) -> None:
        """Move the tensors that are searched to where the search thinks the optimum is."""
        if state.search is None:
            return
        centre = unflat(self.centre(state.search)[:, None], params, state.searched)
        with torch.no_grad():
            for name, value in centre.items():
                params[name].copy_(value)

    # ------------------------------------------------------------------ alone

    @property
    def obstacle(self) -> str:
        """That it has no steps between the drawing and the telling."""
        return f"{type(self).__name__} draws and judges a generation at every step"

    @property
    def searches(self) -> bool:
        return True

    def moves(self, names: Sequence[str]) -> tuple[str, ...]:
        return chosen(self.over, names)

    def follows(self, names: Sequence[str]) -> tuple[str, ...]:
        return ()

    def init(self, params: Params) -> SearchState:
        state = SearchState(self.searched(params))
        for param in params.values():
            param.requires_grad_(False)
        return state

    def step(
        self, landscape: Landscape, params: Params, state: SearchState, *, step: int, total: int
    ) -> Float[Tensor, " b"]:
        self.populate(landscape, state)
        losses = self.judge(landscape.at(state.candidates), params, state)
        self.learn(state, losses, refined=False)
        return comparable(losses).amin(1)

    def save(self, state: SearchState) -> dict[str, Any]:
        return {
            "generation": state.generation,
            "search": None if state.search is None else self.save_search(state.search),
            "record": None if state.record is None else state.record.clone(),
            "drawn": None if state.drawn is None else state.drawn.clone(),
            "candidates": {
                name: candidate.detach().clone() for name, candidate in state.candidates.items()
            },
        }

    def load(self, params: Params, saved: dict[str, Any]) -> SearchState:
        state = self.init(params)
        self.take_up(state, saved, next(iter(params.values())).device)
        return state

    def take_up(self, state: SearchState, saved: dict[str, Any], device: torch.device) -> None:
        """Bring a fresh state to where `save` saw one."""
        state.generation = saved["generation"]
        if saved["search"] is not None:
            state.search = self.load_search(saved["search"], device)
        if saved["record"] is not None:
            state.record = saved["record"].to(device)
        if saved["drawn"] is not None:
            state.drawn = saved["drawn"].to(device)
        state.candidates = {
            name: candidate.to(device).clone() for name, candidate in saved["candidates"].items()
        }


def comparable(losses: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The losses, infinite where they are not numbers, or lower than any number.

    Example:
        >>> comparable(torch.tensor([torch.nan, -torch.inf, 1.0])).tolist()
        [inf, inf, 1.0]
    """
    return losses.nan_to_num(torch.inf, torch.inf, torch.inf)


def flat(points: Params, names: Sequence[str]) -> Float[Tensor, "rows d"]:
    """The tensors so named as one row of numbers each image or candidate.

    Example:
        >>> flat({"z": torch.zeros(2, 3), "c": torch.zeros(2, 1, 2)}, ("z", "c")).shape
        torch.Size([2, 5])
    """
    rows = count_rows(points)
    return torch.cat([points[name].detach().reshape(rows, -1) for name in names], 1)


def unflat(
    rows: Float[Tensor, "images k d"], points: Params, names: Sequence[str]
) -> dict[str, Tensor]:
    """The inverse of `flat`: tensors `(images·k, …)`, of the shapes that `points` have.

    Example:
        >>> points = {"z": torch.zeros(2, 3), "c": torch.zeros(2, 1, 2)}
        >>> parts = unflat(torch.zeros(2, 4, 5), points, ("z", "c"))
        >>> parts["z"].shape, parts["c"].shape
        (torch.Size([8, 3]), torch.Size([8, 1, 2]))
    """
    parts, offset = {}, 0
    for name in names:
        size = points[name][0].numel()
        part = rows[..., offset : offset + size]
        parts[name] = part.reshape(-1, *points[name].shape[1:])
        offset += size
    return parts
