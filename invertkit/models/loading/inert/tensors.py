"""From descriptions to plain values: each tensor checked against the bytes that it claims."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any, Final, final

import torch
from torch import Tensor

from invertkit.models.loading.inert.faults import DamagedError, not_whole
from invertkit.models.loading.inert.unpickler import DEPTH, Storage, Thing, natural

_DIMENSIONS: Final = 64  # PyTorch's own limit
_VALUES: Final = 1_000_000
_NOT_WEIGHTS: Final = ("optim", "sched", "amp", "scaler", "rng")


@final
class Tensors:
    """Turns descriptions into plain values.

    Args:
        numbers: The bytes of a storage, from its first number to the last that is asked for.
    """

    def __init__(self, numbers: Callable[[Storage], bytes]) -> None:
        self._numbers = numbers
        self._read: dict[str, Tensor] = {}
        self._seen = 0

    # A few bytes of pickle make a container that holds itself a million times: memos cost nothing
    # there, but every value that is walked through costs here.
    def _count(self, values: int, depth: int) -> None:
        self._seen += values
        if depth > DEPTH or self._seen > _VALUES:
            raise DamagedError("containers inside each other without end")

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Tensors, numbers, text and their containers; None for what is neither."""
        self._count(1, depth)
        if isinstance(value, Mapping):
            self._count(len(value), depth)
            return {
                key: None if depth < 2 and _aside(key) else self.plain(inner, depth + 1)
                for key, inner in value.items()
                if isinstance(key, str | int)
            }
        if isinstance(value, list | tuple):
            return [self.plain(inner, depth + 1) for inner in value]
        if not isinstance(value, Thing):
            return value if isinstance(value, str | int | float | bool) else None
        if value.origin == "collections.OrderedDict":
            return self.plain(dict(_pairs(value)), depth + 1)
        if value.origin.startswith("torch._utils._rebuild_"):
            return self._tensor(value, depth)
        if isinstance(value.state, Mapping) and "_parameters" in value.state:
            return dict(self._module(value.state, "", depth))
        return None

    def _module(self, state: Mapping[Any, Any], prefix: str, depth: int) -> Iterator[Any]:
        """The tensors of a pickled network, by the names of its state dict."""
        # Buffers that a state dict would not have either; the set is pickled as a call.
        passing = state.get("_non_persistent_buffers_set")
        if isinstance(passing, Thing):
            passing = passing.arguments[0] if passing.arguments else ()
        passing = frozenset(passing or ())
        for table in ("_parameters", "_buffers"):
            inner = self.plain(state.get(table), depth + 1) or {}
            yield from (
                (f"{prefix}{name}", value)
                for name, value in inner.items()
                if isinstance(value, Tensor) and name not in passing
            )
        children = state.get("_modules")
        if isinstance(children, Thing):
            children = dict(_pairs(children))
        self._count(len(children or {}) + len(passing), depth)
        for name, child in (children or {}).items():
            if isinstance(child, Thing) and isinstance(child.state, Mapping):
                yield from self._module(child.state, f"{prefix}{name}.", depth + 1)

    def _tensor(self, call: Thing, depth: int) -> Tensor | None:
        kind, arguments = call.origin.removeprefix("torch._utils._rebuild_"), call.arguments
        if kind.startswith("parameter"):
            inner = self.plain(arguments[0], depth + 1) if arguments else None
            return inner if isinstance(inner, Tensor) else None
        if len(arguments) < 4 or not isinstance(arguments[0], Storage):
            raise DamagedError("a malformed tensor")
        storage, offset, size, stride = arguments[:4]
        size, stride = (
            tuple(v.arguments[0]) if isinstance(v, Thing) and v.arguments else v
            for v in (size, stride)
        )
        if not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride)):
            raise DamagedError("a malformed tensor")
        if len(size) > _DIMENSIONS or not natural(offset, *size, *stride):
            raise DamagedError("a malformed tensor")
        # The last number that size and stride reach must lie in the storage: a tensor is laid over
        # its bytes, and beyond them is memory of this process.
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        # Strides of 0 repeat a number; without this bound a copy of such a tensor could be of any
        # size.
        if prod(size) > storage.count or (prod(size) and last >= storage.count):
            raise DamagedError("a tensor reaches beyond its data")
        if not prod(size):
            return torch.empty(size, dtype=storage.dtype)
        return self._flat(storage).as_strided(size, stride, storage.start + offset)

    def _flat(self, storage: Storage) -> Tensor:
        """The numbers that a storage is a part of; its bytes are read once, whoever asks."""
        last = (storage.start + storage.count) * storage.dtype.itemsize
        if storage.key not in self._read:
            data = bytearray(self._numbers(storage))
            self._read[storage.key] = torch.frombuffer(data, dtype=torch.uint8)
        whole = self._read[storage.key]
        if len(whole) < last:
            raise not_whole(storage.key)
        return whole[:last].view(storage.dtype)


def _aside(key: Any) -> bool:
    """Whether it is state of the training, whose tensors need not be read."""
    return isinstance(key, str) and key.split("_")[0].startswith(_NOT_WEIGHTS) and "." not in key


def _pairs(thing: Thing) -> Iterator[tuple[Any, Any]]:
    """Items of an ordered dictionary, whether given one by one or all at once."""
    for given in thing.arguments[:1]:
        if isinstance(given, list | tuple):
            yield from (tuple(pair) for pair in given if len(pair) == 2)
    yield from ((key, value) for key, value in thing.items)


assert sys.byteorder == "little", "tensors are read as little-endian"  # noqa: S101
