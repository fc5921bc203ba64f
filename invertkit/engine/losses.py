"""The terms' values of some images, and their weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.recording.recorder import refuse, speaking_of
from invertkit.core.view import View
from invertkit.engine.problem import Term
from invertkit.errors import InputError
from invertkit.objectives.base import Objective, evaluate


def weighted_losses(
    terms: Sequence[Term], weights: Mapping[str, Tensor], view: View
) -> tuple[Float[Tensor, " n"], dict[str, Float[Tensor, " n"]]]:
    """The sum of the terms, with its graph, and the value of every term without.

    Terms of weight 0 only watch, unless all do: they are evaluated without a graph, and last, so
    that what a network says of the image to others has one.

    Args:
        terms: That count.
        weights: By name of the term.
        view: Of `n` images.

    Raises:
        InputError: The variable gives no images, or a term not one number an image.
    """
    _expect_images(view.image)
    # Reports may read the values long after the step, so only the sum keeps a graph.
    losses, values = view.image.new_zeros(len(view.image)), {}
    acting = [term for term in terms if term.weight != 0] or terms
    for term in acting:
        value = _told_value(term, view)
        values[term.name] = value.detach()
        losses = losses + weights[term.name] * value
    with torch.no_grad():
        for term in terms:
            if term.name not in values:
                values[term.name] = _told_value(term, view)
    return losses, {term.name: values[term.name] for term in terms}


def _told_value(term: Term, view: View) -> Float[Tensor, " n"]:
    """One number an image; what is wrong with it is told by the term's name."""
    with speaking_of(f"objective.{term.name}"):
        value = _value(term, view)
        _refuse_if_it_goes_by_the_step(term, view)
    return value


def _expect_images(images: object) -> None:
    """Whether the variable gives images: one of a single channel would spread to three unseen."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3:
        shape = getattr(images, "shape", None)
        got = type(images).__name__ if shape is None else f"shape {tuple(shape)}"
        raise InputError(f"variable: expected images of shape (b, 3, h, w), got {got}.")


def _value(term: Term, view: View) -> Float[Tensor, " n"]:
    """One number an image.

    Raises:
        InputError: The objective gives something else, or cannot deal with several photographs.
    """
    fault: Exception | None = None
    try:
        value = evaluate(term.objective, view, term.region, term.of)
        if not isinstance(value, Tensor):
            instead = f"got {type(value).__name__}"
        elif value.shape == (len(view.image),):
            return value
        else:
            instead = f"got shape {tuple(value.shape)}"
    except torch.OutOfMemoryError:  # a RuntimeError too, but no fault of the objective
        raise
    except (RuntimeError, IndexError) as error:
        if not view.scene.owners:
            raise
        instead, fault = str(error).strip().split("\n")[0][:200], error
    several = (
        " What `prepare` keeps has a row for each photograph of the batch: take "
        "`view.rows(kept)` in `forward`, or make images one by one: `--batch 1`."
    )
    raise InputError(
        f"objective.{term.name}: expected one number an image, of shape ({len(view.image)},): "
        f"{instead}.{several if view.scene.owners else ' Reduce over the other axes.'}"
    ) from fault


def _refuse_if_it_goes_by_the_step(term: Term, view: View) -> None:
    """A term that reads the number of the step must say which steps are alike."""
    draws = view.randomness.step_draws
    if draws is None or not draws.step_read:
        return
    draws.step_read = False
    if type(term.objective).phase is Objective.phase:
        refuse("it reads `view.step`, but has no `phase` to say which steps are alike")
