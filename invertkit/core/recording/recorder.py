"""What PyTorch code does below autograd, written down while it happens."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, final

import torch
from torch import Tensor, fx
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

aten = torch.ops.aten

INPUT = "placeholder"
"""The sort of node that stands for a tensor from before the recording."""


@contextmanager
def watching(recorder: Recorder) -> Iterator[None]:
    """Everything done inside goes to the recorder too."""
    _recorders.append(recorder)
    try:
        with recorder, ReadWatch(recorder):
            yield
    finally:
        _recorders.remove(recorder)


def recording() -> bool:
    """Whether what happens now is recorded."""
    return bool(_recorders)


def unrecorded() -> AbstractContextManager[None]:
    """What is done inside is done, but not recorded: setting a tensor that replays only read."""
    return _set("paused", True)


def speaking_of(part: str) -> AbstractContextManager[None]:
    """Name the part whose code runs, for the message of a refusal."""
    return _set("part", part)


@contextmanager
def _set(attribute: str, value: object) -> Iterator[None]:
    """An attribute of whatever records, as before afterwards."""
    before = [(recorder, getattr(recorder, attribute)) for recorder in _recorders]
    for recorder, _ in before:
        setattr(recorder, attribute, value)
    try:
        yield
    finally:
        for recorder, old in before:
            setattr(recorder, attribute, old)


def refuse(reason: str) -> None:
    """Say that what is being recorded, if anything is, cannot be replayed."""
    for recorder in _recorders:
        recorder.refuse(reason)


_recorders: list[Recorder] = []
_SEED = torch.Tag.nondeterministic_seeded
_BY_VALUE = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


@final
class Recorder(TorchDispatchMode):
    """Writes down every operation while it happens.

    A fault does not break the code that runs: it is kept in `refused`, and no tape is made.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = fx.Graph()
        self.held: dict[str, Tensor] = {}
        self.storages: dict[fx.Node, frozenset[int]] = {}
        self.written: set[int] = set()
        self.refused, self.part = "", ""
        self.paused = False
        self._nodes: Any = WeakTensorKeyDictionary()
        self._identities: dict[int, tuple[StorageWeakRef, int]] = {}
        self._made: set[int] = set()
        self._outside: set[int] = set()
        self._count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: nobody compiles this, and PyTorch would import its compiler to be told so."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "profiler" or self.paused or self.refused:
            return func(*args, **kwargs)
        self.refuse(_fault(func, args, kwargs))
        places = tree_map(self._place, (args, kwargs))
        self.written.update(self._writes(func, args, kwargs))
        self.paused = True  # what an operation does inside is its own affair
        try:
            out = func(*args, **kwargs)
        finally:
            self.paused = False
        if not self.refused:
            self._keep(self.graph.call_function(func, *places), out)
        return out

    def refuse(self, reason: str) -> None:
        """Keep the first reason there is."""
        if reason and not self.refused:
            self.refused = f"{self.part}: {reason}" if self.part else reason

    def _place(self, value: Any) -> Any:
        """The node of a tensor; a new input for one that the recording has not made."""
        if not isinstance(value, Tensor):
            return value
        if value in self._nodes:
            return self._nodes[value]
        # Memory that the recording made, seen through a tensor it has not: a replay would read what
        # lay there at the time of the recording.
        if self.identity(value) in self._made:
            self.refuse("it looks at memory of its own through a tensor made out of sight")
        with self.graph.inserting_before(self._first()):
            node = self.graph.placeholder(f"input{len(self.held)}")
        self.held[node.name] = value
        self._outside.add(self.identity(value))
        self._know(node, value)
        return node

    def _first(self) -> fx.Node:
        """Where inputs stand: before the first operation."""
        return next((n for n in self.graph.nodes if n.op != INPUT), self.graph._root)

    def _keep(self, node: fx.Node, out: Any) -> None:
        """The tensors that an operation gave; one that it only wrote to is known already."""
        if isinstance(out, Tensor):
            if out not in self._nodes:
                self._make(node, out)
        elif isinstance(out, tuple | list):
            identities: set[int] = set()
            for index, each in enumerate(out):
                if isinstance(each, Tensor) and each not in self._nodes:
                    self._make(self.graph.call_function(operator.getitem, (node, index)), each)
                if isinstance(each, Tensor):
                    identities.add(self.identity(each))
            self.storages[node] = frozenset(identities)
        if node not in self.storages:  # it returned what it wrote to
            self.storages[node] = frozenset(
                self.identity(leaf) for leaf in tree_leaves(out) if isinstance(leaf, Tensor)
            )

    def _make(self, node: fx.Node, tensor: Tensor) -> None:
        if self.identity(tensor) not in self._outside:  # else it is a look at an input
            self._made.add(self.identity(tensor))
        self._know(node, tensor)

    def _know(self, node: fx.Node, tensor: Tensor) -> None:
        self._nodes[tensor] = node
        self.storages[node] = frozenset({self.identity(tensor)})

    def identity(self, tensor: Tensor) -> int:
        """A number for the tensor's memory, shared by all that look at it, never given twice."""
        # By address and weak reference: an address alone is given again once its memory is freed.
        storage = StorageWeakRef(tensor.untyped_storage())
        known = self._identities.get(storage.cdata)
        if known is None or known[0].expired():
            known = self._identities[storage.cdata] = (storage, self._count)
            self._count += 1
        return known[1]

    def _writes(self, func: Any, args: Any, kwargs: dict[str, Any]) -> list[int]:
        written = []
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[i] if i < len(args) else kwargs.get(argument.name)
                written += [self.identity(v) for v in tree_leaves(value) if isinstance(v, Tensor)]
        return written

    def written_tensors(self) -> list[Tensor]:
        """Tensors from before the recording whose memory it has written to."""
        return [tensor for tensor in self.held.values() if self.identity(tensor) in self.written]


@final
class ReadWatch(TorchFunctionMode):
    """Sees what reads a tensor without an operation."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _READS and not self._recorder.paused:
            self._recorder.refuse(f"it reads numbers back into Python ({func.__name__})")
        return func(*args, **(kwargs or {}))


_READS = frozenset({Tensor.tolist, Tensor.numpy, Tensor.__array__})


def _fault(func: Any, args: Any, kwargs: dict[str, Any]) -> str:
    """Why an operation cannot be replayed; empty if it can."""
    name = str(func)
    if func is aten.index.Tensor or func is aten._index_put_impl_.default:
        places = [place for place in args[1] if place is not None]
        if any(place.dtype in (torch.bool, torch.uint8) for place in places):
            return f"it picks elements by a mask, whose count Python must know ({name})"
        return ""
    if func is aten._local_scalar_dense.default or func is aten.is_nonzero.default:
        return f"it reads a number back into Python ({name})"
    if any(tag in func.tags for tag in _BY_VALUE):
        return f"Python must know a value to go on ({name})"
    # Attention counts as random for the dropout that it could have.
    if _SEED in func.tags and "scaled_dot_product" not in name:
        return f"it draws from a global generator ({name}); draw from the view or `Randomness`"
    if "batch_norm" in name and "backward" not in name:
        given = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | kwargs
        if given.get("training", given.get("train")) and given.get("running_mean") is not None:
            return f"it trains statistics of a batch norm ({name})"
    return ""
