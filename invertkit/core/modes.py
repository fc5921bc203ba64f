"""Modes of PyTorch that a caller may have set, and that change what code below does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor


@contextmanager
def ordinary_modes() -> Iterator[None]:
    """PyTorch as it is when it has just been imported; outside it is as the caller had it.

    Gradients are recorded, also under `no_grad` and `inference_mode`; new tensors are of float32
    and lie on the CPU; nothing is cast as under `autocast`. Also a decorator.

    Example:
        >>> with torch.inference_mode(), ordinary_modes():
        ...     torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        (True, False)
    """
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        # Only where it was changed: inside such a context every operation costs more.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def recordable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy of one that was made in `inference_mode`, which takes no gradient.

    Example:
        >>> with torch.inference_mode():
        ...     image = torch.zeros(1)
        >>> image.is_inference(), recordable(image).is_inference()
        (True, False)
    """
    return tensor.clone() if tensor.is_inference() else tensor
