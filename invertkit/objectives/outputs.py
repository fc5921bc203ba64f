"""What a classifier shall say of the image, or how strongly its layers shall answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.images.augment import Augmentation
from invertkit.core.images.resize import resize_mask
from invertkit.core.log import log
from invertkit.core.network import Network
from invertkit.core.ranges import NonNegative, Positive, Probability
from invertkit.core.scene import LOGITS, Needs
from invertkit.core.suggestions import listed
from invertkit.core.view import View
from invertkit.errors import InputError, RecipeError
from invertkit.models.classifiers.class_names import chosen_class, class_hint
from invertkit.objectives.base import Objective
from invertkit.objectives.maps import feature_maps


@final
class CrossEntropy(Objective):
    """−log softmax of the wanted class.

    The classifier may be shown the image in random crops, colours and noise, which the other terms
    do not see: then it asks for what the class looks like more than for patterns that it alone
    sees, at the price of one more forward where other terms read it too.

    Args:
        target: `predicted` for the class that the model gives the reference (MAGIC Eq. 2), or a
            class by index or by name.
        model: Name of the classifier.
        predicted_by: Name of the classifier whose guess at the reference `predicted` means; `model`
            itself if empty. A robust network is good to invert, and a less robust one of the same
            classes knows better what a photograph shows.
        zoom: Smallest and largest side of the crop, as a share of the picture's.
        flip: Probability of mirroring left and right.
        colour: Reach of the random contrast and brightness of each channel; see `Augmentation`.
        noise: Standard deviation of the noise, where pixels go from 0 to 1.

    Raises:
        RecipeError: No such class, or the smallest crop is larger than the largest.
        InputError: `predicted`, but there is no reference.

    Source: crops, colours, noise: see `Augmentation`.
    """

    def __init__(
        self,
        *,
        target: int | str = "predicted",
        model: str = "classifier",
        predicted_by: str = "",
        zoom: tuple[Positive, Positive] = (1.0, 1.0),
        flip: Probability = 0.0,
        colour: NonNegative = 0.0,
        noise: NonNegative = 0.0,
    ) -> None:
        self.target, self.model = target, model
        self.predicted_by = predicted_by or model
        self.seen = Augmentation(zoom, 0.0, flip, colour, noise)
        self._predicted: Tensor | None = None
        self._told: set[str] = set()

    def needs(self, models: Mapping[str, Any]) -> Needs:
        """The logits.

        Raises:
            RecipeError: The model has no such class.
        """
        if self.target != "predicted":
            class_index(self.target, models.get(self.model))
            return {self.model: (LOGITS,)}
        return {self.model: (LOGITS,), self.predicted_by: (LOGITS,)}

    def prepare(self, reference: View | None) -> None:
        """The class of the reference, if that is wanted."""
        if self.target == "predicted":
            if reference is None:
                raise InputError(
                    "`cross_entropy` with `target: predicted` asks for the class of a reference; "
                    "give an image, or a class by index or name."
                )
            self._predicted = reference.logits(model=self.predicted_by).argmax(1)
            if self.predicted_by != self.model:
                classes = reference.logits(model=self.model).shape[1]
                _expect_class(int(self._predicted.max()), classes)

    def forward(self, view: View) -> Float[Tensor, " b"]:
        looks = self.seen(view.image, view.randomness, view.now)
        if looks is not view.image:
            view = replace(view, image=looks)
        logits = view.logits(model=self.model)
        label = view.rows(self._wanted(view, logits)).expand(len(logits))
        return F.cross_entropy(logits, label, reduction="none")

    def _wanted(self, view: View, logits: Float[Tensor, "b k"]) -> Int[Tensor, " #b"]:
        if self.target == "predicted":
            if self._predicted is None:
                raise InputError("`cross_entropy` was not prepared with a reference.")
            return self._predicted
        model = view.network(self.model)
        index = view.kept((id(self), "class"), lambda: self._index(model))
        _expect_class(index, logits.shape[1])
        # Filled on the device: a tensor made here would be copied to it, and the step would wait.
        return torch.full((1,), index, device=logits.device)

    def _index(self, model: Network) -> int:
        """The class by its number; told, once, where its name is another's number."""
        note = chosen_class(self.target, model.classes).note
        if note and note not in self._told:
            log.warning(note)
            self._told.add(note)
        return class_index(self.target, model)


def class_index(target: int | str, model: Network | None) -> int:
    """The index of a class among a model's logits.

    Args:
        target: An index or a name, as `chosen_class` understands them.
        model: Whose `classes` are looked up; one without names takes any index.

    Raises:
        RecipeError: The model has no such class; the message suggests names.

    Example:
        >>> class_index("281", None)
        281
    """
    names: tuple[str, ...] = () if model is None else model.classes
    place = chosen_class(target, names).place
    if place is None:
        known = listed(names) or "none by name"
        hint = class_hint(str(target), names)
        raise RecipeError(f"Unknown class {target!r}.{hint} Known: {known}.")
    _expect_class(place, len(names) or None)
    return place


def _expect_class(index: int, count: int | None) -> None:
    """Whether a class is one of so many; of unknown many, if None."""
    if index < 0 or (count is not None and index >= count):
        last = "" if count is None else count - 1
        raise RecipeError(f"Class {index} is outside 0–{last}.")


@final
class KLDivergence(Objective):
    """KL divergence from the model's softmax on the reference to its softmax on the image.

    Σ_k p_k (log p_k − log q_k), p of the reference and q of the image; 0 where they agree.

    Args:
        model: Name of the classifier.

    Source: MAGIC Eq. 1, the alternative to the greedy class of Eq. 2.
    """

    def __init__(self, *, model: str = "classifier") -> None:
        self.model = model
        self._wanted: Float[Tensor, "#b k"] | None = None

    def needs(self, models: Mapping[str, Any]) -> Needs:
        """The classifier's logits."""
        return {self.model: (LOGITS,)}

    def prepare(self, reference: View | None) -> None:
        """The softmax of the reference."""
        if reference is None:
            raise InputError("`kl_divergence` compares with a reference; give an image.")
        self._wanted = reference.logits(model=self.model).log_softmax(1)

    def forward(self, view: View) -> Float[Tensor, " b"]:
        log_q = view.logits(model=self.model).log_softmax(1)
        if self._wanted is None:
            raise InputError("`kl_divergence` was not prepared with a reference.")
        wanted = view.rows(self._wanted).expand_as(log_q)
        return F.kl_div(log_q, wanted, reduction="none", log_target=True).sum(1)


@final
class Activation(Objective):
    """Mean squared activation of a layer; give the term a negative weight to raise it.

    Args:
        layer: Any layer of the model.
        channel: One channel of it; all by default.
        model: Name of the classifier.
        axis: Of the channels in what the layer puts out, -1 where they come last; found by itself
            if not named.

    Source: DeepDream, Mordvintsev et al. 2015.
    """

    def __init__(
        self,
        *,
        layer: str,
        channel: int | None = None,
        model: str = "classifier",
        axis: int | None = None,
    ) -> None:
        self.layer, self.channel, self.model, self.axis = layer, channel, model, axis

    def needs(self, models: Mapping[str, Any]) -> Needs:
        """The one layer that it looks at."""
        return {self.model: (self.layer,)}

    def forward(self, view: View) -> Float[Tensor, " b"]:
        units = view.tap(self.layer, model=self.model)
        if self.channel is not None:
            units = self._one_channel(view, units, self.channel)
        return units.square().flatten(1).mean(1)

    def _one_channel(self, view: View, units: Tensor, channel: int) -> Tensor:
        if units.ndim in (3, 4):
            units = feature_maps(
                units, view, self.layer, model=self.model, axis=self.axis, who="activation"
            )
        if units.ndim < 2 or not -units.shape[1] <= channel < units.shape[1]:
            last = f"channels 0–{units.shape[1] - 1}" if units.ndim > 1 else "no channels"
            raise RecipeError(f"Layer {self.layer!r} has {last}, not {channel}.")
        return units[:, channel, None]  # of (b, k) logits as of (b, c, h, w) maps


@final
class Attention(Objective):
    """−log of the share of the classifier's attention that lies in a mask.

    Attention is Grad-CAM's map of a layer, ReLU(Σ_c α_c A_c), with α_c the mean gradient of the
    reference's class at channel c, computed once on the reference.

    Args:
        layer: A layer with spatial output.
        model: Name of the classifier.
        target: The mask; without it, that of the object in the reference, `mask`.
        mask: See `target`.
        axis: Of the channels in what the layer puts out, -1 where they come last; found by itself
            if not named.

    Source: IMAGINE controls position by attention maps; the form is not published, so this is
    ours, after Selvaraju et al. 2017 (arXiv:1610.02391).
    """

    weighs_region: ClassVar[bool] = True

    def __init__(
        self,
        *,
        layer: str,
        model: str = "classifier",
        target: str = "target",
        mask: str = "mask",
        axis: int | None = None,
    ) -> None:
        self.layer, self.model, self.mask, self.target = layer, model, mask, target
        self.axis = axis
        self._weights: Tensor | None = None

    def needs(self, models: Mapping[str, Any]) -> Needs:
        """The one layer that it looks at."""
        return {self.model: (self.layer,)}

    def prepare(self, reference: View | None) -> None:
        """The channels' weights for the reference's class."""
        if reference is None:
            raise InputError("`attention` takes its class from a reference; give an image.")
        with torch.enable_grad():  # the engine prepares terms without
            image = reference.image.detach().requires_grad_()
            seen = reference.network(self.model).observe(image, (self.layer, LOGITS))
            top = seen[LOGITS].max(1).values.sum()
            (gradient,) = torch.autograd.grad(top, seen[self.layer])
        weights = self._maps(gradient, reference).mean((2, 3), keepdim=True)
        self._weights = weights.to(reference.image.dtype)

    def _maps(self, features: Tensor, view: View) -> Float[Tensor, "b c h w"]:
        return feature_maps(
            features, view, self.layer, model=self.model, axis=self.axis, who="attention"
        )

    def forward(self, view: View) -> Float[Tensor, " b"]:
        _, inside = view.scene.masks(self.mask, self.target)
        if inside is None or self._weights is None:
            raise InputError("`attention` needs a reference and a target mask; give both.")
        features = self._maps(view.tap(self.layer, model=self.model), view)
        weights = view.rows(self._weights)
        maps = (features * weights).sum(1, keepdim=True).relu() + _FAINT
        wanted = resize_mask(inside, (maps.shape[-2], maps.shape[-1]))
        share = (maps * wanted).sum((1, 2, 3)) / maps.sum((1, 2, 3))
        return -share.clamp(min=_FAINT).log()


_FAINT = 1e-6  # where no channel answers, attention counts as spread evenly
