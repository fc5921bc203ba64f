"""Optimizers around optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.pixel_space import Space
from invertkit.core.recording.phase import Phase
from invertkit.errors import RecipeError
from invertkit.optimizers.base import Landscape, Optimizer


@dataclass(frozen=True)
class WrappedOptimizer(Optimizer):
    """An optimizer that does all as another one does; a subclass overrides what it changes.

    Its state is that of the inner one.

    Args:
        inner: The optimizer that is asked for everything.

    Example:
        >>> from invertkit.optimizers.torch_optim import Adam
        >>> class Slowly(WrappedOptimizer):
        ...     def schedule(self, state, *, step, total):
        ...         self.inner.schedule(state, step=step // 2, total=total)
        >>> Slowly(Adam(over=("latent",))).moves(("latent", "embedding"))
        ('latent',)
    """

    inner: Optimizer

    @property
    def couples_images(self) -> bool:  # type: ignore[override]
        """As the inner optimizer does."""
        return self.inner.couples_images

    @property
    def obstacle(self) -> str:
        """That of the inner optimizer."""
        return self.inner.obstacle

    @property
    def searches(self) -> bool:
        return self.inner.searches

    @property
    def restarts_in_place(self) -> bool:
        """As the inner optimizer does."""
        return self.inner.restarts_in_place

    def phase(self, *, step: int, total: int) -> Phase:
        return self.inner.phase(step=step, total=total)

    def moves(self, names: Sequence[str]) -> tuple[str, ...]:
        return self.inner.moves(names)

    def follows(self, names: Sequence[str]) -> tuple[str, ...]:
        return self.inner.follows(names)

    def check(self, steps: int) -> None:
        self.inner.check(steps)

    def trial(self) -> Self:
        """Around the inner optimizer's."""
        return replace(self, inner=self.inner.trial())

    def init(self, params: Params) -> Any:
        return self.inner.init(params)

    def restart(self, params: Params, state: Any) -> Any:
        return self.inner.restart(params, state)

    def schedule(self, state: Any, *, step: int, total: int) -> None:
        self.inner.schedule(state, step=step, total=total)

    def step(
        self, landscape: Landscape, params: Params, state: Any, *, step: int, total: int
    ) -> Float[Tensor, " b"]:
        return self.inner.step(landscape, params, state, step=step, total=total)

    def save(self, state: Any) -> dict[str, Any]:
        return self.inner.save(state)

    def load(self, params: Params, saved: dict[str, Any]) -> Any:
        return self.inner.load(params, saved)

    def finish(self, params: Params, state: Any) -> None:
        self.inner.finish(params, state)


@final
@dataclass(frozen=True)
class Clip(WrappedOptimizer):
    """After every step, bring pixels back into the range of valid images.

    For variables whose tensor is the image, `(b, 3, h, w)`.

    Args:
        inner: The optimizer that steps.
        space: Units of the pixels: [0, 1], or ImageNet-normalised, where channel c is clipped to
            [-mean/std, (1 - mean)/std].

    Source: DeepInversion, settings 0 and 1.

    Example:
        >>> from invertkit.optimizers.torch_optim import Adam
        >>> Clip(Adam()).init({"latent": torch.zeros(1, 128)})
        Traceback (most recent call last):
        ...
        invertkit.errors.RecipeError: `clip` brings pixels (b, 3, h, w) back into range; this ...
    """

    space: Space = "unit"

    def init(self, params: Params) -> Any:
        for param in params.values():
            if param.ndim != 4 or param.shape[1] != 3:
                raise RecipeError(
                    "`clip` brings pixels (b, 3, h, w) back into range; this variable has a "
                    f"tensor of shape {tuple(param.shape)}. Use it with `pixels`."
                )
        return self.inner.init(params)

    def step(
        self, landscape: Landscape, params: Params, state: Any, *, step: int, total: int
    ) -> Float[Tensor, " b"]:
        valid = landscape.within(self.space)
        losses = self.inner.step(valid, params, state, step=step, total=total)
        valid.confine()
        return losses


@dataclass
class KeptBest:
    """The best point that `KeepBest` has seen.

    Attributes:
        losses: Of each image there, `(b,)`.
        params: The tensors there.
        inner: State of the optimizer that steps.
    """

    losses: Float[Tensor, " b"]
    params: Params
    inner: Any


@final
@dataclass(frozen=True)
class KeepBest(WrappedOptimizer):
    """At the end of the stage, go back to the best point seen, for each image on its own.

    The engine keeps the best image of every run anyway; this is for stages that shall start from
    the best of the stage before. The point after the last step has not been evaluated and does
    not compete.

    Args:
        inner: The optimizer that steps.

    Raises:
        RecipeError: It searches with a population, whose candidates this would not see.

    Example:
        >>> from invertkit.optimizers.torch_optim import Adam
        >>> state = KeepBest(Adam()).init({"pixels": torch.zeros(2, 3, 4, 4)})
        >>> state.losses
        tensor([inf, inf])
    """

    def __post_init__(self) -> None:
        if self.inner.searches:
            raise RecipeError(
                f"inner: {type(self.inner).__name__} hands on the best candidate it has judged by "
                "itself; use it without `keep_best`."
            )

    def init(self, params: Params) -> KeptBest:
        first = next(iter(params.values()))
        return KeptBest(
            first.new_full((len(first),), torch.inf),
            {name: param.detach().clone() for name, param in params.items()},
            self.inner.init(params),
        )

    def restart(self, params: Params, state: KeptBest) -> KeptBest:
        state.losses.fill_(torch.inf)
        for name, param in params.items():
            state.params[name].copy_(param.detach())
        state.inner = self.inner.restart(params, state.inner)
        return state

    def schedule(self, state: KeptBest, *, step: int, total: int) -> None:
        self.inner.schedule(state.inner, step=step, total=total)

    def step(
        self, landscape: Landscape, params: Params, state: KeptBest, *, step: int, total: int
    ) -> Float[Tensor, " b"]:
        # The losses are of the point before the step, which the step is about to change.
        before = {name: param.detach().clone() for name, param in params.items()}
        losses = self.inner.step(landscape, params, state.inner, step=step, total=total)
        better = losses < state.losses
        state.losses.copy_(torch.where(better, losses, state.losses))
        for name, point in before.items():
            best = state.params[name]
            best.copy_(torch.where(better.reshape(-1, *[1] * (point.ndim - 1)), point, best))
        return losses

    def save(self, state: KeptBest) -> dict[str, Any]:
        return {
            "losses": state.losses.clone(),
            "params": {name: param.clone() for name, param in state.params.items()},
            "inner": self.inner.save(state.inner),
        }

    def load(self, params: Params, saved: dict[str, Any]) -> KeptBest:
        inner = self.inner.load(params, saved["inner"])
        best = {
            name: saved["params"][name].to(param.device, copy=True)
            for name, param in params.items()
        }
        device = next(iter(params.values())).device
        return KeptBest(saved["losses"].to(device, copy=True), best, inner)

    def finish(self, params: Params, state: KeptBest) -> None:
        self.inner.finish(params, state.inner)
        with torch.no_grad():
            for name, param in params.items():
                param.copy_(state.params[name])
