"""What every optimizer is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

Params = Sequence[Tensor]
"""The tensors of one variable; the first axis of each is the image."""

Closure = Callable[[], Float[Tensor, " b"]]
"""The loss of every image, with its graph. No backward, no zero_grad."""


class Optimizer(ABC):
    """A rule for changing `params` in place; a frozen record, so one may drive many runs.

    Everything it remembers is in the state that `init` makes, which a checkpoint can hold.
    """

    couples_images: bool = False
    """Whether one image's steps depend on its neighbours; such runs go one image at a time."""

    @abstractmethod
    def init(self, params: Params) -> Any:
        """A fresh state for these tensors."""

    @abstractmethod
    def step(
        self, closure: Closure, params: Params, state: Any, *, step: int, total: int
    ) -> Float[Tensor, " b"]:
        """Change `params` once and return the losses *before* the change.

        Args:
            closure: Evaluates the losses at the present `params`.
            params: Leaf tensors that require gradients.
            state: What `init` made; changed in place.
            step: Step of the stage, from 0.
            total: Steps of the stage.
        """

    @abstractmethod
    def save(self, state: Any) -> dict[str, Any]:
        """The state as tensors, numbers, lists and dicts."""

    @abstractmethod
    def load(self, params: Params, saved: dict[str, Any]) -> Any:
        """The state that `save` saw."""

    def finish(self, params: Params, state: Any) -> None:
        """Last word on `params` at the end of a stage; most rules have none."""
