"""What every objective is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from invertkit.core.network import Network
from invertkit.core.recording.phase import Phase
from invertkit.core.regions import Region
from invertkit.core.scene import Needs
from invertkit.core.view import View
from invertkit.errors import InputError, RecipeError


class Objective(ABC):
    """What is wanted of an image, as one number per image; lower is better.

    Write `forward`, and the other methods only where they are needed. Value `i` may depend on
    image `i` only: images in a batch are separate problems, and the engine alone adds them up.
    Name, weight, schedule and region belong to the term in the recipe, not to the objective.
    Options are keyword arguments of `__init__`, with types and defaults: they are what a recipe
    may write.

    Example:
        >>> import torch
        >>> from invertkit.core.randomness import Randomness
        >>> from invertkit.core.scene import Scene
        >>> class Redness(Objective):
        ...     def forward(self, view):
        ...         return -view.image[:, 0].mean((1, 2))
        >>> image = torch.tensor([0.2, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, 4, 4)
        >>> Redness().forward(View(image, Scene((4, 4)), Randomness((0, 1))))
        tensor([-0.2000, -1.0000])
    """

    weighs_region: ClassVar[bool] = False
    """Whether `forward` itself asks `view.region(size)` for the weights of its term's region. If
    not, it is shown images that equal the reference outside the region (`View.cut_out`)."""

    holds_reference: ClassVar[bool] = False
    """Whether `prepare` keeps pixels or features of the reference as it lies. Then it cannot serve
    variables that move the reference while images are judged (`Variable.frame`); ask for it in
    `forward` with `View.of_reference` and `View.kept` instead."""

    @property
    def couples_images(self) -> bool:
        """Whether an image's value depends on its neighbours, as in some published loops.

        Then images of several photographs do not share a batch.
        """
        return False

    @property
    def obstacle(self) -> str:
        """Why `forward` cannot be recorded and replayed; empty, the default, if it can.

        It can if it reads no tensor back into Python, depends on the step only as `phase` says,
        and keeps nothing from one step to the next but in tensors that it changes in place. What
        a recording shows to be otherwise is refused.
        """
        return ""

    def needs(self, models: Mapping[str, Any]) -> Needs:
        """The layers that `forward` and `prepare` read, by model; none by default.

        A question: it changes nothing, and may be asked of other models than those of the run.

        Args:
            models: The recipe's networks by name.

        Raises:
            RecipeError: One is missing, or cannot serve.
            TapError: A layer does not exist.
        """
        return {}

    def players(self) -> tuple[str, ...]:
        """Names of the players that `forward` asks."""
        return ()

    def prepare(self, reference: View | None) -> None:
        """Compute, without gradient, what depends on the reference alone.

        Called once at the start of every stage, since a stage may change the resolution.

        Args:
            reference: A look at the image with which the term compares, where regions mean the
                mask of the object in it; None where the run has no such image. A batch of one, or
                of one row an image where images of several photographs share a batch: `forward`
                takes what was kept of it through `View.rows`, or prepares each photograph on its
                own with `View.photographs`.
        """

    def phase(self, step: int) -> Phase:
        """What `forward` does on this step of the run: steps of equal phases are the same work.

        For objectives that read `view.step`; by default all steps are alike.
        """
        return Phase()

    @abstractmethod
    def forward(self, view: View) -> Float[Tensor, " b"]:
        """Score every image in `view.image` on its own."""

    def save(self) -> dict[str, Any]:
        """What it has computed in the steps of a stage and goes on using; usually nothing."""
        return {}

    def load(self, saved: dict[str, Any]) -> None:
        """Take up what `save` saw; called after `prepare`."""


def evaluate(objective: Objective, view: View, region: Region | str, of: str = "") -> Tensor:
    """The objective's value in a region; the one place that knows how regions are applied.

    It should be one number an image; the engine refuses what is not, by the term's name.

    Args:
        objective: Prepared for this region and input.
        view: A look at the images.
        region: Where the term looks.
        of: The image with which it compares; the first one if empty.

    Example:
        >>> import torch
        >>> from invertkit.core.randomness import Randomness
        >>> from invertkit.core.scene import Scene
        >>> from invertkit.objectives.priors import Norm
        >>> view = View(torch.ones(2, 3, 4, 4), Scene((4, 4)), Randomness((0, 1)))
        >>> evaluate(Norm(), view, "everywhere").shape
        torch.Size([2])
    """
    look = view.within(region, of)
    return objective.forward(look if objective.weighs_region else look.cut_out())


def expect_one_shape(images: Tensor, reference: Tensor, *, of: str, who: str) -> None:
    """Whether the image with which a term compares has the shape of those that it scores.

    Args:
        images: Whatever has the height and width of those that are scored.
        reference: That with which they are compared.
        of: Its name; empty for the first image.
        who: The objective's name in recipes, for the message.

    Raises:
        InputError: It has not.

    Example:
        >>> import torch
        >>> wide, tall = torch.zeros(1, 3, 8, 12), torch.zeros(1, 3, 12, 8)
        >>> expect_one_shape(wide, tall, of="style", who="lpips")
        Traceback (most recent call last):
        ...
        invertkit.errors.InputError: `lpips` compares place by place, and 'style' has another ...
    """
    if images.shape[-2:] != reference.shape[-2:]:
        other = repr(of) if of else "the photograph"
        raise InputError(
            f"`{who}` compares place by place, and {other} has another shape; use "
            "`fit: stretch`, or a term that compares statistics."
        )


def required_model(models: Mapping[str, Any], name: str, *, kind: str = "…") -> Network:
    """The model of that name, for `Objective.needs`.

    Args:
        models: The recipe's networks by name.
        name: Of the one that is asked for.
        kind: What to write in the recipe for it, named in the complaint.

    Raises:
        RecipeError: There is none, or it does not look at images.

    Example:
        >>> required_model({}, "classifier", kind="embedded")
        Traceback (most recent call last):
        ...
        invertkit.errors.RecipeError: model: no model 'classifier' in `models`; known: none. Add ...
    """
    if name not in models:
        known = ", ".join(models) or "none"
        raise RecipeError(
            f"model: no model {name!r} in `models`; known: {known}. Add one, as in "
            f"`models: {{{name}: {{type: {kind}}}}}`, or name another."
        )
    model = models[name]
    if not isinstance(model, Network):
        raise RecipeError(f"model: {name!r} is no network that looks at images.")
    return model
