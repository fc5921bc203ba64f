"""Agreement of channel statistics in a classifier, with a photograph or its training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.log import log
from invertkit.core.scene import Needs
from invertkit.core.suggestions import listed
from invertkit.core.view import View
from invertkit.errors import InputError, RecipeError
from invertkit.objectives.base import Objective, required_model
from invertkit.objectives.functional import channel_statistics
from invertkit.objectives.layers import LayersObjective

_EPSILON = 1e-5  # under the root of the variance, as released


@final
class FeatureStatistics(LayersObjective):
    """Distance of channel means and standard deviations to those of the reference.

    With μ and σ = √(var + 1e-5) of every channel over the pixels (var divided by n - 1):
    `mse` is Σ_layers mean_c (μ - μ_ref)² + mean_c (σ - σ_ref)², as in the released code;
    `norm` is Σ_layers ‖μ - μ_ref‖₂ + ‖σ - σ_ref‖₂, as in the papers.

    In a region, pixels are weighted by the share of them that the region covers at the layer's
    resolution: the source mask in the reference, the target mask in the result.

    Args:
        layers: Any layers with spatial output; `default` stands for the model's own list.
        form: `mse` or `norm`.
        model: Name of the classifier.
        axis: Of the channels in what the layers put out, -1 where they come last; found by itself
            if not named.

    Source: IMAGINE R_dm; MAGIC ρ_θ.
    """

    weighs_region: ClassVar[bool] = True
    holds_reference: ClassVar[bool] = True

    def __init__(
        self,
        *,
        layers: Sequence[str] = ("default",),
        form: Literal["mse", "norm"] = "mse",
        model: str = "classifier",
        axis: int | None = None,
    ) -> None:
        super().__init__(layers=layers, model=model, axis=axis)
        self.form = form
        self._wanted: dict[str, tuple[Tensor, Tensor]] = {}

    def prepare(self, reference: View | None) -> None:
        """The statistics of the reference."""
        if reference is None:
            raise InputError("`feature_statistics` compares with a reference; give an image.")
        names = self.names(reference.scene.models)
        self._wanted = {name: self._statistics(reference, name) for name in names}

    def forward(self, view: View) -> Float[Tensor, " b"]:
        total = view.image.new_zeros(len(view.image))
        for name, of_reference in self._wanted.items():
            for mine, theirs in zip(self._statistics(view, name), of_reference, strict=True):
                wanted = view.rows(theirs)
                if self.form == "mse":
                    total = total + (mine - wanted).square().mean(1)
                else:
                    total = total + torch.linalg.vector_norm(mine - wanted, dim=1)
        return total

    def _statistics(self, view: View, name: str) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of a layer's channels, each `(b, c)`."""
        features = self.spatial(view, name, who="feature_statistics")
        weights = view.region(features.shape[-2:])
        mean, variance = channel_statistics(features, weights, unbiased=True)
        return mean, (variance + _EPSILON).sqrt()


@final
class BatchNormStatistics(Objective):
    """Distance of the batch-norm inputs' statistics to those stored in training.

    `norm`, as published, is Σ_layers m_l (‖running_var - var‖₂ + ‖running_mean - mean‖₂).
    `divergence` is the mean over the layers of m_l times the mean over their channels of the
    KL divergence between two normal distributions, the image's and the stored one,
    ½ (r - 1 - ln r + (mean - running_mean)² / (running_var + ε)) with
    r = (var + ε) / (running_var + ε) and the layer's own ε. It counts a channel in its own units,
    where in `norm` the channels of large values outweigh all others.

    var is biased, over the pixels of each image (`coupled: false`) or over pixels and batch as in
    the paper (`coupled: true`, every image then holds an equal share). m_l is `first_multiplier`
    for the first layer, else 1. Synchronised and frozen batch norms count; those that do not run,
    as of heads that serve training alone, are left out, and told.

    Args:
        model: Name of the classifier.
        first_multiplier: Weight of the first layer's distance.
        coupled: Take the statistics over the whole batch.
        form: `norm` or `divergence`.

    Source: `norm`: DeepInversion R_feature (Yin et al. 2020, Eq. 4 and released code);
    `divergence`: ours.
    """

    weighs_region: ClassVar[bool] = True

    def __init__(
        self,
        *,
        model: str = "classifier",
        first_multiplier: float = 10.0,
        coupled: bool = False,
        form: Literal["norm", "divergence"] = "norm",
    ) -> None:
        self.model, self.first_multiplier, self.coupled = model, first_multiplier, coupled
        self.form = form
        self._told: set[str] = set()

    @property
    def couples_images(self) -> bool:
        """Whether statistics are taken over the whole batch."""
        return self.coupled

    def needs(self, models: Mapping[str, Any]) -> Needs:
        """The input of every batch-norm layer that keeps running statistics.

        Raises:
            RecipeError: The model is missing, or has no such layer.
        """
        return {self.model: tuple(self._stored(models))}

    def _stored(self, models: Mapping[str, Any]) -> dict[str, _Stored]:
        """What every layer has stored of its input."""
        norms = required_model(models, self.model).batch_norms()
        if not norms:
            raise RecipeError(
                f"Model {self.model!r} has no batch-norm layer with running statistics; "
                "`batch_norm_statistics` needs one that has."
            )
        return {
            f"{name}:input": _Stored(norm.running_mean, norm.running_var, getattr(norm, "eps", 0.0))
            for name, norm in norms.items()
            if norm.running_mean is not None and norm.running_var is not None
        }

    def forward(self, view: View) -> Float[Tensor, " b"]:
        stored = view.kept((id(self), "stored"), lambda: self._stored(view.scene.models))
        shown = view.taps(tuple(stored), model=self.model)
        if len(shown) < len(stored):
            self._tell(
                [name.removesuffix(":input") for name in stored if name not in shown], stored
            )
        distance_of = _divergence if self.form == "divergence" else _norm
        total = view.image.new_zeros(len(view.image))
        for i, (name, features) in enumerate(shown.items()):
            distance = distance_of(*self._statistics(view, features), stored[name])
            share = distance / len(view.image) if self.coupled else distance
            total = total + (self.first_multiplier if i == 0 else 1.0) * share
        return total / len(shown) if self.form == "divergence" else total

    def _tell(self, inputs: Sequence[str], stored: Mapping[str, _Stored]) -> None:
        """Say once which layers do not run; a network may hold heads beside the path."""
        idle = [name.removesuffix(":input") for name in inputs]
        if len(idle) == len(stored):
            raise RecipeError(
                f"None of the batch norms of model {self.model!r} ({listed(idle, most=3)}) runs "
                "when it looks at an image; `batch_norm_statistics` needs one that does."
            )
        told = f"{len(idle)} of {len(stored)} batch norms of model {self.model!r} do not run"
        if told not in self._told:
            self._told.add(told)
            log.warning("%s (%s) and are left out.", told, listed(idle, most=3))

    def _statistics(self, view: View, features: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        """Mean and variance of a layer's channels: `(b, c)`, or `(1, c)` over the whole batch."""
        weights = view.region(features.shape[-2:])
        if self.coupled:  # as one tall image
            features = features.transpose(0, 1).flatten(1, 2)[None]
            if weights is not None:
                weights = weights.expand(len(view.image), -1, -1, -1).flatten(0, 2)[None, None]
        return channel_statistics(features, weights, unbiased=False)


class _Stored(NamedTuple):
    """What a batch norm keeps of its input from training: mean and variance `(c,)`, and its ε."""

    mean: Tensor
    variance: Tensor
    eps: float


def _norm(
    mean: Float[Tensor, "n c"], variance: Float[Tensor, "n c"], stored: _Stored
) -> Float[Tensor, " n"]:
    """Lengths of the differences of means and of variances."""
    of_mean: Tensor = torch.linalg.vector_norm(stored.mean.to(mean) - mean, dim=1)
    of_variance: Tensor = torch.linalg.vector_norm(stored.variance.to(variance) - variance, dim=1)
    return of_mean + of_variance


def _divergence(
    mean: Float[Tensor, "n c"], variance: Float[Tensor, "n c"], stored: _Stored
) -> Float[Tensor, " n"]:
    """KL divergence of normal distributions, from the image's to the stored one, by channel."""
    spread = stored.variance.to(variance) + stored.eps
    ratio = (variance + stored.eps) / spread
    off = (mean - stored.mean.to(mean)).square() / spread
    divergence: Tensor = 0.5 * (ratio - 1 - ratio.log() + off)
    return divergence.mean(1)
