"""Which device a run takes."""

from __future__ import annotations

import torch

from invertkit.errors import InputError


def pick_device(device: str) -> torch.device:
    """The torch device of that name; `auto` is CUDA where there is one, else the CPU.

    Raises:
        InputError: CUDA is asked for and absent, or the name means nothing.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = torch.device("meta")
    if wanted.type not in ("cpu", "cuda"):
        raise InputError(f"device: expected auto, cpu, cuda or cuda:N, got {device!r}.")
    if wanted.type == "cuda":
        # With too old a driver devices can be counted, but not used.
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (wanted.index or 0) >= count:
            raise InputError(
                f"device: {device!r} was asked for, but this machine has {count or 'no'} CUDA "
                f"device{'s' if count > 1 else ''} that PyTorch can use. Use `--device cpu`, or "
                "install a CUDA build of PyTorch."
            )
    return wanted
