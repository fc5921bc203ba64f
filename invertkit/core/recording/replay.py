"""Steps that are alike are taken by Python once or twice, recorded, and then replayed.

A kind of step is what does the same operations: a stage, the terms that count, what the players do
and what the objectives do. On a CPU the recorded operations are done one after the other without
autograd and Python in between; on CUDA they are captured in a graph and launched as one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

import torch
from torch import Tensor

from invertkit.core.log import log
from invertkit.core.recording.tape import Tape, UnrecordableError, record

Compile = Literal["off", "graph", "inductor", "auto"]
"""How steps are taken. `off`: by Python. `graph`: replayed, on CUDA as a CUDA graph. `inductor`:
compiled before that, which takes a minute for each kind of step. `auto`: as `graph`."""

COMPILE: tuple[Compile, ...] = ("auto", "off", "graph", "inductor")
WORTH = 12
"""Steps of a kind that must be to come for a recording to pay."""
_CLOSE = 1e-2  # of losses whose sums come in another order, after players that divide by noise


@dataclass
class _Kind:
    """What is known of one kind of step."""

    taken: int = 0
    readings: Tensor | None = None
    tape: Tape | None = None
    checked: bool = False
    refused: bool = False
    graph: Any = None


@final
@dataclass
class Replays:
    """The steps of one run.

    Args:
        compile: How to take them.
        device: Where.
    """

    compile: Compile
    device: torch.device
    replayed: int = field(default=0, init=False)
    """Steps that were replayed so far."""
    paused: bool = field(default=False, init=False)
    """Whether steps are taken by Python for now, as while a single one is timed."""

    def __post_init__(self) -> None:
        self.paused = self.compile == "off"
        self._kinds: dict[Hashable, _Kind] = {}
        self.said: list[str] = []
        """What the user was told, each sentence once."""
        self._pool: Any = None
        self._stream: Any = None

    def forget(self) -> None:
        """The tensors of the steps so far are gone, so are their recordings."""
        self._kinds.clear()
        self._pool = None

    def say(self, sentence: str) -> None:
        """Tell the user once."""
        if sentence not in self.said:
            self.said.append(sentence)
            log.info(sentence)

    def take(
        self,
        kind: Hashable,
        step: Callable[[], Tensor],
        *,
        to_come: Callable[[], int],
        volatile: Callable[[], Sequence[Tensor]],
        name: str = "",
    ) -> Tensor:
        """Take a step and return what it read, a tensor of its own.

        Args:
            kind: Of the step.
            step: Takes it by Python, and returns its readings, always of one shape.
            to_come: How many steps of this kind follow, this one included.
            volatile: What is written to between steps.
            name: What to call the kind.
        """
        # By Python to warm up, then recorded, then checked against Python, then replayed.
        known = self._kinds.setdefault(kind, _Kind())
        known.taken += 1
        if self.paused or known.refused or known.taken <= self.warm_up:
            readings = step()
            known.readings = readings.clone()
            return readings
        if known.tape is None and to_come() < WORTH:
            return step()
        if known.tape is None or known.readings is None:
            return self._record(known, step, volatile(), name)
        if not known.checked:
            return self._check(known, known.tape, known.readings, step, name)
        self.replayed += 1
        if known.graph is None:
            known.tape.replay()
        else:
            known.tape.refresh()
            known.graph.replay()
        return known.readings.clone()

    @property
    def warm_up(self) -> int:
        """Steps of a kind before its recording: states are made, libraries choose their ways."""
        return 2 if self.device.type == "cuda" else 1

    def _record(
        self, known: _Kind, step: Callable[[], Tensor], volatile: Sequence[Tensor], name: str
    ) -> Tensor:
        """Take the step by Python, and keep what it did."""
        seen: list[Tensor] = []

        def code() -> None:
            seen.append(step())
            assert known.readings is not None  # noqa: S101 # from the warm-up
            known.readings.copy_(seen[0])

        try:
            known.tape = record(code, volatile=volatile)
        except UnrecordableError as error:
            self._refuse(known, name, str(error))
        return seen[0]

    def _check(
        self,
        known: _Kind,
        tape: Tape,
        readings: Tensor,
        step: Callable[[], Tensor],
        name: str,
    ) -> Tensor:
        """Take the step by Python and by the tape, from one state; they must agree."""
        before = [tensor.detach().clone() for tensor in tape.written]
        plain = step()
        wanted = [tensor.detach().clone() for tensor in tape.written]
        self._replay_from(tape, before, name)
        # A CPU does the same operations in the same order: one bit that differs is a fault. Where
        # kernels may add in another order, only what could not be rounding is.
        exact = self.device.type == "cpu" and self.compile != "inductor"
        if not _agree(readings, plain, 0.0 if exact else _CLOSE):
            self._refuse(known, name, "its losses came out otherwise when it was replayed")
        elif not all(
            _agree(now, then, 0.0) if exact else _moved_alike(was, now, then)
            for was, now, then in zip(before, tape.written, wanted, strict=True)
            if now is not readings
        ):
            self._refuse(known, name, "it left something else behind when it was replayed")
        else:
            known.checked = True
            if self.device.type == "cuda":
                known.graph = self._capture(tape, name)
            return plain
        _fill(tape.written, wanted)
        return plain

    def _replay_from(self, tape: Tape, before: Sequence[Tensor], name: str) -> None:
        """Replay for the first time, from a state; by Inductor if it is asked for and can."""
        _fill(tape.written, before)
        if self.compile == "inductor":
            tape.compile()
            try:
                self._first_replay(tape)
                return
            except Exception as error:  # whatever a compiler may raise
                self.say(
                    f"Inductor cannot compile {name} ({_first_line(error)}); replaying it as it is."
                )
            tape.plain()
            _fill(tape.written, before)
        self._first_replay(tape)

    def _first_replay(self, tape: Tape) -> None:
        """On CUDA beside the usual stream, where a capture will look for what libraries keep."""
        if self.device.type != "cuda":
            tape.replay()
            return
        self._stream = self._stream or torch.cuda.Stream(self.device)
        usual = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            tape.replay()
        usual.wait_stream(self._stream)

    def _capture(self, tape: Tape, name: str) -> Any:
        """The tape as one CUDA graph; None where CUDA refuses, so that it is replayed one by one.

        The graphs of a run share a pool of memory: no tensor but the given ones lives on from one
        to the next.
        """
        graph = torch.cuda.CUDAGraph()
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        try:
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._stream,
                capture_error_mode="thread_local",
            ):
                tape.run()
        except RuntimeError as error:
            self.say(f"CUDA does not capture {name} ({_first_line(error)}); replaying it unfused.")
            return None
        return graph

    def _refuse(self, known: _Kind, name: str, reason: str) -> None:
        known.refused, known.tape = True, None
        self.say(f"Steps are taken one by one ({name}): {reason}.")


def _fill(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for tensor, value in zip(tensors, values, strict=True):
            tensor.copy_(value)


def _agree(now: Tensor, then: Tensor, close: float) -> bool:
    """Whether two tensors are the same, but for `close` of their length."""
    if torch.equal(now, then):
        return True
    if not now.is_floating_point():
        return False
    same = now.isfinite() == then.isfinite()
    now, then = (x.detach().double().nan_to_num(0, 0, 0) for x in (now, then))
    return bool(same.all()) and bool((now - then).norm() <= close * then.norm())


def _moved_alike(was: Tensor, now: Tensor, then: Tensor) -> bool:
    """Whether both are finite at the same places and both differ, or not, from before.

    More cannot be asked where sums come in another order: Adam makes a whole step of a gradient
    that is nothing but rounding, as those of biases before a norm are.
    """
    same = torch.equal(now.isfinite(), then.isfinite())
    return same and torch.equal(was, now) == torch.equal(was, then)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
