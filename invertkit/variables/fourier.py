"""The image's spectrum, scaled so that one learning rate suits every frequency."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.ranges import NonNegative
from invertkit.core.scene import Scene
from invertkit.variables.base import Size, Variable

# Square root of the colour covariance of ImageNet photographs (Olah et al. 2017, lucid), columns
# divided by the largest column norm.
_COLOURS = (
    (0.56282854, 0.58447580, 0.58447580),
    (0.19482528, 0.0, -0.19482528),
    (0.04329450, -0.10823626, 0.06494176),
)


@final
class Fourier(Variable):
    """Real FFT coefficients divided by their frequency; a sigmoid keeps pixels in (0, 1).

    Natural images have amplitudes near 1/frequency. Optimising coefficients that are multiplied
    by that makes every frequency move alike, where raw pixels find the highest first.

    Args:
        noise: Standard deviation of the coefficients at the start.
        decorrelate: Optimise along the principal colours of photographs, not red, green, blue.
        decay: Power of the frequency that divides the coefficients; more than 1 makes smoother
            pictures.

    Example:
        >>> from invertkit.core.scene import Scene
        >>> variable, scene = Fourier(noise=0.0), Scene((4, 4))
        >>> variable.image(variable.start(scene, Randomness((0,))), scene).unique().tolist()
        [0.5]

    Source: Olah, Mordvintsev & Schubert 2017, "Feature Visualization" (Distill), and lucid.
    """

    def __init__(
        self, *, noise: NonNegative = 0.01, decorrelate: bool = True, decay: NonNegative = 1.0
    ) -> None:
        self.noise, self.decorrelate, self.decay = noise, decorrelate, decay

    @property
    def names(self) -> tuple[str, ...]:
        return ("spectrum",)

    def start(self, scene: Scene, randomness: Randomness) -> Params:
        height, width = scene.size
        shape = (3, height, width // 2 + 1, 2)
        return {"spectrum": self.noise * randomness.normal("start", shape)}

    def resize(self, params: Params, old: Size, new: Size) -> Params:
        """The same picture at another size: low frequencies are kept, new ones start at 0."""
        if old == new:
            return params
        coefficients = params["spectrum"]
        spectrum = torch.view_as_complex(coefficients) * self._amplitudes(old, coefficients)
        shared = [min(a, b) for a, b in zip(old, new, strict=True)]
        rows_low, rows_high = (shared[0] + 1) // 2, shared[0] // 2
        columns = shared[1] // 2 + 1
        grown = spectrum.new_zeros(*spectrum.shape[:2], new[0], new[1] // 2 + 1)
        grown[:, :, :rows_low, :columns] = spectrum[:, :, :rows_low, :columns]
        if rows_high:
            grown[:, :, -rows_high:, :columns] = spectrum[:, :, -rows_high:, :columns]
        if old[1] != new[1] and shared[1] % 2 == 0:
            # the highest column is stored once where it is the last, else half here, half mirrored
            grown[:, :, :, shared[1] // 2] *= 0.5 if new[1] > old[1] else 2
        scaled = torch.view_as_real(grown / self._amplitudes(new, coefficients))
        return {"spectrum": scaled.contiguous()}

    def image(self, params: Params, scene: Scene) -> Float[Tensor, "b 3 h w"]:
        coefficients = params["spectrum"]
        spectrum = torch.view_as_complex(coefficients) * self._amplitudes(scene.size, coefficients)
        pixels = torch.fft.irfft2(spectrum, s=scene.size, norm="forward")
        if self.decorrelate:
            colours = pixels.new_tensor(_COLOURS)
            pixels = torch.einsum("bkhw,kc->bchw", pixels, colours)
        return torch.sigmoid(4 * pixels)

    def _amplitudes(self, size: Size, like: Tensor) -> Tensor:
        """1/frequency^decay in cycles per image, the constant as one cycle. `(h, w//2 + 1)`."""
        height, width = size
        rows = torch.fft.fftfreq(height, d=1 / height, device=like.device)[:, None]
        columns = torch.fft.rfftfreq(width, d=1 / width, device=like.device)
        frequency = torch.hypot(rows, columns).clamp(min=1)
        # Not raised to 1, which would change bits of pictures made before there was a choice.
        raised = frequency if self.decay == 1 else frequency**self.decay
        return (1 / raised).to(like.dtype)
