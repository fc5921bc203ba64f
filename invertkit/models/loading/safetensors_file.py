"""Safetensors files: their tensors, and the metadata in which ours say what network they are."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from invertkit.errors import InputError, WeightsError


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        WeightsError: Not a whole safetensors file.

    Example:
        >>> from invertkit.models.loading.hub import CARRIED
        >>> read_safetensors(CARRIED / "lite0-eps0.safetensors")["conv_stem.weight"].shape
        torch.Size([32, 3, 3, 3])
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: is not a whole safetensors file ({error}). Copy or download it again."
        ) from None


def metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself: texts by name.

    Raises:
        WeightsError: Not a whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: is not a whole safetensors file ({error}).") from None


def as_half(value: Tensor) -> Tensor:
    """Numbers as float16, unless one would overflow; integers as they are.

    Example:
        >>> import torch
        >>> as_half(torch.tensor([0.5])).dtype, as_half(torch.tensor([1e5])).dtype
        (torch.float16, torch.float32)
    """
    if not value.is_floating_point():
        return value
    half = value.half()
    return half if half.isfinite().equal(value.isfinite()) else value


def read_facts(path: Path) -> dict[str, Any]:
    """The metadata of one of our own files, whose values are JSON; others' values as they are.

    Raises:
        WeightsError: Not a whole safetensors file, or a value that we write is of another kind.

    Example:
        >>> from invertkit.models.loading.hub import CARRIED
        >>> read_facts(CARRIED / "lite0-eps0.safetensors")["architecture"]
        'timm:tf_efficientnet_lite0'
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


def save_in_order(tensors: Mapping[str, Tensor], path: Path, texts: Mapping[str, str]) -> None:
    """Write a safetensors file whose metadata are in the order of their names.

    The library writes them in an order that is another each time, so that equal weights would
    have unequal checksums.

    Args:
        tensors: By name.
        path: Of the file; what is there is overwritten.
        texts: The metadata.

    Raises:
        SafetensorError: It cannot be written.
        OSError: The path cannot be opened.
    """
    save_file(dict(tensors), path, metadata=dict(texts))
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(texts.items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        # The same entries are as long, but for the spaces that align the data behind them.
        if len(text) <= length:
            file.seek(8)
            file.write(text.ljust(length))


def write_safetensors(
    tensors: Mapping[str, Tensor], destination: Path, texts: Mapping[str, str]
) -> None:
    """Write a new safetensors file, whole or not at all.

    Args:
        tensors: By name.
        destination: Of the file; one that exists is left as it is.
        texts: The metadata.

    Raises:
        InputError: It exists, or cannot be written (no such folder, no space left, …).
    """
    spare = None
    try:
        handle, name = tempfile.mkstemp(dir=destination.parent, suffix=".part")
        os.close(handle)
        spare = Path(name)
        save_in_order(tensors, spare, {"format": "pt", **texts})
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
