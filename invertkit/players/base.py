"""What every player is: a network that learns while the image is optimised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor

from invertkit.core.randomness import Randomness
from invertkit.core.recording.phase import Phase, unsaid
from invertkit.core.scene import Scene


class Player(ABC):
    """A network with an optimizer of its own, asked by objectives through `View.player`.

    Example:
        >>> class Counting(Player):
        ...     def begin(self, scene, randomness, *, purpose):
        ...         self.seen = 0
        ...     def learn(self, images, *, step):
        ...         self.seen += len(images)
        ...     def save(self):
        ...         return {"seen": self.seen}
        ...     def load(self, saved):
        ...         self.seen = saved["seen"]
        >>> Counting().obstacle
        'Counting does not say that its steps are alike'
    """

    @property
    def obstacle(self) -> str:
        """Why a step in which it learns cannot be recorded and replayed; empty if it can.

        It can if `learn` changes its tensors in place, reads none back, depends on the step only
        as `phase` says, and draws its random numbers from the `Randomness` that `begin` was given.
        """
        return unsaid(self, "steps")

    @property
    def couples_images(self) -> bool:
        """Whether what it says of an image depends on its neighbours.

        Then images of several photographs do not share a batch.
        """
        return False

    @abstractmethod
    def begin(self, scene: Scene, randomness: Randomness, *, purpose: str) -> None:
        """Start a stage. Networks are made on the first call and kept; optimizers are fresh.

        Args:
            scene: The stage's fixed side.
            randomness: Its seeds say how many images there are.
            purpose: The player's name in the recipe; keeps its draws apart.
        """

    @abstractmethod
    def learn(self, images: Float[Tensor, "b 3 h w"], *, step: int) -> None:
        """The player's own update(s) of this step, if it has any.

        Args:
            images: The images before this step's change, without a graph.
            step: Step of the whole run.
        """

    def phase(self, step: int) -> Phase:
        """What `learn` does on this step of the run: steps of equal phases are the same work."""
        return Phase()

    @property
    def updates_before(self) -> int:
        """How many updates `begin` takes before the first step of a stage; none by default."""
        return 0

    def trial(self, updates: int = 2) -> Player:
        """The same player for trying something out, with fewer updates; not begun.

        Args:
            updates: The most that it takes at a time, by `begin` or by one `learn`. A player that
                cannot take fewer gives itself, the default.
        """
        return self

    @abstractmethod
    def save(self) -> dict[str, Any]:
        """Everything it has learnt, as tensors, numbers, lists and dicts."""

    @abstractmethod
    def load(self, saved: dict[str, Any]) -> None:
        """Take up what `save` saw; called after `begin`."""
