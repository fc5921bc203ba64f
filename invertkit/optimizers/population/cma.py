"""CMA-ES: populations that learn the shape of the landscape from the order of their losses.

Numbers in, numbers out: a population asks for points, is told their losses, and moves. Nothing
here draws a random number; the caller gives standard normal ones, so a run can be resumed and
repeated. The batch holds one population an image, and all of them move at once; the numbers of
one do not depend on its neighbours, to the last bit.

Sources: Hansen 2016, "The CMA evolution strategy: a tutorial" (arXiv:1604.00772), whose equation
numbers are given below; Hansen 2011, "Injecting external solutions into CMA-ES"
(arXiv:1110.4181). Where the tutorial and pycma 4.5 differ, the numbers are pycma's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, final

import torch
from annotated_types import Ge
from jaxtyping import Bool, Float, Int
from torch import Tensor

from invertkit.core.ranges import Positive
from invertkit.errors import ShapeError
from invertkit.optimizers.population.constants import Constants, constants

Population = Annotated[int, Ge(3)]

_CONDITION = 1e14  # largest quotient of two eigenvalues of a covariance
_SIGMA = (1e-100, 1e100)  # where the step size stays, that no quotient be 0/0
_TINY = 1e-9  # added to a length before dividing by it, as pycma does


@dataclass
class CMAState:
    """Where `b` populations are in `d` dimensions; float64. Changed in place by `CMA.tell`.

    Attributes:
        mean: Centres of the populations.
        sigma: Step sizes.
        C: Covariances of the steps, without `sigma`.
        axes: Their eigenvectors, in columns; of an earlier `C`, up to `Constants.gap` old.
        lengths: Roots of their eigenvalues, ascending.
        p_c: Paths of the covariances.
        p_sigma: Paths of the step sizes.
        generation: How often `tell` was called.
        eigen_age: Generations since the eigendecomposition.
    """

    mean: Float[Tensor, "b d"]
    sigma: Float[Tensor, " b"]
    C: Float[Tensor, "b d d"]
    axes: Float[Tensor, "b d d"]
    lengths: Float[Tensor, "b d"]
    p_c: Float[Tensor, "b d"]
    p_sigma: Float[Tensor, "b d"]
    generation: int = 0
    eigen_age: int = 0

    def save(self) -> dict[str, Any]:
        """The state as tensors and numbers, sharing no memory with it."""
        return {
            name: value.detach().clone() if isinstance(value, Tensor) else value
            for name, value in vars(self).items()
        }

    @classmethod
    def load(cls, saved: dict[str, Any], *, device: torch.device | str | None = None) -> CMAState:
        """The state that `save` saw.

        Args:
            saved: What it gave.
            device: Where it shall be; by default where it was.
        """
        values: dict[str, Any] = {
            name: value.to(device or value.device, copy=True)
            if isinstance(value, Tensor)
            else value
            for name, value in saved.items()
        }
        return cls(**values)


@final
@dataclass(frozen=True)
class CMA:
    """CMA-ES with rank-one, rank-μ and active updates and cumulative step-size adaptation.

    Only the order of the losses counts. Points are the mean plus the symmetric root of the
    covariance times the given normal numbers, so rotating the start, the numbers and the
    landscape rotates the trajectory, and no sign of an eigenvector matters.

    Args:
        population: Points a generation; by default 4 + ⌊3 ln d⌋, eq. 48.
        sigma: Standard deviation of the first points, along every axis.
        active: Whether the worse half repels (negative weights).
        clip_injected: Cut the steps to injected points at the Mahalanobis length √d + 2d/(d+2).
            For points that were improved after they were asked for, which may lie far outside
            the population.

    Source: Hansen 2016 (arXiv:1604.00772); injection: Hansen 2011 (arXiv:1110.4181).

    Example:
        >>> rule, draws = CMA(), torch.Generator().manual_seed(0)
        >>> state = rule.start(torch.ones(2, 3))  # two populations in three dimensions
        >>> for generation in range(60):
        ...     points = rule.ask(state, torch.randn(2, rule.size(3), 3, generator=draws))
        ...     rule.tell(state, points, points.square().sum(-1))
        >>> bool((state.mean.abs() < 1e-3).all())
        True
    """

    population: Population | None = None
    sigma: Positive = 0.3
    active: bool = True
    clip_injected: bool = False

    def size(self, dimension: int) -> int:
        """Points a generation in so many dimensions.

        Example:
            >>> [CMA().size(dimension) for dimension in (1, 2, 10, 128)]
            [4, 6, 10, 18]
        """
        return self.population or 4 + math.floor(3 * math.log(dimension))

    def start(
        self, mean: Float[Tensor, "b d"], sigma: float | Float[Tensor, " b"] | None = None
    ) -> CMAState:
        """Round populations about `mean`, on its device.

        Args:
            mean: Centres; copied as float64.
            sigma: Step size, of all or one a population; by default that of the record.
        """
        mean = mean.detach().to(torch.float64, copy=True)
        count, dimension = mean.shape
        wanted = torch.as_tensor(self.sigma if sigma is None else sigma, dtype=torch.float64)
        eye = torch.eye(dimension, dtype=mean.dtype, device=mean.device).expand(count, -1, -1)
        return CMAState(
            mean=mean,
            sigma=wanted.detach().to(mean).expand(count).clone(),
            C=eye.clone(),
            axes=eye.clone(),
            lengths=torch.ones_like(mean),
            p_c=torch.zeros_like(mean),
            p_sigma=torch.zeros_like(mean),
        )

    @torch.no_grad()
    def ask(self, state: CMAState, normals: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Points to be tried; the state stays as it is.

        Args:
            state: Where the populations are.
            normals: Standard normal numbers, one row a point. Any `n` will do, but `tell` wants
                `size(d)` points.

        Raises:
            ShapeError: There is not one set of rows of `d` numbers a population.
        """
        count, dimension = state.mean.shape
        if normals.ndim != 3 or (normals.shape[0], normals.shape[2]) != (count, dimension):
            raise ShapeError(
                f"expected standard normal numbers of shape ({count}, n, {dimension}), got "
                f"{tuple(normals.shape)}: one row a point, for each of the populations."
            )
        normals = normals.to(state.mean)
        steps = _products(normals, state.axes) * state.lengths[:, None]  # eqs. 38, 39
        steps = _products(steps, state.axes.mT)
        return state.mean[:, None] + state.sigma[:, None, None] * steps  # eq. 40

    @torch.no_grad()
    def tell(
        self,
        state: CMAState,
        points: Float[Tensor, "b n d"],
        losses: Float[Tensor, "b n"],
        *,
        injected: Bool[Tensor, "b n"] | None = None,
    ) -> None:
        """Move the populations towards their better points, in place.

        Args:
            state: Where they are.
            points: `size(d)` a population, in any order; those asked for, or others. A point that
                is not finite ranks last and stands for the mean.
            losses: Of the points. NaN and infinity rank last; equal ones keep their order.
            injected: Which points were not drawn from the population; all by default. Counts
                only with `clip_injected`.

        Raises:
            ShapeError: The points or losses are not one population of `size(d)` points each.
        """
        count, dimension = state.mean.shape
        told = (count, self.size(dimension))
        check_told(points, losses, (*told, dimension))
        clip = torch.full(told, self.clip_injected)
        if injected is not None:
            clip = clip & injected.cpu()
        numbers = constants(dimension, told[1], active=self.active)
        points, losses = points.detach().to(state.mean), losses.detach().to(state.mean)
        sane = points.isfinite().all(-1)
        steps = (points - state.mean[:, None]) / state.sigma[:, None, None]
        steps = torch.where(sane[..., None], steps, 0.0)
        if bool(clip.any()):  # it lies on the CPU: nothing waits for this answer
            cut = _cut(steps, state, numbers.longest)
            steps = torch.where(clip.to(sane.device)[..., None], cut, steps)
        order = ranking(torch.where(sane, losses, torch.inf))
        _move(state, steps.take_along_dim(order[..., None], 1), numbers)
        if state.eigen_age >= numbers.gap:
            _decompose(state)


def ranking(losses: Float[Tensor, "*b n"]) -> Int[Tensor, "*b n"]:
    """Places of the losses from the best to the worst; what is not finite comes last.

    Example:
        >>> ranking(torch.tensor([3.0, torch.nan, 1.0, 3.0])).tolist()
        [2, 0, 3, 1]
    """
    return torch.where(losses.isfinite(), losses, torch.inf).argsort(stable=True)


def check_told(points: Tensor, losses: Tensor, asked: tuple[int, int, int]) -> None:
    """Whether an answer is one population of points each, with their losses.

    Args:
        points: That the search is told of.
        losses: Of those points.
        asked: Populations, points in each, numbers of a point.

    Raises:
        ShapeError: It is something else.

    Example:
        >>> check_told(torch.zeros(1, 4, 2), torch.zeros(1, 4), (1, 4, 2))
        >>> check_told(torch.zeros(1, 4, 2), torch.zeros(4), (1, 4, 2))
        Traceback (most recent call last):
        invertkit.errors.ShapeError: expected points of shape (1, 4, 2) and losses of shape ...
    """
    if points.shape != asked or losses.shape != asked[:2]:
        raise ShapeError(
            f"expected points of shape {asked} and losses of shape {asked[:2]}, got "
            f"{tuple(points.shape)} and {tuple(losses.shape)}."
        )


def _products(left: Float[Tensor, "b i j"], right: Float[Tensor, "b j k"]) -> Tensor:
    """The product of the matrices of every population, all in one call."""
    # Not `matmul`, which takes a batch of one as a plain matrix and rounds it otherwise: a search
    # ends at the same point to the last bit whether its image is alone or in company.
    return torch.bmm(left, right)


def _whitened(steps: Float[Tensor, "b n d"], state: CMAState) -> Float[Tensor, "b n d"]:
    """Steps in the populations' own axes and lengths."""
    return _products(steps, state.axes) / state.lengths[:, None]


def _cut(steps: Float[Tensor, "b n d"], state: CMAState, longest: float) -> Float[Tensor, "b n d"]:
    """Steps of at most a Mahalanobis length."""
    length = torch.linalg.vector_norm(_whitened(steps, state), dim=-1, keepdim=True)
    cut: Tensor = steps * (longest / length).clamp(max=1)  # a length of 0 leaves 0
    return cut


def _move(state: CMAState, steps: Float[Tensor, "b n d"], k: Constants) -> None:
    """The populations after another ranking, in place; `steps` from the best to the worst."""
    count, _, dimension = steps.shape
    weights = torch.tensor(k.weights, dtype=steps.dtype, device=steps.device)
    parents = weights[: k.parents].expand(count, 1, -1)
    step = _products(parents, steps[:, : k.parents])[:, 0]  # eq. 41

    # Step size: eqs. 43 and 44; as in Hansen 2011, it changes by a factor of at most e.
    white = _products(_whitened(step[:, None], state), state.axes.mT)[:, 0]
    state.p_sigma = (1 - k.c_sigma) * state.p_sigma
    state.p_sigma = state.p_sigma + math.sqrt(k.c_sigma * (2 - k.c_sigma) * k.mu_eff) * white
    length = torch.linalg.vector_norm(state.p_sigma, dim=-1)
    change = (k.c_sigma / k.d_sigma * (length / k.chi - 1)).clamp(-1, 1)

    # Covariance: eqs. 45 to 47, h_σ from appendix A in pycma's form, with squared lengths.
    state.generation += 1
    settled = length.square() / (1 - (1 - k.c_sigma) ** (2 * state.generation)) / dimension
    h_sigma = (settled < 2 + 4 / (dimension + 1)).to(steps.dtype)[:, None]
    drift = h_sigma * math.sqrt(k.c_c * (2 - k.c_c) * k.mu_eff) * step
    state.p_c = (1 - k.c_c) * state.p_c + drift
    lost = (1 - h_sigma) * k.c_c * (2 - k.c_c)
    lengths = torch.linalg.vector_norm(_whitened(steps, state), dim=-1)
    even = torch.where(weights < 0, dimension / (lengths + _TINY).square(), 1.0)  # eq. 46
    keep = (1 - k.c_1 * (1 - lost) - k.c_mu * sum(k.weights))[..., None]
    spread = _products(steps.mT, (k.c_mu * weights * even)[..., None] * steps)
    rank_one = state.p_c[:, :, None] * state.p_c[:, None, :]
    state.C = keep * state.C + k.c_1 * rank_one + (spread + spread.mT) / 2

    state.mean = state.mean + state.sigma[:, None] * step  # eq. 42 with c_m = 1, eq. 54
    state.sigma = (state.sigma * change.exp()).clamp(*_SIGMA)
    state.eigen_age += 1


def _decompose(state: CMAState) -> None:
    """Bring axes and lengths up to date; C is lifted where it is nearly singular."""
    values, axes = torch.linalg.eigh(state.C)
    lift = (values[:, -1:] / _CONDITION - values[:, :1]).clamp(min=0)
    eye = torch.eye(values.shape[1], dtype=values.dtype, device=values.device)
    state.C = state.C + lift[..., None] * eye
    # LAPACK lays eigenvectors out by columns; a saved state comes back by rows, where products
    # round otherwise.
    state.axes, state.lengths = axes.contiguous(), (values + lift).sqrt()
    state.eigen_age = 0
