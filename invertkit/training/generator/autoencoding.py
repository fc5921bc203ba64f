"""What the encoder adds to a generator's training: pictures that must be like photographs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

_LEAST: Final = -8.0
_MOST: Final = 2.0
"""Of a log-variance: beyond, nothing is told apart in single precision."""


def sampled(
    code: Float[Tensor, "b _"], noise: Float[Tensor, "b z"]
) -> tuple[Float[Tensor, "b z"], Float[Tensor, ""]]:
    """Latents drawn from the posterior that an encoder gives, and how far it is from the prior.

    Args:
        code: Means, then log-variances.
        noise: Standard normal.

    Returns:
        The latents, and `KL(N(mean, variance) ‖ N(0, 1))` in nats, summed over the latent's entries
        and averaged over rows.

    Example:
        >>> latent, excess = sampled(torch.zeros(2, 6), torch.ones(2, 3))
        >>> latent.tolist()[0], excess.item()
        ([1.0, 1.0, 1.0], 0.0)

    Source: Kingma & Welling 2014, Appendix B.
    """
    mean, log_variance = code.float().chunk(2, 1)
    log_variance = log_variance.clamp(_LEAST, _MOST)
    excess = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
    return mean + (log_variance / 2).exp() * noise, excess


def unlikeness(
    made: Sequence[Float[Tensor, "b _ _ _"]], real: Sequence[Float[Tensor, "b _ _ _"]]
) -> Float[Tensor, ""]:
    """How far feature maps are apart, as a share of how large they are, averaged over maps.

    Args:
        made: Of pictures.
        real: Of the photographs that these should be like.

    Example:
        >>> unlikeness([torch.zeros(1, 2, 3, 3)], [torch.ones(1, 2, 3, 3)]).item()
        1.0

    Source: a perceptual distance, after Dosovitskiy & Brox 2016; the features are those that the
    discriminators see, whose random mixing keeps distances (Johnson & Lindenstrauss 1984).
    """
    shares = [
        (of_made.float() - of_real.float()).abs().mean() / of_real.float().abs().mean()
        for of_made, of_real in zip(made, real, strict=True)
    ]
    return torch.stack(shares).mean()
