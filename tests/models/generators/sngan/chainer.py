"""Files as Chainer leaves them, in small, and the three networks restated in plain NumPy."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Entries = dict[str, Array]

UP: Final = {128: (8, 8, 4, 4, 2, 1), 256: (16, 16, 8, 8, 4, 2, 1)}
DOWN: Final = {128: (1, 2, 4, 4, 8, 8), 256: (1, 2, 4, 8, 8, 16, 16)}
CLASSES, LATENT, ZETA, HIDDEN = 5, 6, 11, 7


class Writer:
    """Draws the entries of one file."""

    def __init__(self, seed: int) -> None:
        self.draw, self.entries = np.random.default_rng(seed), Entries()

    def put(self, name: str, *shape: int, scale: float = 1.0, around: float = 0.0) -> None:
        drawn = self.draw.standard_normal(shape)
        self.entries[name] = (around + scale * drawn).astype(np.float32)

    def linear(self, name: str, inputs: int, outputs: int, *, normed: bool = False) -> None:
        self.put(f"{name}/W", outputs, inputs, scale=inputs**-0.5)
        self.put(f"{name}/b", outputs, scale=0.2)
        if normed:
            self.put(f"{name}/u", 1, outputs)

    def convolution(
        self, name: str, inputs: int, outputs: int, side: int, *, normed: bool = False
    ) -> None:
        self.put(f"{name}/W", outputs, inputs, side, side, scale=(inputs * side**2) ** -0.5)
        self.put(f"{name}/b", outputs, scale=0.2)
        if normed:
            self.put(f"{name}/u", 1, outputs)

    def statistics(self, name: str, channels: int) -> None:
        self.put(f"{name}/avg_mean", channels, scale=0.3)
        self.entries[f"{name}/avg_var"] = 0.5 + self.draw.random(channels).astype(np.float32)
        self.entries[f"{name}/N"] = np.asarray(0)

    def conditional(self, name: str, channels: int, classes: int) -> None:
        self.statistics(name, channels)
        self.put(f"{name}/gammas/W", classes, channels, around=1.0, scale=0.3)
        self.put(f"{name}/betas/W", classes, channels, scale=0.3)

    def plain_norm(self, name: str, channels: int) -> None:
        self.statistics(name, channels)
        self.put(f"{name}/gamma", channels, around=1.0, scale=0.3)
        self.put(f"{name}/beta", channels, scale=0.3)


def generator_file(
    size: int, *, unit: int = 2, classes: int = CLASSES, latent: int = LATENT, seed: int = 0
) -> Entries:
    """`ResNetGenerator_*.npz`."""
    writer, widths = Writer(seed), [unit * times for times in UP[size]]
    writer.linear("l1", latent, widths[0] * 16)
    for number, (a, b) in enumerate(pairwise(widths), start=2):
        block = f"block{number}"
        writer.convolution(f"{block}/c1", a, b, 3)
        writer.convolution(f"{block}/c2", b, b, 3)
        writer.conditional(f"{block}/b1", a, classes)
        writer.conditional(f"{block}/b2", b, classes)
        writer.convolution(f"{block}/c_sc", a, b, 1)
    last = len(widths) + 1
    writer.plain_norm(f"b{last}", widths[-1])
    writer.convolution(f"l{last}", widths[-1], 3, 3)
    return writer.entries


def auxiliary_entries(
    *, latent: int = LATENT, zeta: int = ZETA, hidden: int = HIDDEN, learned: bool = True
) -> Entries:
    """What `ResNetAuxABGenerator_*.npz` holds beside the generator."""
    writer = Writer(seed=9)
    for name, a, b in (
        ("lA1", latent, hidden), ("lA2", hidden, zeta), ("lB1", zeta, hidden),
        ("lB2", hidden, latent),
    ):  # fmt: skip
        writer.linear(name, a, b)
    writer.put("preluW/W", latent, around=0.25, scale=0.1)
    writer.put("preluMiddleW/W", zeta, around=0.25, scale=0.1)
    if learned:
        writer.entries["_fast_alpha/W"] = np.full(zeta, 2e-4, np.float32)
    return writer.entries


def discriminator_file(
    size: int, *, unit: int = 2, classes: int = CLASSES, seed: int = 1
) -> Entries:
    """`SNResNetProjectionDiscriminator_*.npz`."""
    writer, widths = Writer(seed), [unit * times for times in DOWN[size]]
    writer.convolution("block1/c1", 3, widths[0], 3, normed=True)
    writer.convolution("block1/c2", widths[0], widths[0], 3, normed=True)
    writer.convolution("block1/c_sc", 3, widths[0], 1, normed=True)
    for number, (a, b) in enumerate(pairwise(widths), start=2):
        writer.convolution(f"block{number}/c1", a, a, 3, normed=True)
        writer.convolution(f"block{number}/c2", a, b, 3, normed=True)
        if number < len(widths):
            writer.convolution(f"block{number}/c_sc", a, b, 1, normed=True)
    writer.linear(f"l{len(widths) + 1}", widths[-1], 1, normed=True)
    writer.put("l_y/W", classes, widths[-1])
    writer.put("l_y/u", 1, classes)
    return writer.entries


def encoder_file(
    size: int, *, unit: int = 2, classes: int = CLASSES, latent: int = LATENT, seed: int = 2
) -> Entries:
    """`ResNetEncoder_*.npz`; that of 128 pixels with the norm that nothing passes."""
    writer, widths = Writer(seed), [unit * times for times in DOWN[size]]
    first, last = ("l1", "l7") if size == 128 else ("block1", "l8_enc")
    writer.convolution(first, 3, widths[0], 3)
    for number, (a, b) in enumerate(pairwise(widths), start=2):
        block = f"block{number}"
        writer.convolution(f"{block}/c1", a, a, 3)
        writer.convolution(f"{block}/c2", a, b, 3)
        writer.conditional(f"{block}/b1", a, classes)
        writer.conditional(f"{block}/b2", a, classes)
        writer.convolution(f"{block}/c_sc", a, b, 1)
    if size == 128:
        writer.plain_norm("b7", widths[-1] * 16)
    writer.linear(last, widths[-1] * 16, latent)
    writer.put("prelu_out/W", latent, around=0.1, scale=0.05)
    return writer.entries


def write(path: Path, entries: Entries) -> Path:
    """The file, as `chainer.serializers.save_npz` writes it."""
    np.savez_compressed(path, **entries)  # type: ignore[arg-type]
    return path


# ------------------------------------------------------------------ the networks, restated


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def prelu(x: Array, slope: Array) -> Array:
    return np.where(x > 0, x, slope * x)


def convolve(x: Array, weight: Array, bias: Array) -> Array:
    """Sums over the window's places, one after the other; zeros beyond the border."""
    side = weight.shape[-1]
    reach = side // 2
    height, width = x.shape[-2:]
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    total = np.zeros((len(x), len(weight), height, width)) + bias[:, None, None]
    for row in range(side):
        for column in range(side):
            seen = padded[:, :, row : row + height, column : column + width]
            total += np.einsum("oi,bihw->bohw", weight[:, :, row, column], seen)
    return total


def twice(x: Array) -> Array:
    return x.repeat(2, -2).repeat(2, -1)


def halved(x: Array) -> Array:
    b, c, h, w = x.shape
    return x.reshape(b, c, h // 2, 2, w // 2, 2).mean((3, 5))


class Restated:
    """A network run from the entries of its file."""

    def __init__(self, entries: Entries, size: int) -> None:
        self.of, self.size = {k: v.astype(np.float64) for k, v in entries.items()}, size

    def conv(self, name: str, x: Array) -> Array:
        return convolve(x, self.weight(name), self.of[f"{name}/b"])

    def weight(self, name: str) -> Array:
        weight = self.of[f"{name}/W"]
        if f"{name}/u" not in self.of:
            return weight
        matrix = weight.reshape(len(weight), -1)
        v = self.of[f"{name}/u"] @ matrix
        v = v / np.linalg.norm(v)
        u = v @ matrix.T
        u = u / np.linalg.norm(u)
        return weight / float((u @ matrix @ v.T)[0, 0])

    def linear(self, name: str, x: Array) -> Array:
        return x @ self.weight(name).T + self.of[f"{name}/b"]

    def norm(self, name: str, x: Array, weights: Array | None = None) -> Array:
        mean, var = self.of[f"{name}/avg_mean"], self.of[f"{name}/avg_var"]
        x = (x - mean[:, None, None]) / np.sqrt(var + 2e-5)[:, None, None]
        if weights is None:
            scale, shift = (self.of[f"{name}/{leaf}"][:, None, None] for leaf in ("gamma", "beta"))
        else:
            scale, shift = (
                np.einsum("bkhw,kc->bchw", weights, self.of[f"{name}/{leaf}/W"])
                for leaf in ("gammas", "betas")
            )
        return scale * x + shift

    def generator(self, z: Array, weights: Array) -> Array:
        """Weights `(b, k, 1, 1)`, or a map of the picture's size."""
        x = self.linear("l1", z).reshape(len(z), -1, 4, 4)
        for number in range(2, len(UP[self.size]) + 1):
            block, side = f"block{number}", x.shape[-1]
            h = relu(self.norm(f"{block}/b1", x, shrunk(weights, side)))
            h = self.conv(f"{block}/c1", twice(h))
            h = relu(self.norm(f"{block}/b2", h, shrunk(weights, 2 * side)))
            x = self.conv(f"{block}/c2", h) + self.conv(f"{block}/c_sc", twice(x))
        last = len(UP[self.size]) + 1
        return np.tanh(self.conv(f"l{last}", relu(self.norm(f"b{last}", x))))

    def discriminator(self, image: Array) -> tuple[Array, Array]:
        """The map before the sum over places, and the score of every class."""
        h = halved(self.conv("block1/c2", relu(self.conv("block1/c1", image))))
        x = h + self.conv("block1/c_sc", halved(image))
        last = len(DOWN[self.size])
        for number in range(2, last + 1):
            block = f"block{number}"
            h = self.conv(f"{block}/c2", relu(self.conv(f"{block}/c1", relu(x))))
            beside = x if number == last else halved(self.conv(f"{block}/c_sc", x))
            x = (h if number == last else halved(h)) + beside
        seen = relu(x)
        summed = seen.sum((2, 3))
        return seen, self.linear(f"l{last + 1}", summed) + summed @ self.weight("l_y").T

    def encoder(self, image: Array, weights: Array) -> Array:
        first, last = ("l1", "l7") if self.size == 128 else ("block1", "l8_enc")
        x = self.conv(first, image)
        for number in range(2, len(DOWN[self.size]) + 1):
            block = f"block{number}"
            h = self.conv(f"{block}/c1", halved(relu(self.norm(f"{block}/b1", x, weights))))
            h = self.conv(f"{block}/c2", relu(self.norm(f"{block}/b2", h, weights)))
            x = h + self.conv(f"{block}/c_sc", halved(x))
        return prelu(self.linear(last, x.reshape(len(x), -1)), self.of["prelu_out/W"])


def shrunk(weights: Array, side: int) -> Array:
    """A map by means over squares."""
    if weights.shape[-1] == 1:
        return weights
    times = weights.shape[-1] // side
    b, k = weights.shape[:2]
    return weights.reshape(b, k, side, times, side, times).mean((3, 5))
