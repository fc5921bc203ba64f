"""Latents of photographs made standard normal, as far as mean and covariance go.

A variational encoder's latents of all photographs together have a mean and a covariance of their
own, where the divergence weighs little. Latents drawn from the prior are then unlike them, and the
generator would have to learn both. An affine map of the latent, which the layers at either side
take in, makes the two alike without changing one picture.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.models.generators.conditional import (
    ConditionalBatchNorm,
    ConditionalEncoder,
    ConditionalGenerator,
)
from invertkit.training.data.photographs import PhotographSet

_LEAST: Final = 1e-4
"""Of a variance: entries of a latent that do nothing have next to none."""


class Moments(NamedTuple):
    """Of the latents of photographs, drawn from their posteriors.

    Attributes:
        mean: Of all.
        covariance: Of all.
        spread: Mean of the posteriors' own variances, a part of the covariance's diagonal.
    """

    mean: Float[Tensor, " z"]
    covariance: Float[Tensor, "z z"]
    spread: Float[Tensor, " z"]


@torch.no_grad()
def moments(
    posterior: ConditionalEncoder,
    generator: ConditionalGenerator,
    photographs: PhotographSet,
    *,
    count: int = 4000,
) -> Moments:
    """Of the latents of photographs spread evenly over the set.

    Args:
        posterior: Gives means, then log-variances.
        generator: Whose class embeddings the posterior is told.
        photographs: The set.
        count: How many of it, or all if it has fewer.
    """
    table = generator.embeddings.weight.T
    total = len(photographs.images)
    rows = torch.arange(min(count, total)) * total // min(count, total)
    training = posterior.training
    posterior.eval()
    codes = [
        posterior(
            photographs.images[part].to(table) / 127.5 - 1,
            table[photographs.labels[part].to(table.device)],
        )
        for part in rows.split(100)
    ]
    posterior.train(training)
    means, log_variances = torch.cat(codes).double().chunk(2, 1)
    spread = log_variances.exp().mean(0)
    covariance = means.T.cov(correction=0).reshape(len(spread), -1) + spread.diag()
    return Moments(means.mean(0), covariance, spread)


@torch.no_grad()
def standardize(
    generator: ConditionalGenerator, posterior: ConditionalEncoder, measured: Moments
) -> None:
    """Change both so that latents have mean 0 and covariance I, and the same pictures follow.

    A latent z of before is m + C^½ u of the new u. The symmetric root turns least. Scale and shift
    of every norm and the start are affine in the latent, and so is the encoder's last layer in its
    features: so G(m + C^½ u, c) and the encoder's means are exact. A posterior has a diagonal
    covariance; the root would turn it, and its mean diagonal is kept.

    Args:
        generator: Changed in place.
        posterior: Likewise.
        measured: The moments of before.

    Source: ours; whitening by the symmetric root, Kessy et al. 2018 (ZCA).
    """
    values, vectors = torch.linalg.eigh(measured.covariance)
    values = values.clamp(min=_LEAST)
    root = (vectors * values.sqrt()) @ vectors.T
    inverse = (vectors / values.sqrt()) @ vectors.T
    size = len(measured.mean)
    norms = [part for part in generator.modules() if isinstance(part, ConditionalBatchNorm)]
    for layer in (generator.gen_z, *(part for n in norms for part in (n.scale, n.shift))):
        weight = layer.weight[:, :size].double()
        layer.bias.add_((weight @ measured.mean).to(layer.bias))
        layer.weight[:, :size] = (weight @ root).to(layer.weight)
    last = posterior.fc
    last.bias[:size] = (inverse @ (last.bias[:size].double() - measured.mean)).to(last.bias)
    last.weight[:size] = (inverse @ last.weight[:size].double()).to(last.weight)
    turned = inverse.square() @ measured.spread
    last.bias[size:].add_((turned / measured.spread).log().to(last.bias))
