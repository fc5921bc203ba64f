"""The affine map that makes latents of photographs standard."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from invertkit.training.generator.networks import GameNetworks
from invertkit.training.generator.standardizing import Moments, moments, standardize
from tests.training.generator.tiny import PLAN, some_photographs, tiny_networks

SIZE = PLAN.latent


def networks(seed: int) -> GameNetworks:
    """Double precision; what the encoder gives has a mean and a spread of its own."""
    made, draw = tiny_networks().double(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in (made.posterior.fc.weight, made.posterior.fc.bias):
            part.copy_(torch.randn(part.shape, generator=draw, dtype=part.dtype))
        made.posterior.fc.weight[SIZE:] *= 0.01
        for name, part in made.generator.named_parameters():
            if name.endswith("bias"):
                part.copy_(torch.randn(part.shape, generator=draw, dtype=part.dtype))
    return made


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_pictures_stay_and_latents_become_standard(seed: int) -> None:
    nets, data = networks(seed), some_photographs(24)
    images = data.images.double() / 127.5 - 1
    condition = nets.generator.embeddings.weight.T[data.labels]

    def copies() -> torch.Tensor:
        with torch.no_grad():
            code = nets.posterior(images, condition)
            return nets.generator(code[:, :SIZE], condition)

    before, measured = copies(), moments(nets.posterior, nets.generator, data)
    standardize(nets.generator, nets.posterior, measured)
    torch.testing.assert_close(copies(), before, rtol=1e-6, atol=1e-6)
    after = moments(nets.posterior, nets.generator, data)
    torch.testing.assert_close(after.mean, torch.zeros(SIZE).double(), rtol=0, atol=1e-6)
    # The posteriors' own part keeps its diagonal alone.
    of_means = after.covariance - after.spread.diag()
    values, vectors = torch.linalg.eigh(measured.covariance)
    inverse = (vectors / values.sqrt()) @ vectors.T
    spread = inverse @ measured.spread.diag() @ inverse
    torch.testing.assert_close(of_means, torch.eye(SIZE).double() - spread, rtol=0, atol=1e-5)
    torch.testing.assert_close(after.spread, spread.diag(), rtol=1e-4, atol=1e-8)


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_any_latent_makes_the_picture_that_its_image_made(seed: int) -> None:
    nets, draw = networks(seed), torch.Generator().manual_seed(seed)
    factor = torch.randn(SIZE, 2 * SIZE, generator=draw).double()
    mean = torch.randn(SIZE, generator=draw).double()
    measured = Moments(mean, factor @ factor.T / SIZE, torch.full((SIZE,), 0.1).double())
    u = torch.randn(3, SIZE, generator=draw).double()
    condition = nets.generator.embeddings.weight.T
    values, vectors = torch.linalg.eigh(measured.covariance)
    z = mean + u @ ((vectors * values.sqrt()) @ vectors.T)
    with torch.no_grad():
        wanted = nets.generator(z, condition)
        standardize(nets.generator, nets.posterior, measured)
        torch.testing.assert_close(nets.generator(u, condition), wanted, rtol=1e-6, atol=1e-6)


def test_moments_are_those_of_draws() -> None:
    nets, data = networks(3), some_photographs(20)
    found = moments(nets.posterior, nets.generator, data)
    condition = nets.generator.embeddings.weight.T[data.labels]
    with torch.no_grad():
        code = nets.posterior(data.images.double() / 127.5 - 1, condition)
    mean, log_variance = code.chunk(2, 1)
    noise = torch.randn(4000, 1, SIZE, generator=torch.Generator().manual_seed(0)).double()
    draws = (mean + (log_variance / 2).exp() * noise).flatten(0, 1)
    torch.testing.assert_close(found.mean, draws.mean(0), rtol=0.05, atol=0.05)
    torch.testing.assert_close(found.covariance, draws.T.cov(), rtol=0.05, atol=0.2)
    assert moments(nets.posterior, nets.generator, data, count=7).mean.isfinite().all()
