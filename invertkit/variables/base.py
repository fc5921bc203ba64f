"""What every variable is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from typing import Any, Self

from jaxtyping import Float
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.randomness import Randomness
from invertkit.core.recording.phase import unsaid
from invertkit.core.scene import Scene
from invertkit.errors import RecipeError, TapError

Size = tuple[int, int]
"""Height and width."""


class Variable(ABC):
    """What is optimised, and how it becomes an image.

    The object itself is configuration; the tensors are handed to it, so that a checkpoint holds
    them and nothing else. The first axis of every tensor is the image; they go by name.

    Example:
        >>> import torch
        >>> class Shade(Variable):
        ...     def start(self, scene, randomness):
        ...         return {"shade": randomness.uniform("shade", (1,))}
        ...     def resize(self, params, old, new):
        ...         return params
        ...     def image(self, params, scene):
        ...         return params["shade"][:, :, None, None].expand(-1, 3, *scene.size)
        >>> shade, scene = Shade(), Scene((8, 8))
        >>> shade.image(shade.start(scene, Randomness((0, 1))), scene).shape
        torch.Size([2, 3, 8, 8])
    """

    def bind(self, models: Mapping[str, Any]) -> Variable:
        """This variable, knowing the networks of its problem; by default it needs none.

        Called once for each problem, so that `names` may follow from what a network takes.

        Args:
            models: The networks by name.

        Raises:
            RecipeError: An option does not fit them; the message starts with its name.
        """
        return self

    @abstractmethod
    def start(self, scene: Scene, randomness: Randomness) -> Params:
        """Tensors of the first stage by name, `len(randomness.seeds)` images."""

    def centre(self, scene: Scene, randomness: Randomness) -> Params:
        """Where `start` begins, without the noise around it, for searches that bring their own."""
        return self.start(scene, randomness)

    @abstractmethod
    def resize(self, params: Params, old: Size, new: Size) -> Params:
        """The same images, for a stage of another size (height, width)."""

    @abstractmethod
    def image(self, params: Params, scene: Scene) -> Float[Tensor, "b 3 h w"]:
        """The images at the scene's size, in [0, 1] or, where so said, free to leave it."""

    def look(
        self, params: Params, scene: Scene, randomness: Randomness, step: int
    ) -> Float[Tensor, "b 3 h w"]:
        """The images as the terms see them on this step; by default as they are."""
        return self.image(params, scene)

    moves_pixels: bool = False
    """Whether `look` shifts or flips the image, so that masks would no longer fit."""

    def still(
        self, looks: Float[Tensor, "b 3 _ _"], params: Params, scene: Scene
    ) -> Float[Tensor, "b 3 h2 w2"]:
        """The images as they are, from the looks at them; by default the same."""
        return self.image(params, scene) if self.moves_pixels else looks

    @property
    def names(self) -> tuple[str, ...]:
        """What its tensors are called, in the order of `start`; empty where nobody knows before."""
        return ()

    frame_names: tuple[str, ...] = ()
    """Tensors that `frame` depends on; none where looks are judged in the scene itself."""

    def frame(self, params: Params, scene: Scene) -> Scene:
        """The scene in which looks are judged: photograph and masks may have one row an image."""
        return scene

    confines: bool = False
    """Whether `confine` does anything."""

    def confine(self, params: Params) -> None:
        """Bring the tensors back, in place, to where they may be."""

    @property
    def obstacle(self) -> str:
        """Why `look` cannot be recorded and replayed; empty, unless it is overridden, if it can.

        It can if it reads no tensor back, depends on the step only by draws of its `Randomness`,
        and keeps nothing.
        """
        return "" if type(self).look is Variable.look else unsaid(self, "looks")

    is_latent: bool = False
    """Whether the tensors are worth keeping beside the image, as a generator's latents are."""

    def result_tensors(self, params: Params) -> Params:
        """What is kept beside the image where `is_latent`; by default the tensors themselves."""
        return params


class WrappedVariable(Variable):
    """A variable around another, to which it hands on everything that it does not override.

    A subclass that changes the looks (`look`) says so in `obstacle` and, if the image cannot be
    had from them, in `still`.

    Args:
        inner: The other variable.

    Example:
        >>> from invertkit.core.scene import Scene
        >>> from invertkit.variables.pixels import Pixels
        >>> class Darker(WrappedVariable):
        ...     def image(self, params, scene):
        ...         return self.inner.image(params, scene) / 2
        ...
        ...     def look(self, params, scene, randomness, step):
        ...         return self.inner.look(params, scene, randomness, step) / 2
        >>> variable = Darker(Pixels(start="constant", noise=0.0))
        >>> variable.names
        ('pixels',)
        >>> params = variable.start(Scene((2, 2)), Randomness((0,)))
        >>> variable.image(params, Scene((2, 2))).unique().tolist()
        [0.25]
    """

    def __init__(self, inner: Variable) -> None:
        self.inner = inner

    def bind(self, models: Mapping[str, Any]) -> Self:
        # A copy: the same variable may serve problems with other networks at the same time.
        bound = copy(self)
        try:
            bound.inner = self.inner.bind(models)
        except (RecipeError, TapError) as error:  # an option of the inner variable
            raise type(error)(f"inner.{error}") from None
        return bound

    def start(self, scene: Scene, randomness: Randomness) -> Params:
        return self.inner.start(scene, randomness)

    def centre(self, scene: Scene, randomness: Randomness) -> Params:
        return self.inner.centre(scene, randomness)

    def resize(self, params: Params, old: Size, new: Size) -> Params:
        return self.inner.resize(params, old, new)

    def image(self, params: Params, scene: Scene) -> Float[Tensor, "b 3 h w"]:
        return self.inner.image(params, scene)

    def look(
        self, params: Params, scene: Scene, randomness: Randomness, step: int
    ) -> Float[Tensor, "b 3 h w"]:
        return self.inner.look(params, scene, randomness, step)

    def still(
        self, looks: Float[Tensor, "b 3 _ _"], params: Params, scene: Scene
    ) -> Float[Tensor, "b 3 h2 w2"]:
        return self.inner.still(looks, params, scene)

    def frame(self, params: Params, scene: Scene) -> Scene:
        return self.inner.frame(params, scene)

    def confine(self, params: Params) -> None:
        self.inner.confine(params)

    @property
    def names(self) -> tuple[str, ...]:
        return self.inner.names

    @property
    def moves_pixels(self) -> bool:  # type: ignore[override]
        """As the inner variable, and so are the others."""
        return self.inner.moves_pixels

    @property
    def frame_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.inner.frame_names

    @property
    def confines(self) -> bool:  # type: ignore[override]
        return self.inner.confines

    @property
    def is_latent(self) -> bool:  # type: ignore[override]
        return self.inner.is_latent

    def result_tensors(self, params: Params) -> Params:
        return self.inner.result_tensors(params)

    @property
    def obstacle(self) -> str:
        """As of the inner variable; a subclass with looks of its own says it for itself."""
        if type(self).look is WrappedVariable.look:
            return self.inner.obstacle
        return unsaid(self, "looks")
