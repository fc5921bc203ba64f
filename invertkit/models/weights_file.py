"""Weights are data: reading them without running code, and checking every key."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from invertkit.errors import InputError, WeightsError

_WRAPPERS = ("module.", "model.", "net.")
_DROPPED = ("attacker.", "normalizer.")
_NESTED = ("model", "state_dict", "model_state_dict")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a PyTorch checkpoint, by bare parameter names.

    Checkpoints of training scripts are understood: the state dict may lie under `model` or
    `state_dict`, its keys may carry `module.` or `model.`, and MadryLab's copies of the network
    inside their attacker, and its normaliser, are left out.

    Raises:
        WeightsError: Missing, truncated, holding no tensors, or needing code to be run.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file.")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise WeightsError(
                f"{path}: is not a whole safetensors file ({error}). Copy or download it again."
            ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles: they are read or refused
            data = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error) and "Unsupported" not in str(error):
            raise WeightsError(_damaged(path, error)) from None
        raise WeightsError(
            f"{path}: holds more than tensors, and reading it would run code from the file. If you "
            f"trust where it comes from, convert it once: `invertkit models convert {path} "
            f"{path.with_suffix('.safetensors').name} --trust`."
        ) from None
    except Exception as error:  # a damaged pickle may raise anything
        raise WeightsError(_damaged(path, error)) from None
    return bare_keys(data, name=str(path))


def _damaged(path: Path, error: Exception) -> str:
    first = str(error).strip().split("\n")[0]
    return (
        f"{path}: is not a whole PyTorch or safetensors file ({first:.120}). Copy or download it "
        "again."
    )


def bare_keys(data: Any, *, name: str) -> dict[str, Tensor]:
    """The state dict inside a checkpoint, without the prefixes of its wrappers.

    Raises:
        WeightsError: There is none.
    """
    for key in _NESTED:
        if isinstance(data, Mapping) and isinstance(data.get(key), Mapping):
            data = data[key]
            break
    state: dict[str, Tensor] = {}
    for key, value in data.items() if isinstance(data, Mapping) else ():
        bare = str(key)
        while bare.startswith(_WRAPPERS):
            bare = bare.split(".", 1)[1]
        if isinstance(value, Tensor) and not bare.startswith(_DROPPED):
            state[bare] = value
    if not state:
        raise WeightsError(f"{name}: holds no tensors by name; expected a state dict.")
    return state


def load_into(net: nn.Module, state: Mapping[str, Tensor], *, name: str) -> None:
    """Fill `net` with `state`, which must fit it key by key and shape by shape.

    Raises:
        WeightsError: It is of another network; the message shows what does not fit.
    """
    own = net.state_dict()
    missing = [key for key in own if key not in state and "num_batches_tracked" not in key]
    unknown = [key for key in state if key not in own]
    shapes = [
        f"{key} is {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    if missing or unknown or shapes:
        faults = [
            f"{len(keys)} {what} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
            for what, keys in (
                ("missing", missing),
                ("unknown", unknown),
                ("of another shape", shapes),
            )
            if keys
        ]
        raise WeightsError(
            f"{name}: belongs to another network than {type(net).__name__}: of {len(own)} entries, "
            f"{'; '.join(faults)}. Name the architecture these weights were trained for."
        )
    net.load_state_dict({key: value.to(own[key].dtype) for key, value in state.items()}, False)


def convert_weights(source: Path, destination: Path, *, trust: bool) -> int:
    """Write the tensors of a checkpoint as safetensors; how many there were.

    Args:
        source: A PyTorch checkpoint.
        destination: A `.safetensors` file to make.
        trust: Run the code that the checkpoint holds, if it holds any.

    Raises:
        WeightsError: It needs code and is not trusted, or is damaged.
        InputError: The destination exists or cannot be written.
    """
    if destination.exists():
        raise InputError(f"{destination}: exists already, and nothing is overwritten.")
    if destination.suffix != ".safetensors":
        raise InputError(f"{destination}: expected a name ending in .safetensors.")
    if trust and source.is_file():
        try:
            # The one place that may run a file's code, and only because the user said so.
            data = torch.load(source, map_location="cpu", weights_only=False)
        except Exception as error:
            raise WeightsError(_damaged(source, error)) from None
        state = bare_keys(data, name=str(source))
    else:
        state = read_weights(source)
    try:
        copies = {key: value.contiguous().clone() for key, value in state.items()}
        save_file(copies, destination)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{destination}: cannot be written ({error}).") from None
    return len(state)


def metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself.

    Raises:
        WeightsError: Not a whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: is not a whole safetensors file ({error}).") from None


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
