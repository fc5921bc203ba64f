"""PyTorch's fused Adam, set up so that a step of it can be recorded and replayed.

The learning rate is a tensor, so that whoever replays a step can change it from outside, and
nothing in the update is read by Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from invertkit.tape import unrecorded


def fused_adam(
    params: Iterable[Tensor] | Iterable[dict[str, Any]],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> torch.optim.Adam:
    """Adam with one kernel for all tensors of a group, its rate a 0-d tensor beside them.

    Args:
        params: Tensors, or PyTorch's parameter groups; all of one device.
        lr: Learning rate; `set_rate` changes it.
        betas: Decay of the two moments.
        eps: Added to the root of the second moment.
    """
    optimizer = torch.optim.Adam(
        params, lr=torch.tensor(lr, dtype=torch.float64), betas=betas, eps=eps, fused=True
    )
    _own_rates(optimizer)
    return optimizer


def set_rate(optimizer: torch.optim.Adam, lr: float) -> None:
    """Another learning rate, times the `rate` of each group that has one, in place.

    A recording leaves it out: a replay goes by the rate that is set when it begins.
    """
    with unrecorded():
        for group in optimizer.param_groups:
            group["lr"].fill_(lr * group.get("rate", 1.0))


def descend(optimizer: torch.optim.Adam) -> None:
    """One update by the gradients that are there.

    The fused kernel reads a gradient in the order of its memory: where its strides differ from
    its tensor's, as those of `autograd.grad` may, the update would be scrambled without a word
    (seen in torch 2.15 on the CPU). Such a gradient is copied into the tensor's order first.
    """
    for group in optimizer.param_groups:
        for param in group["params"]:
            if param.grad is not None and param.grad.stride() != param.stride():
                param.grad = torch.empty_like(param).copy_(param.grad)
    optimizer.step()


def saved_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Its state as a copy, since PyTorch hands out the tensors that the next step changes."""
    return deepcopy(dict(optimizer.state_dict()))


def load_state(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Fill it with a copy of what `saved_state` gave, on the device of its tensors."""
    optimizer.load_state_dict(deepcopy(dict(saved)))
    if isinstance(optimizer, torch.optim.Adam):
        _own_rates(optimizer)


def _own_rates(optimizer: torch.optim.Adam) -> None:
    """A rate of its own for each group, where its tensors are."""
    for group in optimizer.param_groups:
        if group["fused"]:
            device = group["params"][0].device
            number = torch.float64 if device.type == "cpu" else torch.float32  # as kernels read it
            group["lr"] = torch.as_tensor(group["lr"]).to(device, number, copy=True)
