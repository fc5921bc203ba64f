"""The numbers of CMA-ES that follow from the dimension and the size of the population.

Source: Hansen 2016, "The CMA evolution strategy: a tutorial" (arXiv:1604.00772), whose equation
numbers are given. Where the tutorial and pycma 4.5 differ, the numbers are pycma's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import final


@final
@dataclass(frozen=True)
class Constants:
    """The numbers that follow from the dimension and the size of the population.

    Attributes:
        weights: One per rank; the positive ones sum to 1, eqs. 49 to 53.
        parents: How many are positive, eq. 49.
        mu_eff: Variance-effective number of parents, eq. 8.
        c_sigma: Rate of the step size's path, eq. 55 with pycma's 3 for its 5.
        d_sigma: Its damping. Eq. 55 with a root three times as large in high dimensions, as in
            pycma; the same for default populations, where the root does not count.
        c_c: Rate of the covariance's path, eq. 56.
        c_1: Rate of the rank-one update, eq. 57; less below six points, as in pycma.
        c_mu: Rate of the rank-μ update, eq. 58.
        chi: Mean length of a standard normal vector; exact, where appendix A approximates.
        gap: Generations from one eigendecomposition to the next, sec. B.2.
        longest: Mahalanobis length at which an injected step is cut, Hansen 2011.
    """

    weights: tuple[float, ...]
    parents: int
    mu_eff: float
    c_sigma: float
    d_sigma: float
    c_c: float
    c_1: float
    c_mu: float
    chi: float
    gap: float
    longest: float


@lru_cache(maxsize=64)
def constants(dimension: int, population: int, *, active: bool = True) -> Constants:
    """What pycma takes by default, without mirrored samples.

    Args:
        dimension: Of the search, at least 1.
        population: Points a generation, at least 3.
        active: Negative weights for the worse half; otherwise 0, and eqs. 50 to 52 do not count.

    Example:
        >>> numbers = constants(10, 10)
        >>> numbers.parents, round(sum(numbers.weights[: numbers.parents]), 6)
        (5, 1.0)
    """
    n = dimension
    raw = [math.log((population + 1) / 2) - math.log(i + 1) for i in range(population)]  # eq. 49
    parents = sum(w > 0 for w in raw)
    good, bad = raw[:parents], raw[parents:]
    mu_eff = sum(good) ** 2 / sum(w**2 for w in good)
    mu_eff_minus = sum(bad) ** 2 / sum(w**2 for w in bad)

    c_1 = min(1.0, population / 6) * 2 / ((n + 1.3) ** 2 + mu_eff)
    c_mu = min(1 - c_1, 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((n + 2) ** 2 + mu_eff))
    c_sigma = min(0.5, (mu_eff + 2) / (n + mu_eff + 3))
    steeper = max(1.0, 3 * (1 - 0.5 ** (n / 9)))
    d_sigma = 1 + c_sigma + 2 * max(0.0, steeper * math.sqrt((mu_eff - 1) / (n + 1)) - 1)

    total = min(
        1 + c_1 / c_mu,  # eq. 50: C does not fade
        (1 - c_1 - c_mu) / (n * c_mu),  # eq. 52: C stays positive
        1 + 2 * mu_eff_minus / (mu_eff + 2),  # eq. 51: no faster than its own μ_eff allows
    )
    scale = total if active else 0.0
    weights = [w / sum(good) for w in good] + [-scale * w / sum(bad) for w in bad]  # eq. 53
    return Constants(
        weights=tuple(weights),
        parents=parents,
        mu_eff=mu_eff,
        c_sigma=c_sigma,
        d_sigma=d_sigma,
        c_c=(4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n),
        c_1=c_1,
        c_mu=c_mu,
        chi=math.sqrt(2) * math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2)),
        gap=1 / (c_1 + c_mu) / n / 10,
        longest=math.sqrt(n) + 2 * n / (n + 2),
    )
