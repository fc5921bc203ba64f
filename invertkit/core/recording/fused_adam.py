"""Adam by PyTorch's fused kernel, set up so that a step of it can be recorded and replayed.

`torch.optim` would import PyTorch's compiler with the first optimizer that is made, which takes as
long as a small run: 3 to 8 seconds. Here is the kernel and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from invertkit.core.recording.recorder import unrecorded


@dataclass
class _Group:
    """Tensors that one kernel changes: of one rate and device."""

    tensors: list[Tensor]
    factor: float
    rate: Tensor
    moments: list[tuple[Tensor, Tensor, Tensor] | None]
    """Of each tensor, from its first update on: mean, mean square, and number of updates."""


@final
class FusedAdam:
    """Adam; the learning rate is a tensor, so that whoever replays a step can set it from outside.

    Args:
        tensors: Changed in place by `step`, by their `grad`; all of one device.
        lr: Learning rate; `set_rate` changes it.
        betas: Decay of the two moments.
        eps: Added to the root of the second moment.
        factors: Learning rate of each tensor as a multiple of `lr`; 1 by default.

    Source: Kingma & Ba 2015 (arXiv:1412.6980), without weight decay, as `torch.optim.Adam`.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> adam = FusedAdam([x], lr=0.5)
        >>> x.square().sum().backward()
        >>> adam.step()
        >>> [round(number, 3) for number in x.tolist()]
        [0.5, 0.5]
    """

    def __init__(
        self,
        tensors: Iterable[Tensor],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        factors: Sequence[float] | None = None,
    ) -> None:
        self.betas, self.eps = betas, eps
        self._groups: list[_Group] = []
        together: dict[tuple[float, torch.device], list[Tensor]] = {}
        given = list(tensors)
        for tensor, factor in zip(given, factors or [1.0] * len(given), strict=True):
            together.setdefault((factor, tensor.device), []).append(tensor)
        for (factor, device), alike in together.items():
            number = torch.float64 if device.type == "cpu" else torch.float32  # as kernels read it
            rate = torch.tensor(lr * factor, dtype=number, device=device)
            self._groups.append(_Group(alike, factor, rate, [None] * len(alike)))

    def set_rate(self, lr: float) -> None:
        """Another learning rate, in place.

        A recording leaves it out: a replay goes by the rate that is set when it begins.
        """
        with unrecorded():
            for group in self._groups:
                group.rate.fill_(lr * group.factor)

    def zero_grad(self) -> None:
        """Forget the gradients: a tensor that gets none until the next `step` then stays."""
        for group in self._groups:
            for tensor in group.tensors:
                tensor.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One update by the gradients that are there; tensors without one stay.

        Each tensor keeps its own count of updates.
        """
        for group in self._groups:
            kinds: dict[torch.dtype, list[int]] = {}
            for place, tensor in enumerate(group.tensors):
                if tensor.grad is not None:
                    kinds.setdefault(tensor.dtype, []).append(place)
            for places in kinds.values():
                self._update(group, places)

    def _update(self, group: _Group, places: Sequence[int]) -> None:
        tensors = [group.tensors[place] for place in places]
        moments = [_moments(group, place) for place in places]
        counts = [count for _, _, count in moments]
        torch._foreach_add_(counts, 1)
        torch._fused_adam_(
            tensors,
            [_like(tensor) for tensor in tensors],
            [mean for mean, _, _ in moments],
            [square for _, square, _ in moments],
            [],
            counts,
            lr=group.rate,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=0.0,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )

    @property
    def state(self) -> list[Tensor]:
        """All that it remembers, in the order of the tensors."""
        return [
            tensor
            for group in self._groups
            for moments in group.moments
            if moments is not None
            for tensor in moments
        ]

    def reset(self) -> None:
        """Forget everything but the rate, in place."""
        self.zero_grad()
        for tensor in self.state:
            tensor.zero_()

    def save(self) -> dict[str, Any]:
        """What it remembers, as a copy."""
        return {
            "rates": [group.rate.clone() for group in self._groups],
            "moments": [
                [held and [tensor.clone() for tensor in held] for held in group.moments]
                for group in self._groups
            ],
        }

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take up what `save` saw, for tensors of the same shapes."""
        pairs = zip(saved["rates"], saved["moments"], strict=True)
        for group, (rate, moments) in zip(self._groups, pairs, strict=True):
            group.rate.copy_(rate)
            group.moments = [held and _copied(held, group.rate.device) for held in moments]


def _copied(held: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    mean, square, count = (tensor.to(device, copy=True) for tensor in held)
    return mean, square, count


def _moments(group: _Group, place: int) -> tuple[Tensor, Tensor, Tensor]:
    """Those of a tensor, made with its first update."""
    moments = group.moments[place]
    if moments is None:
        tensor = group.tensors[place].detach()
        count = torch.zeros((), dtype=torch.float32, device=tensor.device)
        moments = (torch.zeros_like(tensor), torch.zeros_like(tensor), count)
        group.moments[place] = moments
    return moments


def _like(tensor: Tensor) -> Tensor:
    """Its gradient, in memory as the tensor is."""
    gradient = tensor.grad
    assert gradient is not None  # noqa: S101 # by the caller
    # The fused kernel reads a gradient in the order of its memory: where its strides differ from
    # its tensor's, as those of `autograd.grad` may, the update would be scrambled without a word
    # (seen in torch 2.15 on the CPU).
    if gradient.stride() == tensor.stride():
        return gradient
    return torch.empty_like(tensor).copy_(gradient)
