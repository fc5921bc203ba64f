"""What a piece of PyTorch code does to tensors, recorded once and done again without Python.

A tape holds the operations below autograd: forward, backward and update as one flat list. Tensors
that existed before the recording are taken by reference, so a replay reads what they hold now and
writes where the code wrote; numbers from Python are frozen. That is what a CUDA graph records too:
a piece that a tape takes can be captured, and what would break a capture is refused here with its
reason, on any device.

Operations that depend on nothing that changes (a layout of frozen weights, a mask at the size of
a layer) are done once, and again only when the tensors behind them have been written to.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
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


class UnrecordableError(Exception):
    """The code does something that a replay could not do again; the message says what."""


@final
class Tape:
    """The operations of one recording.

    `record` makes it. `replay` does them again.

    Args:
        recorder: That has seen the code run.
        volatile: Tensors that others write to between replays.
    """

    def __init__(self, recorder: _Recorder, volatile: Iterable[Tensor] = ()) -> None:
        graph = recorder.graph
        graph.output(None)
        graph.eliminate_dead_code()
        graph.lint()
        self._written = recorder.written_tensors()
        self.operations = sum(node.op == "call_function" for node in graph.nodes)
        written = recorder.written | {recorder.identity(tensor) for tensor in volatile}
        steady = _steady(graph, recorder.storages, written)
        self._fixed, self._moving, kept = _split(graph, steady)
        held = recorder.held
        self._fixed_inputs = [held[node.name] for node in self._fixed.graph.find_nodes(op=_INPUT)]
        self._inputs = [
            held[node.name]
            for node in self._moving.graph.find_nodes(op=_INPUT)
            if node.name not in kept
        ]
        self._values: list[Tensor] = []
        self._versions: list[int] = []
        self.hoisted = sum(node.op == "call_function" for node in self._fixed.graph.nodes)
        self._run: Callable[..., Any] = self._moving

    @property
    def written(self) -> list[Tensor]:
        """The tensors from before the recording that a replay changes."""
        return self._written

    def refresh(self) -> None:
        """Do the operations that depend on nothing that changes, if something did."""
        versions = [tensor._version for tensor in self._fixed_inputs]
        if self._values and versions == self._versions:
            return
        with torch.no_grad():
            fresh = [value.detach() for value in self._fixed(*self._fixed_inputs)]
            if self._values:  # in place, for graphs that know where the old ones lie
                for old, new in zip(self._values, fresh, strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.copy_(new)
            else:
                self._values = fresh
        self._versions = versions

    def replay(self) -> None:
        """Do all operations again on the tensors as they are now."""
        self.refresh()
        self.run()

    def run(self) -> None:
        """The operations that depend on what changes; `refresh` comes first."""
        with torch.no_grad():
            self._run(*self._values, *self._inputs)

    def compile(self) -> None:
        """Let Inductor fuse them. The first replay after this takes a minute or so."""
        self._run = torch.compile(self._moving, fullgraph=True, dynamic=False)

    def plain(self) -> None:
        """Take `compile` back."""
        self._run = self._moving


def record(code: Callable[[], object], *, volatile: Sequence[Tensor] = ()) -> Tape:
    """Run the code once and keep what it did.

    Args:
        code: Leaves its results in tensors that exist already; what it returns is lost.
        volatile: Tensors that others write to between replays. Writes elsewhere are noticed.

    Raises:
        UnrecordableError: It cannot be replayed. It has run nevertheless, to its end.
    """
    recorder = _Recorder()
    _recorders.append(recorder)
    try:
        with recorder, _Reads(recorder):
            code()
    finally:
        _recorders.remove(recorder)
    if recorder.refused:
        raise UnrecordableError(recorder.refused)
    return Tape(recorder, volatile)


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


_recorders: list[_Recorder] = []
_INPUT = "placeholder"
_SEED = torch.Tag.nondeterministic_seeded
_BY_VALUE = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


@final
class _Recorder(TorchDispatchMode):
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
        return next((n for n in self.graph.nodes if n.op != _INPUT), self.graph._root)

    def _keep(self, node: fx.Node, out: Any) -> None:
        """The tensors that an operation gave; one that it only wrote to is known already."""
        if isinstance(out, Tensor):
            if out not in self._nodes:
                self._make(node, out)
        elif isinstance(out, tuple | list):
            found: set[int] = set()
            for index, each in enumerate(out):
                if isinstance(each, Tensor) and each not in self._nodes:
                    self._make(self.graph.call_function(operator.getitem, (node, index)), each)
                if isinstance(each, Tensor):
                    found.add(self.identity(each))
            self.storages[node] = frozenset(found)
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
        storage = StorageWeakRef(tensor.untyped_storage())
        known = self._identities.get(storage.cdata)
        if known is None or known[0].expired():
            known = self._identities[storage.cdata] = (storage, self._count)
            self._count += 1
        return known[1]

    def _writes(self, func: Any, args: Any, kwargs: dict[str, Any]) -> list[int]:
        found = []
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = args[i] if i < len(args) else kwargs.get(argument.name)
                found += [self.identity(v) for v in tree_leaves(value) if isinstance(v, Tensor)]
        return found

    def written_tensors(self) -> list[Tensor]:
        """Tensors from before the recording whose memory it has written to."""
        return [tensor for tensor in self.held.values() if self.identity(tensor) in self.written]


@final
class _Reads(TorchFunctionMode):
    """Sees what reads a tensor without an operation."""

    def __init__(self, recorder: _Recorder) -> None:
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
    if _SEED in func.tags and "scaled_dot_product" not in name:
        return f"it draws from a global generator ({name}); draw from the view or `Randomness`"
    if "batch_norm" in name and "backward" not in name:
        given = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | kwargs
        if given.get("training", given.get("train")) and given.get("running_mean") is not None:
            return f"it trains statistics of a batch norm ({name})"
    return ""


def _steady(
    graph: fx.Graph, storages: dict[fx.Node, frozenset[int]], written: set[int]
) -> set[fx.Node]:
    """Nodes that would give the same in every replay."""
    steady: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "output" or storages.get(node, frozenset()) & written:
            continue
        if node.op == _INPUT or (
            not node.is_impure() and all(source in steady for source in node.all_input_nodes)
        ):
            steady.add(node)
    return steady


def _split(
    graph: fx.Graph, steady: set[fx.Node]
) -> tuple[fx.GraphModule, fx.GraphModule, set[str]]:
    """A module that gives the steady values that are used, and one that takes them first."""
    fixed, moving = fx.Graph(), fx.Graph()
    there: dict[fx.Node, fx.Node] = {}
    here: dict[fx.Node, fx.Node] = {}
    used = {
        node
        for node in graph.nodes
        if node in steady
        and node.op != _INPUT
        and any(user not in steady and user.op != "output" for user in node.users)
    }
    kept: set[str] = set()
    for node in graph.nodes:
        if node in used:
            place = moving.placeholder(f"kept_{node.name}")
            here[node] = place
            kept.add(place.name)
    for node in graph.nodes:
        if node.op == "output":
            continue
        if node in used or (node in steady and any(user in steady for user in node.users)):
            there[node] = fixed.node_copy(node, there.__getitem__)
        if node not in steady or (
            node.op == _INPUT and any(user not in steady for user in node.users)
        ):
            here[node] = moving.node_copy(node, here.__getitem__)
    fixed.output(tuple(there[node] for node in graph.nodes if node in used))
    moving.output(None)
    fixed.eliminate_dead_code()
    return fx.GraphModule({}, fixed), fx.GraphModule({}, moving), kept
