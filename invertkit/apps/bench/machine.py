"""The machine that something is measured on: its name, its limits, its clock, its memory."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import torch

from invertkit.apps.bench.cost import Cost
from invertkit.core.precision import Precision, products

Clock = Callable[[], float]
"""Seconds since some moment."""

_LONG: Final = 0.6  # seconds that a measurement of a limit may repeat for
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@final
@dataclass(frozen=True)
class Machine:
    """What measures, and what it can do at best.

    Args:
        device: As torch calls it.
        name: Of the processor that computes.
        cores: Hardware threads of the host.
        threads: That torch uses on the host.
        torch: Its version.
        precision: Of the products.
        flop_per_second: Of a square matrix product, large enough to be limited by nothing else.
        bytes_per_second: Read and written by a copy.
    """

    device: str
    name: str
    cores: int
    threads: int
    torch: str
    precision: str
    flop_per_second: float
    bytes_per_second: float

    def floor(self, cost: Cost) -> float:
        """Seconds that so much work takes at least here."""
        return max(cost.flop / self.flop_per_second, cost.product_bytes / self.bytes_per_second)


def measure_machine(device: torch.device, precision: Precision, clock: Clock) -> Machine:
    """Look at the machine and find its limits, in about a second."""
    return Machine(
        device=str(device),
        name=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        precision=precision,
        flop_per_second=_product_rate(device, precision, clock),
        bytes_per_second=_copy_rate(device, clock),
    )


def timed(call: Callable[[], object], device: torch.device, clock: Clock) -> float:
    """Seconds of one call, with all that it started on the device."""
    _wait(device)
    started = clock()
    call()
    _wait(device)
    return clock() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _product_rate(device: torch.device, precision: Precision, clock: Clock) -> float:
    # Large enough that a product is limited by arithmetic, small enough for a second.
    side = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)
    with products(precision):
        seconds = _shortest(lambda: torch.mm(left, right, out=out), device, clock)
    return 2 * side**3 / seconds


def _copy_rate(device: torch.device, clock: Clock) -> float:
    # Larger than any cache, so that memory is what is measured.
    count = 2**28 if device.type == "cuda" else 2**25
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    seconds = _shortest(lambda: target.copy_(source), device, clock)
    return 2 * 4 * count / seconds


def _shortest(call: Callable[[], object], device: torch.device, clock: Clock) -> float:
    """Seconds of the quickest of a few calls after one that warms up."""
    call()
    seconds = [timed(call, device, clock)]
    while sum(seconds) < _LONG and len(seconds) < 20:
        seconds.append(timed(call, device, clock))
    # The quickest: others were disturbed by something, never helped. Not 0, which would be no rate.
    return max(min(seconds), 1e-9)


def _processor() -> str:
    """The model of the CPU, where the system tells it."""
    try:
        named = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()


# ---------------------------------------------------------------------- memory


@final
class Peak:
    """The most memory that was used since this was made.

    On CUDA it is what torch had allocated there; on a CPU the resident set of the process, where
    Linux lets one ask anew.

    Args:
        device: Whose memory.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._fresh = device, True
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            return
        _give_back()
        try:
            # Linux then counts the peak of the resident set (VmHWM) from here on.
            _CLEAR.write_text("5")
        except OSError:
            self._fresh = False

    def read(self) -> int | None:
        """In bytes; None where nobody can tell."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        if not self._fresh:
            return None
        peak = re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text())
        return int(peak[1]) * 1024 if peak else None


def _give_back() -> None:
    """Let the C library return what was freed, so that it is not counted for what follows."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
