"""CMA-ES over a variable's tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.ranges import Positive
from invertkit.optimizers.base import Landscape
from invertkit.optimizers.population.cma import CMA, CMAState, Population
from invertkit.optimizers.population.pycma import PyCMA, PyCMAState
from invertkit.optimizers.population.search import PopulationSearch, flat


@final
@dataclass(frozen=True)
class CmaEs(PopulationSearch):
    """CMA-ES, an independent population for each image; no gradients.

    Args:
        over: Names of the tensors to search; all by default.
        sigma: Standard deviation of the first generation.
        population: Candidates a generation; `4 + floor(3 ln d)` by default.
        mean: Middle of the first generation: `start`, where the variable begins but for its
            noise; `here`, where the stage before has arrived; `zero`.
        library: `torch`, all populations of a batch at once, or `pycma`, one after the other.
        active: Learn from the worst candidates too.
        clip_injected: Cut the steps to points that it did not draw, as refined ones are, at the
            Mahalanobis length √d + 2d/(d+2), as pycma does.

    Source: Hansen 2016 (arXiv:1604.00772); pycma.

    Example:
        >>> search = CmaEs(over=("z",), sigma=0.5)
        >>> search.searched({"z": torch.zeros(2, 128), "c": torch.zeros(2, 1000)})
        ('z',)
    """

    over: tuple[str, ...] = ()
    sigma: Positive = 1.0
    population: Population | None = None
    mean: Literal["start", "here", "zero"] = "here"
    library: Literal["torch", "pycma"] = "torch"
    active: bool = True
    clip_injected: bool = True

    def _rule(self) -> CMA | PyCMA:
        """The numbers behind it, which the two libraries share."""
        kind = CMA if self.library == "torch" else PyCMA
        return kind(
            population=self.population, active=self.active, clip_injected=self.clip_injected
        )

    def begin(self, landscape: Landscape, names: Sequence[str]) -> Any:
        points = landscape.centre() if self.mean == "start" else landscape.points
        mean = flat(points, names).double()
        if self.mean == "zero":
            mean = torch.zeros_like(mean)
        return self._rule().start(mean, self.sigma)

    def draw(
        self, search: Any, landscape: Landscape, generation: int
    ) -> Float[Tensor, "images k d"]:
        rule, size = self._rule(), self.centre(search).shape[-1]
        shape = (rule.size(size), size)
        draws = landscape.randomness.normal("population", shape, step=landscape.step)
        # Drawn in float32 as everything else of a run, then reckoned with in float64.
        points: Tensor = rule.ask(search, draws.double())
        return points

    def tell(
        self, search: Any, points: Tensor, losses: Float[Tensor, "images k"], *, injected: bool
    ) -> None:
        which = torch.full(losses.shape, injected)
        self._rule().tell(search, points.double(), losses.double(), injected=which)

    def centre(self, search: Any) -> Float[Tensor, "images d"]:
        mean: Tensor = search.mean
        return mean

    def save_search(self, search: Any) -> dict[str, Any]:
        saved: dict[str, Any] = search.save()
        return saved

    def load_search(self, saved: dict[str, Any], device: torch.device) -> Any:
        if self.library == "pycma":
            return PyCMAState.load(saved)
        return CMAState.load(saved, device=device)
