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

from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import torch
from torch import Tensor, fx

from invertkit.core.recording.recorder import INPUT, Recorder, watching


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

    def __init__(self, recorder: Recorder, volatile: Iterable[Tensor] = ()) -> None:
        graph = recorder.graph
        graph.output(None)
        graph.eliminate_dead_code()
        graph.lint()
        self._written = recorder.written_tensors()
        self.operations = sum(node.op == "call_function" for node in graph.nodes)
        written = recorder.written | {recorder.identity(tensor) for tensor in volatile}
        steady = _steady(graph, recorder.storages, written)
        self._fixed, self._moving, steady_inputs = _split(graph, steady)
        held = recorder.held
        self._fixed_inputs = [held[node.name] for node in self._fixed.graph.find_nodes(op=INPUT)]
        self._inputs = [
            held[node.name]
            for node in self._moving.graph.find_nodes(op=INPUT)
            if node.name not in steady_inputs
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
        """Replay operation by operation again, as before `compile`."""
        self._run = self._moving


def record(code: Callable[[], object], *, volatile: Sequence[Tensor] = ()) -> Tape:
    """Run the code once and keep what it did.

    Args:
        code: Leaves its results in tensors that exist already; what it returns is lost.
        volatile: Tensors that others write to between replays. Writes elsewhere are noticed.

    Raises:
        UnrecordableError: It cannot be replayed. It has run nevertheless, to its end.

    Example:
        >>> x = torch.ones(())
        >>> tape = record(lambda: x.mul_(2))
        >>> tape.replay()
        >>> x.item()  # doubled by Python, and by the tape
        4.0
    """
    recorder = Recorder()
    with watching(recorder):
        code()
    if recorder.refused:
        raise UnrecordableError(recorder.refused)
    return Tape(recorder, volatile)


def _steady(
    graph: fx.Graph, storages: dict[fx.Node, frozenset[int]], written: set[int]
) -> set[fx.Node]:
    """Nodes that would give the same in every replay."""
    steady: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "output" or storages.get(node, frozenset()) & written:
            continue
        if node.op == INPUT or (
            not node.is_impure() and all(source in steady for source in node.all_input_nodes)
        ):
            steady.add(node)
    return steady


def _split(
    graph: fx.Graph, steady: set[fx.Node]
) -> tuple[fx.GraphModule, fx.GraphModule, set[str]]:
    """A module that gives the steady values that are used, and one that takes them first."""
    fixed, moving = fx.Graph(), fx.Graph()
    in_fixed: dict[fx.Node, fx.Node] = {}
    in_moving: dict[fx.Node, fx.Node] = {}
    used = {
        node
        for node in graph.nodes
        if node in steady
        and node.op != INPUT
        and any(user not in steady and user.op != "output" for user in node.users)
    }
    inputs: set[str] = set()
    for node in graph.nodes:
        if node in used:
            place = moving.placeholder(f"steady_{node.name}")
            in_moving[node] = place
            inputs.add(place.name)
    for node in graph.nodes:
        if node.op == "output":
            continue
        if node in used or (node in steady and any(user in steady for user in node.users)):
            in_fixed[node] = fixed.node_copy(node, in_fixed.__getitem__)
        if node not in steady or (
            node.op == INPUT and any(user not in steady for user in node.users)
        ):
            in_moving[node] = moving.node_copy(node, in_moving.__getitem__)
    fixed.output(tuple(in_fixed[node] for node in graph.nodes if node in used))
    moving.output(None)
    fixed.eliminate_dead_code()
    return fx.GraphModule({}, fixed), fx.GraphModule({}, moving), inputs
