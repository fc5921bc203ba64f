"""What a piece of PyTorch code asks of a machine at least: operations counted while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten


def _of_distances(
    squares: Tensor, cross: Tensor, features: Tensor, lengths: Tensor, out_val: Tensor
) -> int:
    return 2 * cross.numel() * features.shape[1]


_OURS = {"invertkit::distances": _of_distances}
"""Operations of our own that multiply matrices inside; see `objectives.patches.distances`."""


@final
@dataclass(frozen=True)
class Cost:
    """What was counted.

    Args:
        flop: Of convolutions and matrix products, forward and backward; two for a multiplication
            with its addition.
        product_bytes: That these must read and write if each tensor is touched once.
        operations: All of them, but for those that only look at memory in another way.
    """

    flop: float = 0.0
    product_bytes: float = 0.0
    operations: int = 0


@final
class Counting(TorchDispatchMode):
    """Counts below autograd what runs inside; backwards of backwards too.

    Example:
        >>> with Counting() as counting:
        ...     _ = torch.ones(2, 3) @ torch.ones(3, 4)
        >>> counting.cost.flop  # two for a multiplication with its addition
        48.0
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._flop, self._bytes, self._operations = 0.0, 0.0, 0

    @property
    def cost(self) -> Cost:
        """What it has seen so far."""
        return Cost(self._flop, self._bytes, self._operations)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not func.is_view and func.namespace != "profiler":
            self._operations += 1
        formula: Any = _OURS.get(func.name()) or flop_registry.get(func._overloadpacket)
        if formula is not None:
            self._flop += formula(*args, **kwargs, out_val=out)
            self._bytes += _bytes(_read(func, args, kwargs)) + _bytes(out)
        return out


def _read(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The tensors that a product needs."""
    if func is not aten.convolution_backward.default:
        return args, kwargs
    gradient, features, weight, *_, wanted = args  # of features, weight and bias
    return gradient, weight if wanted[0] else None, features if wanted[1] else None


def _bytes(values: Any) -> int:
    tensors = (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
