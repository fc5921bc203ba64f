"""What every optimizer is, and what it climbs down."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.pixel_space import Space
from invertkit.core.randomness import Randomness
from invertkit.core.recording.phase import Phase, unsaid
from invertkit.errors import RecipeError


class Landscape(ABC):
    """The losses as a function of the tensors, and how to look at them elsewhere.

    An optimizer that follows gradients asks `gradients()`; one that needs the graph calls the
    landscape itself; one that searches with a population stands elsewhere with `at(points)`.

    Args:
        points: Where it stands: the tensors of a run, or a population of `k` candidates an image,
            `(images·k, …)` with the candidates of an image side by side.
        randomness: Draws of the run, one seed an image.
        step: Of the run.
    """

    def __init__(self, points: Params, *, randomness: Randomness, step: int) -> None:
        self.points, self.randomness, self.step = points, randomness, step

    @property
    def images(self) -> int:
        """How many images the run has, however many candidates of each stand here."""
        return len(self.randomness.seeds)

    @abstractmethod
    def __call__(self) -> Float[Tensor, " n"]:
        """The losses, with their graph. No backward, no zero_grad."""

    def gradients(self) -> Float[Tensor, " n"]:
        """The losses; their gradients are added to `grad` of the points that require one."""
        losses = self()
        losses.sum().backward()
        return losses.detach()

    @abstractmethod
    def losses(self) -> Float[Tensor, " n"]:
        """The losses of the images as they are, without gradient.

        Where terms see something else while descending (a photograph moved to the generator
        instead of a generated image moved to the photograph), this is the plain loss.
        """

    @abstractmethod
    def at(self, points: Params) -> Landscape:
        """The same landscape, seen from other points."""

    @abstractmethod
    def within(self, space: Space) -> Landscape:
        """The same landscape, of pixels in the units of `space` that are to stay valid ones.

        Its points, and those of all that is seen from it with `at`, are brought back by `confine`.
        """

    @abstractmethod
    def fresh(self, count: int, purpose: str) -> Params:
        """`count` new starting points an image, `(images·count, …)`, side by side.

        Args:
            count: Of each image.
            purpose: Tells these draws from others of the run.
        """

    @abstractmethod
    def centre(self) -> Params:
        """The middle of the starting points, one row an image."""

    @abstractmethod
    def confine(self) -> None:
        """Bring the points back to where they may be, in place.

        Whoever moves points of its own calls it after each move; those of the run are brought
        back by the engine.
        """


class Optimizer(ABC):
    """A rule for changing `params` in place; a frozen record, so one may drive many runs.

    Everything it remembers is in the state that `init` makes, which a checkpoint can hold.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Descent(Optimizer):
        ...     lr: float = 0.1
        ...
        ...     def init(self, params):
        ...         return None
        ...
        ...     def step(self, landscape, params, state, *, step, total):
        ...         losses = landscape.gradients()
        ...         for param in params.values():
        ...             param.data.sub_(self.lr * param.grad)
        ...             param.grad = None
        ...         return losses
        ...
        ...     def save(self, state):
        ...         return {}
        ...
        ...     def load(self, params, saved):
        ...         return None
        >>> Descent().moves(("latent", "embedding"))
        ('latent', 'embedding')
    """

    couples_images: bool = False
    """Whether one image's steps depend on its neighbours; such runs go one image at a time."""

    @property
    def obstacle(self) -> str:
        """Why its steps cannot be recorded and replayed; empty if they can.

        They can if `step` changes `params` and state in place, reads no tensor back, and does the
        same work at every step, but for numbers that `schedule` sets.
        """
        return unsaid(self, "steps")

    def phase(self, *, step: int, total: int) -> Phase:
        """What `step` does on this step of the stage: steps of equal phases are the same work."""
        return Phase()

    @property
    def searches(self) -> bool:
        """Whether it judges populations, away from where the run stands."""
        return False

    def moves(self, names: Sequence[str]) -> tuple[str, ...]:
        """Which of the named tensors it changes; by default all."""
        return tuple(names)

    def follows(self, names: Sequence[str]) -> tuple[str, ...]:
        """Which of the named tensors it changes by their gradients; by default all it moves."""
        return self.moves(names)

    @abstractmethod
    def init(self, params: Params) -> Any:
        """A fresh state for these tensors."""

    @property
    def restarts_in_place(self) -> bool:
        """Whether `restart` keeps the tensors of the state, which recordings know."""
        return False

    def restart(self, params: Params, state: Any) -> Any:
        """A state as fresh as `init` makes it, for tensors that have been filled anew.

        By default `init` is called again. A rule that forgets in place instead says so by
        `restarts_in_place`, and descents that begin anew with every population can be replayed.

        Args:
            params: The tensors that `state` was made for.
            state: What `init` made; not used after this.
        """
        return self.init(params)

    @abstractmethod
    def step(
        self, landscape: Landscape, params: Params, state: Any, *, step: int, total: int
    ) -> Float[Tensor, " b"]:
        """Change `params` once and return the losses *before* the change.

        A population optimizer returns the lowest loss among each image's candidates.

        Args:
            landscape: The losses, seen from `params`.
            params: Leaf tensors that require gradients.
            state: What `init` made; changed in place.
            step: Step of the stage, from 0.
            total: Steps of the stage.
        """

    def schedule(self, state: Any, *, step: int, total: int) -> None:
        """Set what follows the step, such as a learning rate, before the step is replayed.

        `step` does that itself, unrecorded (`invertkit.core.recording.recorder.unrecorded`).
        """

    @abstractmethod
    def save(self, state: Any) -> dict[str, Any]:
        """The state as tensors, numbers, lists and dicts."""

    @abstractmethod
    def load(self, params: Params, saved: dict[str, Any]) -> Any:
        """The state that `save` saw."""

    def finish(self, params: Params, state: Any) -> None:
        """Last word on `params` at the end of a stage; most rules have none."""

    def check(self, steps: int) -> None:
        """Whether a stage of so many steps can be taken.

        Raises:
            RecipeError: It cannot; the message says which numbers can.
        """

    def trial(self) -> Optimizer:
        """The same rule for a stage of two steps, to see whether a recipe runs; by default this."""
        return self


def chosen(over: Sequence[str], names: Sequence[str], *, option: str = "over") -> tuple[str, ...]:
    """Those of `names` that `over` names, in their order; all of them where it names none.

    Args:
        over: Names that somebody wrote.
        names: Those there are.
        option: Where they were written.

    Raises:
        RecipeError: One does not exist.

    Example:
        >>> chosen(("z",), ("latent", "z")), chosen((), ("latent", "z"))
        (('z',), ('latent', 'z'))
    """
    for name in over:
        if name not in names:
            raise RecipeError(
                f"{option}: this recipe's variable has no tensor {name!r}; it has: "
                f"{', '.join(names)}."
            )
    return tuple(name for name in names if not over or name in over)
