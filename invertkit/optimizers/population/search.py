"""The outer search of a population: one CMA for each image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.params import Params
from invertkit.optimizers.base import Landscape, Optimizer, chosen
from invertkit.optimizers.torch_optim import Adam

if TYPE_CHECKING:
    from invertkit.optimizers.population.basin import BasinCMA

LARGEST = 4096
"""How many numbers of an image are searched at most: the covariance holds their square."""


class Outer(Optimizer):
    """A search that draws a population for each image and is told what became of it.

    Alone, a step is a generation: draw, evaluate, tell. Composed with an inner optimizer, the
    population descends between the drawing and the telling.
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
        self, search: Any, points: Tensor, losses: Float[Tensor, "images k"], *, injected: bool
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

    @property
    def obstacle(self) -> str:
        """That it has no steps between the drawing and the telling."""
        return f"{type(self).__name__} draws and judges a generation at every step"

    @property
    def searches(self) -> bool:
        return True

    def follows(self, names: Sequence[str]) -> tuple[str, ...]:
        return ()

    # ------------------------------------------------------------------ alone

    def _alone(self) -> BasinCMA:
        from invertkit.optimizers.population.basin import BasinCMA

        return BasinCMA(outer=self, inner=Adam(), inner_steps=0, last_steps=0)

    def moves(self, names: Sequence[str]) -> tuple[str, ...]:
        return chosen(self.over, names)

    def init(self, params: Params) -> Any:
        return self._alone().init(params)

    def step(
        self, landscape: Landscape, params: Params, state: Any, *, step: int, total: int
    ) -> Float[Tensor, " b"]:
        return self._alone().step(landscape, params, state, step=step, total=total)

    def save(self, state: Any) -> dict[str, Any]:
        return self._alone().save(state)

    def load(self, params: Params, saved: dict[str, Any]) -> Any:
        return self._alone().load(params, saved)

    def finish(self, params: Params, state: Any) -> None:
        self._alone().finish(params, state)


def _sane(losses: Tensor) -> Tensor:
    """The losses, infinite where they are not numbers, or lower than any number."""
    return losses.nan_to_num(torch.inf, torch.inf, torch.inf)


def flat(points: Params, names: Sequence[str], rows: int) -> Float[Tensor, "rows d"]:
    """The tensors so named as one row an image."""
    return torch.cat([points[name].detach().reshape(rows, -1) for name in names], 1)
