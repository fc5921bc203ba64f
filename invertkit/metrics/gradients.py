"""Numbers about the gradient of a loss with respect to an image; none depends on its scale."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def edge_alignment(
    gradient: Float[Tensor, "b c h w"],
    image: Float[Tensor, "b 3 h w"],
    *,
    blur: float = 1.0,
) -> Float[Tensor, " b"]:
    """Whether the gradient is strong where the image has edges.

    Pearson's correlation over the pixels between the low-passed strength of the gradient,
    √Σ_c g_c², and the equally low-passed strength of the image's edges. Both are maps without
    sign, so an input gradient that is positive on one side of an edge and negative on the other
    counts as aligned with it.

    Args:
        gradient: With respect to the image, in any unit.
        image: In [0, 1], of the same size.
        blur: Standard deviation of the Gaussian low-pass in pixels; 0 for none.

    Returns:
        In [-1, 1]: 1 if the one map is a positive multiple of the other plus a constant, about 0
        for white noise; NaN where either map is constant, as for a zero gradient or a flat image.

    Example:
        >>> image = torch.zeros(1, 3, 16, 16)
        >>> image[..., 8:] = 1
        >>> edge_alignment(edges(image).expand(-1, 3, -1, -1), image)
        tensor([1.], dtype=torch.float64)

    Source: ours. MAGIC (section 4, Fig. 4) speaks of gradients aligned with edges and shows
    pictures; it gives no number.
    """
    strength = _unit(gradient.double()).square().sum(1, keepdim=True).sqrt()
    return _correlation(_low_passed(strength, blur), _low_passed(edges(image.double()), blur))


@torch.no_grad()
def orientation_agreement(
    gradient: Float[Tensor, "b c h w"],
    image: Float[Tensor, "b 3 h w"],
    *,
    blur: float = 1.0,
) -> Float[Tensor, " b"]:
    """Whether the strokes of the gradient run along the edges of the image.

    Σ e_g e_x cos 2(θ_g - θ_x) / Σ e_g e_x over the pixels, where energy e, coherence and direction
    θ come from the structure tensors of gradient and image: with J = [[a, b], [b, c]], the Gaussian
    mean of the outer products of Sobel slopes, e = a + c and e·coherence·(cos 2θ, sin 2θ) =
    (a - c, 2b). Where either has no direction, the term is 0.

    Args:
        gradient: With respect to the image, in any unit.
        image: In [0, 1], of the same size.
        blur: Standard deviation of the Gaussian in pixels.

    Returns:
        In [-1, 1]: about 0 for white noise, positive where strokes run along edges, negative where
        they cross them; NaN where one of them has no slope at all where the other has.

    Example:
        >>> stripes = torch.arange(16.0).mul(0.7).sin().expand(1, 3, 16, 16)
        >>> orientation_agreement(stripes, stripes).round(decimals=6)
        tensor([1.], dtype=torch.float64)
        >>> orientation_agreement(stripes, stripes.transpose(2, 3)).round(decimals=6)
        tensor([-1.], dtype=torch.float64)

    Source: structure tensor, Bigün and Granlund 1987; the number is ours.
    """
    a, b = (_structure(each.double(), blur) for each in (gradient, image))
    together: Tensor = (a[0] * b[0] + a[1] * b[1]).flatten(1).sum(1)
    return together / (a[2] * b[2]).flatten(1).sum(1)


def edges(image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
    """Strength of an image's edges: √Σ of its squared Sobel slopes over axes and channels.

    Borders are repeated, so that the frame of the picture is no edge.

    Args:
        image: In [0, 1].

    Example:
        >>> image = torch.zeros(1, 3, 1, 4)
        >>> image[..., 2:] = 1
        >>> edges(image).flatten()
        tensor([0.0000, 0.8660, 0.8660, 0.0000])

    Source: Sobel and Feldman 1968.
    """
    strength: Tensor = _slopes(image).square().sum((1, 2)).sqrt()
    return strength[:, None]


def _slopes(image: Tensor) -> Tensor:
    """Sobel slopes per pixel, `(b, c, 2, h, w)`: along rows, then along columns."""
    rise = image.new_tensor([-1.0, 0.0, 1.0]) / 2
    across = image.new_tensor([1.0, 2.0, 1.0]) / 4
    kernels = torch.stack([across[:, None] * rise, rise[:, None] * across])[:, None]
    b, c, h, w = image.shape
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate").reshape(b * c, 1, h + 2, w + 2)
    slopes: Tensor = F.conv2d(padded, kernels).reshape(b, c, 2, h, w)
    return slopes


def _structure(image: Tensor, blur: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of the structure tensor: a - c, 2b, a + c; of a multiple of the image, largest slope 1."""
    x, y = _unit(_slopes(image)).unbind(2)
    xx, yy, xy = (
        _low_passed(product.sum(1, keepdim=True), blur) for product in (x * x, y * y, x * y)
    )
    return xx - yy, 2 * xy, xx + yy


@torch.no_grad()
def low_frequency_share(
    gradient: Float[Tensor, "b c h w"], *, cutoff: float = 0.25
) -> Float[Tensor, " b"]:
    """Share of the gradient's energy in low spatial frequencies.

    The energy Σ g² is split over the discrete Fourier frequencies (Parseval: the parts add up to
    all of it, exactly); the share is that within a disc around zero, the mean included.

    Args:
        gradient: With respect to the image, in any unit.
        cutoff: Radius of the disc in units of the Nyquist frequency, 0.5 cycles per pixel: with
            0.25, waves of 8 pixels or longer are low.

    Returns:
        In [0, 1]; for white noise the share of all frequencies that the disc holds, about
        π·cutoff²/4; NaN for a zero gradient.

    Example:
        >>> low_frequency_share(torch.ones(1, 3, 8, 8))
        tensor([1.], dtype=torch.float64)

    Source: ours, for what MAGIC (section 4) calls coarse and fine edges.
    """
    height, width = gradient.shape[-2:]
    power = torch.fft.fft2(_unit(gradient.double())).abs().square().sum(1)
    inside = low_frequencies(height, width, cutoff=cutoff).to(power)
    share: Tensor = (power * inside).sum((1, 2)) / power.sum((1, 2))
    return share


def low_frequencies(height: int, width: int, *, cutoff: float) -> Float[Tensor, "h w"]:
    """1 at the Fourier frequencies within `cutoff` of zero, else 0; in the order of `fft2`.

    Example:
        >>> low_frequencies(1, 4, cutoff=0.5)
        tensor([[1., 1., 0., 1.]], dtype=torch.float64)
    """
    rows, columns = torch.fft.fftfreq(height).double(), torch.fft.fftfreq(width).double()
    radius = (rows[:, None].square() + columns.square()).sqrt()
    inside: Tensor = radius <= 0.5 * cutoff + 1e-9
    return inside.double()


def _unit(values: Tensor) -> Tensor:
    """Each image's values divided by the largest, so that no square of them gets lost."""
    peak = values.abs().flatten(1).amax(1).clamp(min=torch.finfo(values.dtype).tiny)
    return values / peak.reshape(-1, *[1] * (values.ndim - 1))


def _low_passed(map_: Tensor, sigma: float) -> Tensor:
    """Gaussian, separable, with mirrored borders."""
    for axis in (2, 3) if sigma > 0 else ():
        # Mirroring needs one pixel more than it adds, so that wide kernels are cut on small images.
        reach = min(math.ceil(4 * sigma), map_.shape[axis] - 1)
        steps = torch.arange(-reach, reach + 1, dtype=map_.dtype, device=map_.device)
        kernel = torch.exp(-(steps**2) / (2 * sigma**2))
        kernel = kernel / kernel.sum()
        down = axis == 2
        pad = (0, 0, reach, reach) if down else (reach, reach, 0, 0)
        shape = (1, 1, -1, 1) if down else (1, 1, 1, -1)
        map_ = F.conv2d(F.pad(map_, pad, mode="reflect"), kernel.reshape(shape))
    return map_


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's, per image; NaN where either is constant."""
    a, b = a.flatten(1), b.flatten(1)
    a, b = a / a.abs().amax(1, keepdim=True), b / b.abs().amax(1, keepdim=True)
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    lengths = a.norm(dim=1) * b.norm(dim=1)
    # What rounding leaves of a constant map correlates with anything.
    flat = lengths < 1e-9 * a.shape[1]
    value: Tensor = (a * b).sum(1) / lengths
    return value.clamp(-1, 1).where(~flat, torch.full_like(value, math.nan))
