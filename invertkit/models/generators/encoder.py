"""A frozen encoder: a network from a picture to the latents that make it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from invertkit.core.network import Model
from invertkit.core.suggestions import conjoined
from invertkit.errors import InputError


@final
class Encoder(Model):
    """A network from a picture to latents of a generator; frozen.

    Args:
        net: Called with `(b, 3, s, s)` and the latents that it takes, in order; gives the latent,
            or a tuple or a mapping of them if there are several.
        gives: Names of the latents that it gives, as the generator calls them.
        takes: Names of the latents that it is told, such as a class embedding.
        size: Side of the pictures it takes.
        input_range: Of the pictures it takes, black and white.
        description: What it is.

    Raises:
        InputError: It gives nothing.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 5))
        >>> encoder = Encoder(net, gives="z", size=4)
        >>> {name: rows.shape for name, rows in encoder.encode(torch.zeros(2, 3, 4, 4)).items()}
        {'z': torch.Size([2, 5])}
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        gives: str | Sequence[str],
        takes: str | Sequence[str] = (),
        size: int,
        input_range: tuple[float, float] = (-1.0, 1.0),
        description: str = "an encoder given from Python",
    ) -> None:
        super().__init__(description=description, size=size)
        if not isinstance(net, nn.Module):
            raise InputError(f"An encoder wraps a torch.nn.Module, got {net!r:.60}.")
        self.net = net.eval().requires_grad_(False)
        self.gives = (gives,) if isinstance(gives, str) else tuple(gives)
        self.takes = (takes,) if isinstance(takes, str) else tuple(takes)
        if not self.gives:
            raise InputError("gives: an encoder gives at least one latent; name it.")
        self.input_range = input_range

    def encode(
        self, image: Float[Tensor, "b 3 s s"], /, **known: Float[Tensor, "b ..."]
    ) -> dict[str, Float[Tensor, "b ..."]]:
        """Latents of pictures in [0, 1], by name.

        Args:
            image: The pictures.
            known: The latents that it takes, by name; others are passed over.

        Raises:
            InputError: One that it takes is missing, or it does not give what it says.
        """
        lacking = [name for name in self.takes if name not in known]
        if lacking:
            raise InputError(f"{self.description} wants {conjoined(lacking)} beside the picture.")
        low, high = self.input_range
        guess = self.net(image * (high - low) + low, *(known[name] for name in self.takes))
        # One latent comes bare, as most encoders give it; of several each must have its name.
        if isinstance(guess, Mapping):
            latents = dict(guess)
        else:
            several = guess if isinstance(guess, tuple | list) else (guess,)
            latents = dict(zip(self.gives, several, strict=False))
        if set(latents) != set(self.gives) or (
            isinstance(guess, tuple | list) and len(guess) != len(self.gives)
        ):
            raise InputError(
                f"{self.description} was to give {conjoined(self.gives)}; it gave "
                f"{conjoined(list(latents))}."
            )
        return {name: latents[name] for name in self.gives}
