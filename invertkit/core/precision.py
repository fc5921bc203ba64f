"""The numbers that networks compute with; everything else is float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, get_args

import torch

Precision = Literal["float32", "tf32", "bf16"]
"""`float32`: as written. `tf32`: convolutions and matrix products on CUDA round what they multiply
to 10 bits; no difference on a CPU. `bf16`: networks run under autocast to bfloat16, 7 bits; what
terms read of them is float32 again."""

PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)


def networks(precision: Precision, device: torch.device) -> torch.autocast:
    """A context for the forward of a network.

    Example:
        >>> with networks("bf16", torch.device("cpu")):
        ...     print(torch.mm(torch.ones(1, 2), torch.ones(2, 1)).dtype)
        torch.bfloat16
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@contextmanager
def exactly() -> Iterator[None]:
    """Matrix products are of float32 inside, whatever the run has asked for its networks.

    Operations that are recorded by themselves do not remember this: put it into an operation of
    its own, as `invertkit.objectives.patches.search` does.
    """
    matrices = torch.backends.cuda.matmul
    before, matrices.allow_tf32 = matrices.allow_tf32, False
    try:
        yield
    finally:
        matrices.allow_tf32 = before


@contextmanager
def products(precision: Precision) -> Iterator[None]:
    """How products are computed on CUDA inside; as before afterwards.

    Rounded to TF32 or not; and as sizes do not change from step to step, cuDNN tries which of its
    convolutions is fastest for each.

    Example:
        >>> with products("float32"):
        ...     print(torch.backends.cuda.matmul.allow_tf32)
        False
    """
    convolutions, matrices = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, matrices.allow_tf32, convolutions.benchmark
    convolutions.allow_tf32 = matrices.allow_tf32 = precision != "float32"
    convolutions.benchmark = True
    try:
        yield
    finally:
        convolutions.allow_tf32, matrices.allow_tf32, convolutions.benchmark = before
