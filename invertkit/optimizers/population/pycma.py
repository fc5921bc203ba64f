"""The package `cma` behind the same questions and answers as `CMA`; slower, and a check.

`cma` is imported when the first population starts, which takes seconds.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from invertkit.core.ranges import Positive
from invertkit.errors import ShapeError
from invertkit.optimizers.population.cma import CMA, Population, check_told, ranking


@final
@dataclass(frozen=True)
class PyCMA:
    """Hansen's own implementation, as plain CMA-ES with its default constants.

    What it is given and what it answers are those of `CMA`, and so are the numbers, up to
    rounding: its normal numbers are turned into the axes of its covariance, which makes its
    factor the symmetric root; it is told ranks; and the spread of 1e-4 that its first covariance
    has is taken out. Mirrored samples are off, and it does not rescale coordinates when its
    covariance is ill-conditioned.

    Args:
        population: Points a generation; by default 4 + ⌊3 ln d⌋.
        sigma: Standard deviation of the first points, along every axis.
        active: Whether the worse half repels (negative weights).
        clip_injected: Cut the steps to injected points at the Mahalanobis length √d + 2d/(d+2).

    Source: https://github.com/CMA-ES/pycma.

    Example:
        >>> PyCMA().size(10)
        10
    """

    population: Population | None = None
    sigma: Positive = 0.3
    active: bool = True
    clip_injected: bool = False

    def size(self, dimension: int) -> int:
        """Points a generation in so many dimensions."""
        return CMA(self.population).size(dimension)

    def start(
        self, mean: Float[Tensor, "b d"], sigma: float | Float[Tensor, " b"] | None = None
    ) -> PyCMAState:
        """Round populations about `mean`; they live on the CPU.

        Args:
            mean: Centres.
            sigma: Step size, of all or one a population; by default that of the record.
        """
        centres = mean.detach().to("cpu", torch.float64, copy=True)
        wanted = torch.as_tensor(self.sigma if sigma is None else sigma, dtype=torch.float64)
        sigmas = wanted.detach().to(centres).expand(len(centres)).clone()
        state = PyCMAState(rule=self, start_mean=centres, start_sigma=sigmas)
        for centre, width in zip(centres, sigmas.tolist(), strict=True):
            normals = _Normals()
            strategy = _strategy(
                centre.numpy(), width, self.size(len(centre)), normals, active=self.active
            )
            normals.strategy = strategy
            state.strategies.append(strategy)
            state.sources.append(normals)
        return state

    def ask(self, state: PyCMAState, normals: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Points to be tried, on the device of `normals`.

        Args:
            state: Where the populations are; it remembers the question.
            normals: Standard normal numbers, `size(d)` rows a population.

        Raises:
            ShapeError: There are not `size(d)` rows of `d` numbers for each population.
        """
        count, dimension = state.start_mean.shape
        asked = (count, self.size(dimension), dimension)
        if normals.shape != asked:
            raise ShapeError(
                f"expected standard normal numbers of shape {asked}, got {tuple(normals.shape)}."
            )
        numbers = normals.detach().to("cpu", torch.float64, copy=True)
        state.history.append({"normals": numbers})
        points = []
        for strategy, source, rows in zip(
            state.strategies, state.sources, numbers.numpy(), strict=True
        ):
            source.rows = rows
            points.append(np.stack(strategy.ask()))
        return torch.from_numpy(np.stack(points)).to(normals.device)

    def tell(
        self,
        state: PyCMAState,
        points: Float[Tensor, "b n d"],
        losses: Float[Tensor, "b n"],
        *,
        injected: Bool[Tensor, "b n"] | None = None,
    ) -> None:
        """Move the populations towards their better points, in place; once after each `ask`.

        Args:
            state: Where they are.
            points: As many as were asked for, in any order; those, or others. A point that is
                not finite ranks last and stands for the mean.
            losses: Of the points. NaN and infinity rank last; equal ones keep their order.
            injected: Which points were not drawn from the population; all by default. Counts
                only with `clip_injected`.

        Raises:
            ShapeError: The points or losses are not one population of `size(d)` points each.
            RuntimeError: Nothing was asked since the last time.
        """
        if not state.history or "points" in state.history[-1]:
            raise RuntimeError("`tell` comes once after each `ask`.")
        count, dimension = state.start_mean.shape
        told = (count, self.size(dimension))
        check_told(points, losses, (*told, dimension))
        clip = torch.full(told, self.clip_injected)
        if injected is not None:
            clip = clip & injected.cpu()
        points = points.detach().to("cpu", torch.float64, copy=True)
        losses = losses.detach().to("cpu", torch.float64, copy=True)
        state.history[-1] |= {"points": points, "losses": losses, "injected": clip}
        for strategy, rows, values, cut in zip(
            state.strategies, points, losses, clip.tolist(), strict=True
        ):
            # Ranks instead of losses: of losses that are not finite, `cma` makes what it likes.
            sane = rows.isfinite().all(-1)
            ranks = ranking(torch.where(sane, values, torch.inf)).argsort()
            places = torch.where(sane[:, None], rows, torch.from_numpy(strategy.mean)).numpy()
            solutions = [
                strategy.repair_genotype(place, copy_if_changed=True) if cut_it else place.copy()
                for place, cut_it in zip(places, cut, strict=True)
            ]
            strategy.tell(solutions, ranks.double().tolist(), check_points=False)


@dataclass
class PyCMAState:
    """Populations of `cma`, and all that was said, for they cannot be written down as tensors.

    Attributes:
        rule: Who started them.
        start_mean: Their first centres.
        start_sigma: Their first step sizes.
        history: Of each generation, the normal numbers and what was told.
        strategies: One `cma.CMAEvolutionStrategy` a population.
        sources: Where they get their normal numbers from.
    """

    rule: PyCMA
    start_mean: Float[Tensor, "b d"]
    start_sigma: Float[Tensor, " b"]
    history: list[dict[str, Tensor]] = field(default_factory=list)
    strategies: list[Any] = field(default_factory=list)
    sources: list[_Normals] = field(default_factory=list)

    @property
    def generation(self) -> int:
        """How often `tell` was called."""
        return sum("points" in generation for generation in self.history)

    @property
    def mean(self) -> Float[Tensor, "b d"]:
        """Centres of the populations."""
        return torch.tensor(np.stack([one.mean for one in self.strategies]))

    @property
    def sigma(self) -> Float[Tensor, " b"]:
        """The step size of every population."""
        return torch.tensor([float(one.sigma) for one in self.strategies], dtype=torch.float64)

    @property
    def C(self) -> Float[Tensor, "b d d"]:  # noqa: N802
        """Covariances of the steps, without `sigma`."""
        return torch.tensor(np.stack([one.sm.C for one in self.strategies]))

    def save(self) -> dict[str, Any]:
        """The start and all that was said since, as tensors and numbers; it grows."""
        return {
            "rule": asdict(self.rule) | {"population": self.rule.size(self.start_mean.shape[1])},
            "start_mean": self.start_mean,
            "start_sigma": self.start_sigma,
            "history": [dict(generation) for generation in self.history],
        }

    @classmethod
    def load(cls, saved: dict[str, Any]) -> PyCMAState:
        """The state that `save` saw, by saying all of it again; equal to the last bit."""
        rule = PyCMA(**saved["rule"])
        state = rule.start(saved["start_mean"], saved["start_sigma"])
        for told in saved["history"]:
            rule.ask(state, told["normals"])
            if "points" in told:
                rule.tell(state, told["points"], told["losses"], injected=told["injected"])
        return state


class _Normals:
    """Stands where `cma` expects `numpy.random.randn`: gives the rows laid ready.

    `cma` multiplies them by its eigenvectors B and lengths D; given zB instead of z, its steps
    are those of the symmetric root, B D Bᵀ z.
    """

    def __init__(self) -> None:
        self.rows: np.ndarray[Any, Any] = np.zeros((0, 0))
        self.strategy: Any = None

    def __call__(self, count: int, dimension: int) -> np.ndarray[Any, Any]:
        given: np.ndarray[Any, Any] = self.rows @ self.strategy.sm.B
        return given


def _strategy(
    mean: np.ndarray[Any, Any], sigma: float, population: int, randn: _Normals, *, active: bool
) -> Any:
    """A quiet strategy that reads no generator and stays plain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses matplotlib, and adds filters of its own
        import cma
        from cma.sigma_adaptation import CMAAdaptSigmaCSA

        dimension = len(mean)
        spread = np.exp(-0.5e-4 / dimension * np.arange(dimension))
        options = {
            "AdaptSigma": CMAAdaptSigmaCSA,
            "CMA_active": active,
            "CMA_mirrors": 0,
            "CMA_teststds": spread,
            "conditioncov_alleviate": False,
            "popsize": population,
            "randn": randn,
            "seed": float("nan"),
            "verbose": -9,
        }
        return cma.CMAEvolutionStrategy(mean.copy(), sigma, options)
