"""Weights are data: reading them without running code, and checking every key."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from invertkit.errors import WeightsError
from invertkit.models.loading.file_kinds import kind_of, stranger
from invertkit.models.loading.inert.faults import DamagedError, ForeignNameError
from invertkit.models.loading.inert.read import read_inert
from invertkit.models.loading.layouts import Layout, find_layout
from invertkit.models.loading.safetensors_file import read_safetensors


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a PyTorch checkpoint, by bare parameter names.

    Checkpoints of training scripts are understood; `invertkit.models.loading.layouts` has the list.
    No code of the file is run.

    Args:
        path: The file.

    Raises:
        WeightsError: Missing, truncated, holding no tensors, or meant to run code.

    Example:
        >>> from invertkit.models.loading.hub import CARRIED
        >>> read_weights(CARRIED / "lite0-eps0.safetensors")["classifier.bias"].shape
        torch.Size([1000])
    """
    if path.is_file() and is_safetensors(path):
        return read_safetensors(path)
    return dict(read_layout(path).state)


def read_layout(path: Path) -> Layout:
    """The tensors of a weights file, and what was found around them.

    Raises:
        WeightsError: Missing, truncated, holding no tensors, or meant to run code.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file.")
    if is_safetensors(path):
        return find_layout(read_safetensors(path), name=str(path))
    return find_layout(_read_checkpoint(path), name=str(path))


def is_safetensors(path: Path) -> bool:
    """Whether a file that exists is in the format of safetensors, or shall be by its name.

    Example:
        >>> from invertkit.models.loading.hub import CARRIED
        >>> is_safetensors(CARRIED / "lite0-eps0.safetensors")
        True
    """
    kind = kind_of(path)
    if kind == "other" and path.suffix == ".safetensors":
        return not stranger(path) and path.read_bytes()[:1] != b"\x80"  # a pickle's first byte
    return kind == "safetensors"


def _read_checkpoint(path: Path) -> Any:
    """What a PyTorch checkpoint holds, by torch's own reader or, if that refuses, inertly."""
    if kind_of(path) == "torchscript":
        raise WeightsError(
            f"{path}: is a compiled network (TorchScript), which is code. If you trust where it "
            f"comes from, convert it once: `{_command(path)}`."
        )
    if told := stranger(path):
        raise WeightsError(f"{path}: {told}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles: they are read or refused
            return _loaded(path, weights_only=True)
    except pickle.UnpicklingError:
        pass  # it holds more than tensors, or is damaged: the next reader tells
    except Exception as error:  # a damaged pickle may raise anything
        raise WeightsError(_damaged(path, error)) from None
    try:
        return read_inert(path)
    except ForeignNameError as error:
        raise WeightsError(
            f"{path}: holds more than tensors, and reading it would run code from the file "
            f"({error}). If you trust where it comes from, convert it once: `{_command(path)}`."
        ) from None
    except DamagedError as error:
        raise WeightsError(_damaged(path, error)) from None


def _damaged(path: Path, error: Exception) -> str:
    first = str(error).strip().split("\n")[0]
    return (
        f"{path}: is not a whole PyTorch or safetensors file ({first:.120}). Copy or download it "
        "again."
    )


def _command(path: Path) -> str:
    return f"invertkit models convert {path} {path.with_suffix('.safetensors').name} --trust"


def read_trusted(source: Path) -> Layout:
    """The one place that may run a file's code, and only because the user said so.

    What can be read without is read without: its classes need not be there.

    Raises:
        WeightsError: It is damaged, holds no tensors, or needs code that is not installed.
    """
    if is_safetensors(source) or stranger(source):
        return read_layout(source)
    if kind_of(source) != "torchscript":
        with contextlib.suppress(WeightsError):
            return read_layout(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = _run_and_read(source)
    except (ImportError, AttributeError) as error:
        raise WeightsError(
            f"{source}: holds an object of a class that is not to be found here ({error}). Install "
            "the package that it comes from, or run this where its code lies."
        ) from None
    except Exception as error:
        raise WeightsError(_damaged(source, error)) from None
    return find_layout(_tensors_of(data), name=str(source))


def _run_and_read(source: Path) -> Any:
    if kind_of(source) == "torchscript":
        return torch.jit.load(source, map_location="cpu")
    return _loaded(source, weights_only=False)


def _loaded(path: Path, *, weights_only: bool) -> Any:
    # By its ending, PyTorch would take a renamed checkpoint for safetensors.
    if path.suffix == ".safetensors":
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=weights_only)
    mapped = weights_only and zipfile.is_zipfile(path)
    return torch.load(path, map_location="cpu", weights_only=weights_only, mmap=mapped)


def _tensors_of(data: Any) -> Any:
    """What was unpickled, with the state dict of every network in place of it."""
    if isinstance(data, nn.Module):
        return data.state_dict()
    if isinstance(data, Mapping):
        return {key: _tensors_of(value) for key, value in data.items()}
    return data


def load_into(net: nn.Module, state: Mapping[str, Tensor], *, name: str) -> None:
    """Fill `net` with `state`, which must fit it key by key and shape by shape.

    Counters of batch norm may be missing: files from before there were any lack them.

    Args:
        net: Is changed.
        state: Tensors by the names of its state dict; they take its precision.
        name: Of the file, for messages.

    Raises:
        WeightsError: It is of another network, or a value is not finite; the message shows which.

    Example:
        >>> net = nn.Linear(2, 1)
        >>> load_into(net, {"weight": torch.tensor([[1.0, 2.0]]), "bias": torch.zeros(1)}, name="w")
        >>> net(torch.ones(1, 2)).item()
        3.0
    """
    check_fit(net, state, name=name)
    before = net.state_dict()
    check_finite(state, name=name)
    fitting = type(before)({key: value.to(before[key].dtype) for key, value in state.items()})
    # Some networks read there of which version their state is, and would convert it for nothing.
    vars(fitting)["_metadata"] = vars(before)["_metadata"]
    net.load_state_dict(fitting, strict=False)


def check_finite(state: Mapping[str, Tensor], *, name: str) -> None:
    """Complain of a value that is infinite or not a number.

    Raises:
        WeightsError: One is.

    Example:
        >>> check_finite({"bias": torch.tensor([0.0, 1.0])}, name="w.pt")
    """
    wild = [key for key, value in state.items() if not bool(value.isfinite().all())]
    if wild:
        raise WeightsError(
            f"{name}: {len(wild)} entries hold values that are not finite "
            f"({', '.join(wild[:3])}{', …' if len(wild) > 3 else ''}); the file is of no use."
        )


def misfits(net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """What of `state` does not fit `net`, by kind of fault; all empty if it fits.

    Example:
        >>> state = {"weight": torch.zeros(1, 3), "scale": torch.zeros(1)}
        >>> faults = misfits(nn.Linear(2, 1), state)
        >>> faults["missing"], faults["unknown"]
        (['bias'], ['scale'])
    """
    wanted = net.state_dict()
    both = [key for key in wanted if key in state]
    return {
        "missing": [
            key for key in wanted if key not in state and not key.endswith("num_batches_tracked")
        ],
        "unknown": [key for key in state if key not in wanted],
        "of another shape": [
            f"{key} is {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
            for key in both
            if wanted[key].shape != state[key].shape
        ],
        "of another type": [
            f"{key} is {state[key].dtype} instead of {wanted[key].dtype}"
            for key in both
            if wanted[key].is_floating_point() != state[key].is_floating_point()
        ],
    }


def check_fit(net: nn.Module, state: Mapping[str, Tensor], *, name: str) -> None:
    """Like `load_into`, but only check, so that `net` may lie on the meta device.

    Raises:
        WeightsError: It does not fit.
    """
    faults = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
        for what, keys in misfits(net, state).items()
        if keys
    ]
    if faults:
        raise WeightsError(
            f"{name}: belongs to another network than {type(net).__name__}: of "
            f"{len(net.state_dict())} entries, {'; '.join(faults)}. Name the architecture these "
            "weights were trained for."
        )


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cited(path: Path) -> str:
    """A file for a description: its name, and enough of its checksum to tell it from others."""
    return f"{path.name}, sha256 {sha256(path)[:12]}"
