"""Laws of the posterior and of likeness."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from invertkit.training.generator.autoencoding import sampled, unlikeness

SEEDS = st.integers(0, 10_000)


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(SEEDS, st.integers(1, 4), st.integers(1, 6))
def test_the_excess_is_the_divergence_from_the_prior(seed: int, rows: int, length: int) -> None:
    code = normal(rows, 2 * length, seed=seed)
    mean, log_variance = code.chunk(2, 1)
    posterior = Normal(mean, (log_variance / 2).clamp(max=1.0).exp())
    wanted = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1).mean()
    noise = normal(rows, length, seed=seed + 1)
    latent, excess = sampled(code, noise)
    assert torch.allclose(excess, wanted, rtol=1e-4, atol=1e-5)
    assert excess >= -1e-6
    assert torch.allclose(latent, posterior.mean + posterior.stddev * noise, atol=1e-5)


@given(SEEDS)
def test_codes_beyond_all_bounds_stay_finite(seed: int) -> None:
    code = torch.cat([normal(3, 4, seed=seed), 1e4 * normal(3, 4, seed=seed + 1)], 1)
    latent, excess = sampled(code, normal(3, 4, seed=seed + 2))
    assert latent.isfinite().all()
    assert excess.isfinite()


@given(SEEDS, st.floats(0.1, 100.0))
def test_likeness_does_not_depend_on_how_large_features_are(seed: int, factor: float) -> None:
    made, real = (
        [normal(2, 3, side, side, seed=seed + k + side) for side in (4, 2)] for k in (0, 9)
    )
    apart = unlikeness(made, real)
    scaled = unlikeness([factor * each for each in made], [factor * each for each in real])
    assert torch.allclose(apart, scaled, rtol=1e-4)
    assert unlikeness(real, real) == 0
    halfway = [(m + r) / 2 for m, r in zip(made, real, strict=True)]
    assert torch.allclose(unlikeness(halfway, real), apart / 2, rtol=1e-4)
