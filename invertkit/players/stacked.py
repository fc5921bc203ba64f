"""What the players have in common whose networks are one stack, trained by Adam."""

from __future__ import annotations

from abc import abstractmethod
from copy import copy, deepcopy
from typing import Any, Generic, Self, TypeVar

from jaxtyping import Float
from torch import Tensor

from invertkit.core.pixel_space import Space, in_space
from invertkit.core.precision import Precision, networks
from invertkit.core.ranges import Decay, Positive
from invertkit.core.recording.fused_adam import FusedAdam
from invertkit.core.recording.phase import Phase
from invertkit.errors import InputError
from invertkit.models.stacked.stack import Stack
from invertkit.players.base import Player

S = TypeVar("S", bound=Stack)


class StackedPlayer(Player, Generic[S]):
    """A player with a stack of networks; a subclass makes them in `begin` and trains them.

    Args:
        updates: How many it takes; see the subclass.
        space: Units in which the networks see images.
        lr: Adam's learning rate.
        betas: Adam's.

    Attributes:
        net: The networks, from the first `begin` on.
    """

    def __init__(
        self, *, updates: int, space: Space, lr: Positive, betas: tuple[Decay, Decay]
    ) -> None:
        self.updates, self.space, self.lr, self.betas = updates, space, lr, betas
        self.net: S | None = None
        self._optimizer: FusedAdam | None = None
        self._precision: Precision = "float32"

    @abstractmethod
    def learns(self, step: int) -> bool:
        """Whether `learn` changes it on this step of the run."""

    @property
    def obstacle(self) -> str:
        """Empty: FusedAdam changes the stack in place, and `learns` tells which steps are alike."""
        return ""

    def phase(self, step: int) -> Phase:
        """Steps on which it learns are one kind, those on which it stands still another."""
        return Phase(self.learns(step))

    def _outputs(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 i j"]:
        """What the networks say of images in [0, 1], in the images' own precision."""
        if self.net is None:
            raise InputError(f"{type(self).__name__} was asked before its stage began.")
        with networks(self._precision, images.device):
            outputs = self.net.look(in_space(images, self.space))
        return outputs.to(images.dtype)

    def trial(self, updates: int = 2) -> Self:
        short = copy(self)
        short.updates = min(self.updates, updates)
        short.net = short._optimizer = None
        return short

    def save(self) -> dict[str, Any]:
        if self.net is None or self._optimizer is None:
            return {}
        return {
            "net": deepcopy(self.net.state_dict()),  # else the tensors that the next update changes
            "optimizer": self._optimizer.save(),
        }

    def load(self, saved: dict[str, Any]) -> None:
        if self.net is not None and self._optimizer is not None:
            self.net.load_state_dict(saved["net"])
            self._optimizer.load(saved["optimizer"])
