"""The published Chainer files: their names in PyTorch's words, spectral norms divided out.

Every entry of a file is accounted for: it becomes a weight, it serves a spectral norm, it is known
to serve nothing here and is checked and left out, or the file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import WeightsError
from invertkit.models.generators.sngan.discriminator import SNGANDiscriminator
from invertkit.models.generators.sngan.encoder import SNGANEncoder
from invertkit.models.generators.sngan.generator import SNGANGenerator
from invertkit.models.loading.npz_file import read_npz
from invertkit.models.loading.weights_file import load_into

Net = TypeVar("Net", bound=nn.Module)
_LEAVES: Final[Mapping[str, str]] = {
    "W": "weight", "b": "bias", "gamma": "weight", "beta": "bias",
    "avg_mean": "running_mean", "avg_var": "running_var",
}  # fmt: skip
AUXILIARY: Final = ("lA1", "lA2", "lB1", "lB2", "preluW", "preluMiddleW", "_fast_alpha")
"""Links of the auxiliary networks, which are stored together with a generator."""


def load_generator(path: Path) -> SNGANGenerator:
    """A generator from `ResNetGenerator_*.npz`, or from `ResNetAuxABGenerator_*.npz`.

    The second kind has the auxiliary networks of ζ beside the generator; they are left out.

    Args:
        path: The file. Size, channels, latent and classes follow from its shapes.

    Raises:
        WeightsError: Missing, damaged, or not exactly the weights of such a generator.
    """
    entries = {
        key: value
        for key, value in read_npz(path).items()
        if key.partition("/")[0] not in AUXILIARY
    }
    name, what = str(path), "an SNGAN generator"
    start = entry(entries, "l1/W", dims=2, name=name, what=what)
    table = entry(entries, "block2/b1/gammas/W", dims=2, name=name, what=what)
    depth = _depth(entries, {6: 128, 7: 256}, name=name, what=what)
    last = entry(entries, f"l{7 if depth == 128 else 8}/W", dims=4, name=name, what=what)
    return _filled(
        lambda: SNGANGenerator(
            depth, channels=last.shape[1], latent=start.shape[1], classes=len(table)
        ),
        plain_names(entries, name=name),
        name=name,
    )


def load_discriminator(path: Path) -> SNGANDiscriminator:
    """A discriminator from `SNResNetProjectionDiscriminator_*.npz`.

    Args:
        path: The file. Size, channels and classes follow from its shapes.

    Raises:
        WeightsError: Missing, damaged, or not exactly the weights of such a discriminator.
    """
    entries = read_npz(path)
    name, what = str(path), "an SNGAN discriminator"
    first = entry(entries, "block1/c1/W", dims=4, name=name, what=what)
    table = entry(entries, "l_y/W", dims=2, name=name, what=what)
    size = _depth(entries, {6: 128, 7: 256}, name=name, what=what)
    return _filled(
        lambda: SNGANDiscriminator(size, channels=len(first), classes=len(table)),
        plain_names(entries, name=name),
        name=name,
    )


def load_encoder(path: Path) -> SNGANEncoder:
    """An encoder from `ResNetEncoder_*.npz`.

    The encoder of 128 pixels has a batch norm `b7` that no picture ever passes; it is left out.

    Args:
        path: The file. Size, channels, latent and classes follow from its shapes.

    Raises:
        WeightsError: Missing, damaged, or not exactly the weights of such an encoder.
    """
    entries = read_npz(path)
    name, what = str(path), "an SNGAN encoder"
    size = _depth(entries, {6: 128, 7: 256}, name=name, what=what)
    ends = ("l1/W", "l7/W") if size == 128 else ("block1/W", "l8_enc/W")
    first = entry(entries, ends[0], dims=4, name=name, what=what)
    last = entry(entries, ends[1], dims=2, name=name, what=what)
    table = entry(entries, "block2/b1/gammas/W", dims=2, name=name, what=what)
    for leaf in ("gamma", "beta", "avg_mean", "avg_var", "N") if size == 128 else ():
        spare = entries.pop(f"b7/{leaf}", None)
        if spare is not None and spare.numel() not in (1, last.shape[1]):
            raise WeightsError(
                f"{name}: b7/{leaf} has {spare.numel()} numbers; expected {last.shape[1]}."
            )
    return _filled(
        lambda: SNGANEncoder(size, channels=len(first), latent=len(last), classes=len(table)),
        plain_names(entries, name=name),
        name=name,
    )


def entry(entries: Mapping[str, Tensor], key: str, *, dims: int, name: str, what: str) -> Tensor:
    """An entry from which a network's shape follows.

    Raises:
        WeightsError: It is missing or has another number of axes.
    """
    value = entries.get(key)
    if value is None or value.ndim != dims:
        fault = "has no" if value is None else f"has {value.ndim} axes in"
        raise WeightsError(
            f"{name}: is no Chainer file of {what}: it {fault} {key}. Its entries begin with "
            f"{', '.join(sorted(entries)[:3]) or 'nothing'}."
        )
    return value


def _depth(entries: Mapping[str, Tensor], sizes: Mapping[int, int], *, name: str, what: str) -> int:
    """The side of the pictures, from the number of the last block."""
    numbers = [int(at[1]) for key in entries if (at := re.match(r"block(\d+)/", key))]
    size = sizes.get(max(numbers, default=0))
    if size is None:
        raise WeightsError(
            f"{name}: is no Chainer file of {what}: it has {max(numbers, default=0)} blocks; "
            "expected 6 for 128 pixels, or 7 for 256."
        )
    return size


def plain_names(entries: Mapping[str, Tensor], *, name: str) -> dict[str, Tensor]:
    """A Chainer file's entries as a state dict.

    `block2/c1/W` becomes `block2.c1.weight`, `b7/gamma` `b7.weight`, `…/avg_mean` `….running_mean`;
    below a conditional norm the statistics stand in `….norm`. Shapes are the same in both. Weights
    beside which `u` stands are divided by their spectral norm, as `without_spectral_norm` says.
    `N` counts batches of a fine-tuning and is left out.

    Args:
        entries: By their names.
        name: Of the file, for messages.

    Raises:
        WeightsError: An entry has no known ending.

    Example:
        >>> entries = {"c/W": torch.tensor([[3.0]]), "c/u": torch.ones(1, 1), "b/N": torch.zeros(1)}
        >>> plain_names(entries, name="f")
        {'c.weight': tensor([[1.]])}
    """
    state: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, value in entries.items():
        link, _, leaf = key.rpartition("/")
        place = link.replace("/", ".")
        if leaf in ("N", "u"):
            continue
        if leaf not in _LEAVES:
            unknown.append(key)
            continue
        if leaf.startswith("avg_") and f"{link}/gammas/W" in entries:
            place += ".norm"
        if leaf == "W" and f"{link}/u" in entries:
            value = without_spectral_norm(value, entries[f"{link}/u"], name=f"{name}: {key}")
        state[f"{place}.{_LEAVES[leaf]}"] = value.float()
    lost = [key for key in entries if key.endswith("/u") and f"{key[:-2]}/W" not in entries]
    if unknown or lost:
        raise WeightsError(
            f"{name}: {len(unknown + lost)} entries are not known from SNGAN's files "
            f"({', '.join((unknown + lost)[:3])})."
        )
    return state


def without_spectral_norm(weight: Tensor, vector: Tensor, *, name: str) -> Tensor:
    """A weight divided by its spectral norm, estimated as the released code does at evaluation.

    One power iteration from the stored vector: `v = û W / |û W|`, `u = v Wᵀ / |v Wᵀ|`, and the norm
    is `u W vᵀ`, W with all axes but the first flattened. In double precision.

    Args:
        weight: `(n, …)`.
        vector: The stored û, `(1, n)`.
        name: For messages.

    Raises:
        WeightsError: They do not fit, or give no positive norm.

    Example:
        >>> without_spectral_norm(torch.eye(2) * 4, torch.tensor([[1.0, 0.0]]), name="c/W")
        tensor([[1., 0.],
                [0., 1.]])

    Source: Miyato et al. 2018 (arXiv:1802.05957), Algorithm 1.
    """
    matrix = weight.double().flatten(1)
    if tuple(vector.shape) != (1, len(matrix)):
        raise WeightsError(
            f"{name}: its vector u is {tuple(vector.shape)}, expected {(1, len(matrix))}."
        )
    right = F.normalize(vector.double() @ matrix, dim=1)
    left = F.normalize(right @ matrix.T, dim=1)
    norm = float((left @ matrix @ right.T).item())
    if not 0 < norm < float("inf"):
        raise WeightsError(
            f"{name}: its spectral norm is {norm:g} by the stored vector; expected a positive "
            "number."
        )
    return (weight.double() / norm).float()


def _filled(make: Callable[[], Net], state: Mapping[str, Tensor], *, name: str) -> Net:
    """A network with the weights of a file; frozen, in evaluation mode."""
    with torch.device("meta"):
        net = make()
    net.to_empty(device="cpu")  # nothing is drawn: every entry comes from the file
    load_into(net, state, name=name)
    for key, value in net.named_buffers():
        if key.endswith("num_batches_tracked"):  # no entry of the files, so still unset
            value.zero_()
    return net.eval().requires_grad_(False)
