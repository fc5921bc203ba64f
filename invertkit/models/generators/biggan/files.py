"""BigGAN-deep's published files: PyTorch's or safetensors, spectral norms divided out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from invertkit.errors import WeightsError
from invertkit.models.generators.biggan.config import WIDTHS, BigGANConfig
from invertkit.models.generators.biggan.network import BigGANDeep
from invertkit.models.loading.weights_file import load_into, read_weights

_WEIGHTS: Final = ("pytorch_model.bin", "model.safetensors")
_NORMED: Final = ("weight_orig", "weight_u", "weight_v")


def load_biggan(
    path: Path, *, config: BigGANConfig | None = None, truncation: float = 1.0
) -> BigGANDeep:
    """A published BigGAN-deep from a local file; frozen, in evaluation mode, on the CPU.

    Spectral norms are divided out: a weight becomes `weight_orig / (weight_u · W weight_v)`, W
    being `weight_orig` with all but its first dimension flattened, and the vectors taken as they
    are stored. Files whose weights are plain already, such as the `state_dict` of what this
    returns, are read as well.

    Args:
        path: A folder with `pytorch_model.bin` (or `model.safetensors`), or one such file. No code
            of it is run.
        config: The network's shape. Otherwise what `config.json` beside the weights says, or, if
            there is none, the published one with as many layers as the file has.
        truncation: As of `BigGANDeep`.

    Raises:
        WeightsError: Missing, damaged, or not exactly the weights of this network: every entry must
            be known, of the right shape, and none may lack.
        InputError: The truncation is not in (0, 1].
    """
    path = Path(path)
    if path.is_dir():
        files = [path / name for name in _WEIGHTS if (path / name).is_file()]
        if not files:
            raise WeightsError(f"{path}: holds neither {_WEIGHTS[0]} nor {_WEIGHTS[1]}.")
        path = files[0]
    beside = path.with_name("config.json")
    if config is None and path.is_file() and beside.is_file():
        config = BigGANConfig.from_json(beside)
    state = without_spectral_norm(read_weights(path), name=str(path))
    if config is None:
        config = _published(state, name=str(path))
    with torch.device("meta"):
        net = BigGANDeep(config, truncation=truncation)
    net.to_empty(device="cpu")  # nothing is drawn: every entry comes from the file
    load_into(net, state, name=str(path))
    return net.eval().requires_grad_(False)


def without_spectral_norm(state: Mapping[str, Tensor], *, name: str) -> dict[str, Tensor]:
    """A state dict with plain weights in place of `weight_orig`, `weight_u` and `weight_v`.

    Counters of batches, which no evaluation reads, are left out.

    Args:
        state: Its other entries are handed on as they are.
        name: Of the file, for messages.

    Raises:
        WeightsError: One of the three is missing, of another shape, or they give no positive norm.

    Example:
        >>> state = {
        ...     "conv.weight_orig": torch.tensor([[3.0]]),
        ...     "conv.weight_u": torch.ones(1),
        ...     "conv.weight_v": torch.ones(1),
        ... }
        >>> without_spectral_norm(state, name="a file")
        {'conv.weight': tensor([[1.]])}

    Source: Miyato et al. 2018 (arXiv:1802.05957), as `torch.nn.utils.spectral_norm` stores it.
    """
    plain = {
        key: value
        for key, value in state.items()
        if not key.endswith((*_NORMED, "num_batches_tracked"))
    }
    for stem in dict.fromkeys(key.rpartition(".")[0] for key in state if key.endswith(_NORMED)):
        parts = [f"{stem}.{part}" for part in _NORMED]
        lacking = [key for key in parts if key not in state]
        if lacking:
            raise WeightsError(
                f"{name}: cannot divide out a spectral norm, as {' and '.join(lacking)} is missing."
            )
        original, left, right = (state[key] for key in parts)
        matrix = original.double().flatten(1) if original.ndim > 1 else original.new_empty(0, 0)
        if left.shape != matrix.shape[:1] or right.shape != matrix.shape[1:]:
            raise WeightsError(
                f"{name}: {parts[0]} is {tuple(original.shape)}, which {parts[1]} "
                f"{tuple(left.shape)} and {parts[2]} {tuple(right.shape)} do not fit."
            )
        # In float64, since every weight of the layer is divided by this one sum.
        norm = float(left.double() @ matrix @ right.double())
        if not 0 < norm < float("inf"):
            raise WeightsError(
                f"{name}: the spectral norm of {parts[0]} is {norm:g} by its stored vectors; "
                "expected a positive number."
            )
        plain[f"{stem}.weight"] = original / norm
    return plain


def _published(state: Mapping[str, Any], *, name: str) -> BigGANConfig:
    """The published network with as many layers as `state` has."""
    layers = {key.split(".")[2] for key in state if key.startswith("generator.layers.")}
    for resolution in WIDTHS:
        config = BigGANConfig.of(resolution)
        if len(layers) == len(config.layers) + 1:  # and the attention
            return config
    raise WeightsError(
        f"{name}: has {len(layers)} entries `generator.layers.*`; BigGAN-deep has 11 for 128 "
        "pixels, 13 for 256 and 15 for 512. Put the config.json of these weights beside them."
    )
