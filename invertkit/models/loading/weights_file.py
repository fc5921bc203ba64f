"""Weights are data: reading them without running code, and checking every key."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from invertkit.errors import InputError, WeightsError
from invertkit.models.loading.inert import DamagedError, ForeignNameError, read_inert
from invertkit.models.loading.layouts import Layout, find_layout


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a PyTorch checkpoint, by bare parameter names.

    Checkpoints of training scripts are understood; `invertkit.models.loading.layouts` has the list.

    Raises:
        WeightsError: Missing, truncated, holding no tensors, or meant to run code.
    """
    if path.suffix == ".safetensors" and path.is_file():
        return _read_safetensors(path)
    return dict(read_layout(path).state)


def read_layout(path: Path) -> Layout:
    """The tensors of a weights file, and what was found around them.

    Raises:
        WeightsError: Missing, truncated, holding no tensors, or meant to run code.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file.")
    if path.suffix == ".safetensors":
        return find_layout(_read_safetensors(path), name=str(path))
    return find_layout(_read_checkpoint(path), name=str(path))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: is not a whole safetensors file ({error}). Copy or download it again."
        ) from None


def _read_checkpoint(path: Path) -> Any:
    """What a PyTorch checkpoint holds, by torch's own reader or, if that refuses, inertly."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles: they are read or refused
            return torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError:
        pass  # it holds more than tensors, or is damaged: the next reader tells
    except Exception as error:  # a damaged pickle may raise anything
        raise WeightsError(_damaged(path, error)) from None
    try:
        return read_inert(path)
    except ForeignNameError as error:
        raise WeightsError(
            f"{path}: holds more than tensors, and reading it would run code from the file "
            f"({error}). If you trust where it comes from, convert it once: `invertkit models "
            f"convert {path} {path.with_suffix('.safetensors').name} --trust`."
        ) from None
    except DamagedError as error:
        raise WeightsError(_damaged(path, error)) from None


def _damaged(path: Path, error: Exception) -> str:
    first = str(error).strip().split("\n")[0]
    return (
        f"{path}: is not a whole PyTorch or safetensors file ({first:.120}). Copy or download it "
        "again."
    )


def load_into(net: nn.Module, state: Mapping[str, Tensor], *, name: str) -> None:
    """Fill `net` with `state`, which must fit it key by key and shape by shape.

    Counters of batch norm may be missing: files from before there were any lack them.

    Raises:
        WeightsError: It is of another network, or a value is not finite; the message shows which.
    """
    check_fit(net, state, name=name)
    own = net.state_dict()
    check_finite(state, name=name)
    fitting = type(own)({key: value.to(own[key].dtype) for key, value in state.items()})
    vars(fitting)["_metadata"] = vars(own)["_metadata"]  # some networks read their version there
    net.load_state_dict(fitting, strict=False)


def check_finite(state: Mapping[str, Tensor], *, name: str) -> None:
    """No value may be infinite or not a number.

    Raises:
        WeightsError: One is.
    """
    wild = [key for key, value in state.items() if not bool(value.isfinite().all())]
    if wild:
        raise WeightsError(
            f"{name}: {len(wild)} entries hold values that are not finite "
            f"({', '.join(wild[:3])}{', …' if len(wild) > 3 else ''}); the file is of no use."
        )


def misfits(net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """What of `state` does not fit `net`, by kind of fault; all empty if it fits."""
    own = net.state_dict()
    both = [key for key in own if key in state]
    return {
        "missing": [
            key for key in own if key not in state and not key.endswith("num_batches_tracked")
        ],
        "unknown": [key for key in state if key not in own],
        "of another shape": [
            f"{key} is {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in both
            if own[key].shape != state[key].shape
        ],
        "of another type": [
            f"{key} is {state[key].dtype} instead of {own[key].dtype}"
            for key in both
            if own[key].is_floating_point() != state[key].is_floating_point()
        ],
    }


def convert_weights(
    source: Path, destination: Path, *, trust: bool, architecture: str = ""
) -> dict[str, Any]:
    """Write the tensors of a checkpoint as safetensors, with what is needed to load it by itself.

    The destination appears whole or not at all.

    Args:
        source: A PyTorch checkpoint, or a safetensors file in another layout.
        destination: A `.safetensors` file to make.
        trust: Run the code that the checkpoint holds, if it holds any.
        architecture: What network it is, as `invertkit.models.classifiers.architectures.build`
            calls it; otherwise it is told from the names and shapes, where they are known ones.

    Returns:
        What was written into the metadata, and `tensors`, how many there are.

    Raises:
        WeightsError: It needs code and is not trusted, or is damaged, or is another network.
        InputError: The destination exists or cannot be written.
    """
    if destination.suffix != ".safetensors":
        raise InputError(f"{destination}: expected a name ending in .safetensors.")
    if destination.exists():
        raise InputError(f"{destination}: exists already, and nothing is overwritten.")
    layout = _read_trusted(source) if trust and source.is_file() else read_layout(source)
    facts = _facts_of(source, layout, architecture)
    tensors = {key: value.detach().contiguous().clone() for key, value in layout.state.items()}
    said = {key: json.dumps(value, ensure_ascii=False) for key, value in facts.items()}
    write_safetensors(tensors, destination, said)
    return {**facts, "tensors": len(tensors)}


def _facts_of(source: Path, layout: Layout, architecture: str) -> dict[str, Any]:
    """The metadata of a converted file; of a network that is not known, only where it is from."""
    from invertkit.models.classifiers import architectures
    from invertkit.models.classifiers.catalogue import CIFAR10, IMAGENET

    facts: dict[str, Any] = {"converted_from": source.name, "sha256_of_source": sha256(source)}
    if source.suffix == ".safetensors":
        facts = {**read_facts(source), **facts}
    name = architecture or facts.get("architecture") or architectures.recognise(layout.state)
    if not name:
        return facts
    classes = architectures.class_count(layout.state)
    with torch.device("meta"):
        net = architectures.build(name, classes, widths=facts.get("widths", ()))
    check_fit(net, layout.state, name=str(source))
    small = name.startswith("cifar")
    mean, std = CIFAR10 if small else IMAGENET
    named = architectures.class_names(name, classes)
    return {
        "architecture": name,
        "classes": list(named) or [f"class {i}" for i in range(classes)],
        "mean": list(layout.mean or mean),
        "std": list(layout.std or std),
        "size": 32 if small else 224,
        **facts,
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


def _read_trusted(source: Path) -> Layout:
    """The one place that may run a file's code, and only because the user said so."""
    if source.suffix == ".safetensors":
        return read_layout(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = torch.load(source, map_location="cpu", weights_only=False)
    except Exception as error:
        raise WeightsError(_damaged(source, error)) from None
    if isinstance(data, nn.Module):
        data = data.state_dict()
    elif isinstance(data, Mapping) and isinstance(data.get("model"), nn.Module):
        data = {**data, "model": data["model"].state_dict()}
    return find_layout(data, name=str(source))


def save_in_order(tensors: Mapping[str, Tensor], path: Path, said: Mapping[str, str]) -> None:
    """A safetensors file whose metadata are in the order of their names.

    The library writes them in an order that is another each time, so that equal weights would
    have unequal checksums.
    """
    save_file(dict(tensors), path, metadata=dict(said))
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(said.items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:  # the same entries, so it is, up to the spaces that fill the place
            file.seek(8)
            file.write(text.ljust(length))


def write_safetensors(
    tensors: Mapping[str, Tensor], destination: Path, said: Mapping[str, str]
) -> None:
    """A new safetensors file, whole or not at all.

    Raises:
        InputError: It exists, or cannot be written (no such folder, no space left, …).
    """
    spare = None
    try:
        handle, name = tempfile.mkstemp(dir=destination.parent, suffix=".part")
        os.close(handle)
        spare = Path(name)
        save_in_order(tensors, spare, {"format": "pt", **said})
        spare.chmod(0o644)
        _into_place(spare, destination)
    except FileExistsError:
        raise InputError(f"{destination}: exists already, and nothing is overwritten.") from None
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{destination}: cannot be written ({why}).") from None
    finally:
        if spare is not None:
            with contextlib.suppress(OSError):
                spare.unlink()


def _into_place(spare: Path, destination: Path) -> None:
    try:
        os.link(spare, destination)  # unlike a rename, this overwrites nothing
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if destination.exists():
            raise FileExistsError(destination) from None
        spare.rename(destination)


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


def read_facts(path: Path) -> dict[str, Any]:
    """The metadata of one of our own files, whose values are JSON; others' values as they are.

    Raises:
        WeightsError: Not a whole safetensors file, or a value that we write is of another kind.
    """
    facts: dict[str, Any] = {}
    for key, value in metadata(path).items():
        try:
            facts[key] = json.loads(value)
        except (ValueError, RecursionError):
            facts[key] = value
    facts.pop("format", None)
    for key, is_sound in _SOUND.items():
        if key in facts and not is_sound(facts[key]):
            raise WeightsError(
                f"{path}: its metadata are not those of a classifier (of its {key}). Make it again "
                "with `invertkit train classifier` or `invertkit models convert`."
            )
    return facts


def _three(values: Any) -> bool:
    return (
        isinstance(values, list)
        and len(values) == 3
        and all(isinstance(value, int | float) and isfinite(value) for value in values)
    )


def _count(value: Any) -> bool:
    return isinstance(value, int) and 0 < value <= 10_000


_SOUND: Final[Mapping[str, Callable[[Any], bool]]] = {
    "architecture": lambda value: isinstance(value, str) and value.isprintable(),
    "widths": lambda value: isinstance(value, list) and len(value) == 4 and all(map(_count, value)),
    "classes": lambda value: (
        isinstance(value, list) and all(isinstance(v, str) and v.isprintable() for v in value)
    ),
    "mean": _three,
    "std": lambda value: _three(value) and min(value) > 0,
    "size": _count,
}


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
