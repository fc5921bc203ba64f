"""The auxiliary space ζ: a latent spread over thousands of numbers, for shorter descents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.core.network import Model
from invertkit.errors import InputError

RATE: Final = 2e-4
"""Of the inner loop, for every number of ζ: where it begins, and in the released code stays."""
ZETA: Final = "zeta"
"""What the tensor is called that is optimised in place of the latent."""


@final
@dataclass(frozen=True)
class ZetaShape:
    """How large the auxiliary networks are.

    Args:
        latent: Numbers of the latent z.
        zeta: Numbers of ζ.
        hidden: Numbers of the layers between.

    Raises:
        InputError: One is below 1.
    """

    latent: int
    zeta: int = 10_000
    hidden: int = 1_000

    def __post_init__(self) -> None:
        if min(self.latent, self.zeta, self.hidden) < 1:
            raise InputError(f"Auxiliary networks have at least 1 number a layer, got {self}.")


@final
class AuxiliaryNetworks(nn.Module):
    """A, from z to ζ, and B, back.

    `A(z) = PReLU(A2 relu(A1 z))`, `B(ζ) = PReLU(B2 relu(B1 ζ))`, each PReLU with a slope for every
    number.

    Args:
        shape: Numbers of all layers.

    Attributes:
        rates: Of the inner loop, one for every number of ζ.

    Example:
        >>> networks = AuxiliaryNetworks(ZetaShape(4, zeta=9, hidden=6))
        >>> networks.expand(torch.zeros(2, 4)).shape, networks.collapse(torch.zeros(2, 9)).shape
        (torch.Size([2, 9]), torch.Size([2, 4]))

    Source: Suzuki et al. 2018, supplement B.1 and Fig. 14. The text has PReLUs at all layers; the
    released code, followed here, plain ReLUs at the hidden ones.
    """

    def __init__(self, shape: ZetaShape) -> None:
        super().__init__()
        self.shape = shape
        self.a1, self.a2 = (
            nn.Linear(shape.latent, shape.hidden),
            nn.Linear(shape.hidden, shape.zeta),
        )
        self.b1, self.b2 = (
            nn.Linear(shape.zeta, shape.hidden),
            nn.Linear(shape.hidden, shape.latent),
        )
        self.a_slopes = nn.PReLU(shape.zeta, init=0.25)
        self.b_slopes = nn.PReLU(shape.latent, init=0.25)
        self.rates = nn.Parameter(torch.full((shape.zeta,), RATE))
        for layer in (self.a1, self.a2, self.b1, self.b2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def expand(self, latent: Float[Tensor, "b z"]) -> Float[Tensor, "b n"]:
        """A: ζ of latents."""
        zeta: Tensor = self.a_slopes(self.a2(F.relu(self.a1(latent))))
        return zeta

    def collapse(self, zeta: Float[Tensor, "b n"]) -> Float[Tensor, "b z"]:
        """B: latents of ζ."""
        latent: Tensor = self.b_slopes(self.b2(F.relu(self.b1(zeta))))
        return latent

    def forward(self, latent: Float[Tensor, "b z"]) -> Float[Tensor, "b z"]:
        """There and back."""
        return self.collapse(self.expand(latent))


@final
class ZetaSpace(Model):
    """A frozen auxiliary space, for `space:` of the variable `latent`.

    Args:
        net: The auxiliary networks, trained for a generator.
        latent: Name of the latent that ζ stands for.
        description: What it is.

    Example:
        >>> space = ZetaSpace(AuxiliaryNetworks(ZetaShape(4, zeta=9, hidden=6)))
        >>> space.shape
        ZetaShape(latent=4, zeta=9, hidden=6)
    """

    def __init__(
        self,
        net: AuxiliaryNetworks,
        *,
        latent: str = "latent",
        description: str = "an auxiliary space given from Python",
    ) -> None:
        super().__init__(description=description, size=0)
        self.net = net.eval().requires_grad_(False)
        self.latent, self.shape = latent, net.shape

    def expand(self, latent: Float[Tensor, "b z"]) -> Float[Tensor, "b n"]:
        """ζ of latents."""
        return self.net.expand(latent)

    def collapse(self, zeta: Float[Tensor, "b n"]) -> Float[Tensor, "b z"]:
        """Latents of ζ."""
        return self.net.collapse(zeta)
