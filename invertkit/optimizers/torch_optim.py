"""The optimizers of `torch.optim`, by name."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.params import Params
from invertkit.core.ranges import Count, Decay, NonNegative, Positive
from invertkit.core.recording.fused_adam import FusedAdam
from invertkit.core.schedules import Schedule, value_at
from invertkit.core.suggestions import did_you_mean
from invertkit.errors import RecipeError
from invertkit.optimizers.base import Landscape, Optimizer, chosen

# Each number is changed by its own gradient alone, so the images of a batch stay apart.
_ELEMENTWISE = {
    "ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop",
    "SGD",
}  # fmt: skip


@final
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam with a learning rate that may follow a schedule.

    Args:
        lr: A number or a schedule over the steps of the stage; MAGIC and DeepInversion use
            `{type: cosine, peak: 0.2, warmup: 100}`.
        betas: Decay of the two moments.
        eps: Added to the root of the second moment.
        over: Names of the tensors to change; all by default.
        rates: Learning rate of some tensors as a multiple of `lr`, by name.

    Source: Kingma & Ba 2015 (arXiv:1412.6980).

    Example:
        >>> adam = Adam(lr=0.1, over=("latent",))
        >>> adam.moves(("latent", "embedding"))
        ('latent',)
        >>> Adam(rates={"latnt": 0.2}).moves(("latent", "embedding"))
        Traceback (most recent call last):
        ...
        invertkit.errors.RecipeError: rates: this recipe's variable has no tensor 'latnt'; it ...
    """

    lr: Schedule = 0.05
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: Positive = 1e-8
    over: tuple[str, ...] = ()
    rates: Mapping[str, NonNegative] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_lr(self.lr)

    def moves(self, names: Sequence[str]) -> tuple[str, ...]:
        chosen(tuple(self.rates), names, option="rates")
        return chosen(self.over, names)

    @property
    def obstacle(self) -> str:
        """None: the fused kernel changes tensors in place and reads its rate from one."""
        return ""

    def init(self, params: Params) -> FusedAdam:
        chosen(tuple(self.rates), tuple(params), option="rates")
        moved = _moved(params, self.over)
        factors = [self.rates.get(name, 1.0) for name in moved]
        # The rate is set before every step: a tensor, so that replayed steps read the new one.
        return FusedAdam(moved.values(), lr=1.0, betas=self.betas, eps=self.eps, factors=factors)

    @property
    def restarts_in_place(self) -> bool:
        """True: moments and the count of steps are zeroed."""
        return True

    def restart(self, params: Params, state: FusedAdam) -> FusedAdam:
        state.reset()
        return state

    def schedule(self, state: Any, *, step: int, total: int) -> None:
        state.set_rate(value_at(self.lr, step, total))

    def step(
        self, landscape: Landscape, params: Params, state: Any, *, step: int, total: int
    ) -> Float[Tensor, " b"]:
        self.schedule(state, step=step, total=total)
        state.zero_grad()
        losses = landscape.gradients()
        state.step()
        return losses

    def save(self, state: FusedAdam) -> dict[str, Any]:
        return state.save()

    def load(self, params: Params, saved: dict[str, Any]) -> FusedAdam:
        state = self.init(params)
        state.load(saved)
        return state


@dataclass(frozen=True)
class _OfTorch(Optimizer):
    """What rules share whose state is an optimizer of PyTorch, which `init` makes."""

    @property
    @abstractmethod
    def over(self) -> tuple[str, ...]:
        """Names of the tensors to change; all if empty."""

    @property
    @abstractmethod
    def lr(self) -> Schedule:
        """Learning rate, a number or a schedule over the steps of the stage."""

    def __post_init__(self) -> None:
        _check_lr(self.lr)

    def moves(self, names: Sequence[str]) -> tuple[str, ...]:
        return chosen(self.over, names)

    def step(
        self,
        landscape: Landscape,
        params: Params,
        state: torch.optim.Optimizer,
        *,
        step: int,
        total: int,
    ) -> Float[Tensor, " b"]:
        evaluated: list[Tensor] = []  # a line search asks more than once; the first was before
        for group in state.param_groups:
            group["lr"] = value_at(self.lr, step, total)

        def summed() -> Tensor:
            state.zero_grad()
            evaluated.append(landscape.gradients())
            return evaluated[-1].sum()

        state.step(summed)  # type: ignore[arg-type]  # torch takes tensors too
        return evaluated[0]

    def save(self, state: torch.optim.Optimizer) -> dict[str, Any]:
        # A copy, since PyTorch hands out the tensors that the next step changes.
        return deepcopy(dict(state.state_dict()))

    def load(self, params: Params, saved: dict[str, Any]) -> torch.optim.Optimizer:
        state: torch.optim.Optimizer = self.init(params)
        state.load_state_dict(deepcopy(saved))
        return state


@final
@dataclass(frozen=True)
class TorchOptimizer(_OfTorch):
    """Any optimizer of `torch.optim`.

    Args:
        name: Its class name, such as `SGD`, `RMSprop`, `NAdam`.
        lr: A number or a schedule over the steps of the stage.
        options: Its other arguments, such as `{momentum: 0.9}`.
        over: Names of the tensors to change; all by default.

    Raises:
        RecipeError: PyTorch has no such optimizer, or it takes no such option.

    Example:
        >>> TorchOptimizer("SGD", lr=0.1, options={"momentum": 0.9}).couples_images
        False
        >>> TorchOptimizer("SDG")
        Traceback (most recent call last):
        ...
        invertkit.errors.RecipeError: torch.optim has no 'SDG'. Did you mean 'SGD'? ...
    """

    name: str
    lr: Schedule = 0.05
    options: Mapping[str, Any] = field(default_factory=dict)
    over: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        known = inspect.signature(self._kind()).parameters
        for option in self.options:
            if option not in known or option in ("params", "lr"):
                hint = did_you_mean(option, known)
                raise RecipeError(f"torch.optim.{self.name} takes no option {option!r}.{hint}")

    @property
    def couples_images(self) -> bool:  # type: ignore[override]
        """Whether this rule mixes the numbers of one tensor."""
        return self.name not in _ELEMENTWISE

    def _kind(self) -> Any:
        """The class of that name."""
        known = [
            name
            for name, kind in vars(torch.optim).items()
            if inspect.isclass(kind)
            and issubclass(kind, torch.optim.Optimizer)
            and kind is not torch.optim.Optimizer
        ]
        if self.name not in known:
            hint = did_you_mean(self.name, known)
            raise RecipeError(
                f"torch.optim has no {self.name!r}.{hint} It has: {', '.join(sorted(known))}."
            )
        return getattr(torch.optim, self.name)

    def init(self, params: Params) -> torch.optim.Optimizer:
        moved = list(_moved(params, self.over).values())
        rule: torch.optim.Optimizer = self._kind()(moved, lr=1.0, **self.options)
        return rule


@dataclass
class LBFGSState:
    """Where L-BFGS is.

    Attributes:
        rule: PyTorch's, over `free`.
        free: What it moves, by name: the tensors by their rates, before they are confined.
    """

    rule: torch.optim.LBFGS
    free: Params


@final
@dataclass(frozen=True)
class LBFGS(Optimizer):
    """L-BFGS, one image at a time; a step is up to `iterations` inner iterations.

    Where tensors may not be everywhere, as latents within their limit, it descends the loss of
    the confined point: every point that it tries is brought back before it is judged, and what is
    held at an edge has no slope outwards.

    Args:
        lr: Length of the first trial step.
        iterations: Inner iterations a step.
        history: Pairs kept for the curvature.
        strong_wolfe: Search along each direction until the strong Wolfe conditions hold.
        over: Names of the tensors to change; all by default.
        rates: How freely some tensors move beside the others, by name: the rule sees the tensor
            divided by it, which for Adam would be a rate that many times as large.

    Source: Liu & Nocedal 1989, as in `torch.optim.LBFGS`.

    Example:
        >>> LBFGS(iterations=10).couples_images  # one line search would serve the whole batch
        True
    """

    lr: Schedule = 1.0
    iterations: Count = 20
    history: Count = 10
    strong_wolfe: bool = True
    over: tuple[str, ...] = ()
    rates: Mapping[str, Positive] = field(default_factory=dict)
    couples_images: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        _check_lr(self.lr)

    def moves(self, names: Sequence[str]) -> tuple[str, ...]:
        chosen(tuple(self.rates), names, option="rates")
        return chosen(self.over, names)

    def init(self, params: Params) -> LBFGSState:
        chosen(tuple(self.rates), tuple(params), option="rates")
        moved = _moved(params, self.over)
        free = {name: param.detach() / self._rate(name) for name, param in moved.items()}
        rule = torch.optim.LBFGS(
            list(free.values()),
            lr=1.0,
            max_iter=self.iterations,
            history_size=self.history,
            line_search_fn="strong_wolfe" if self.strong_wolfe else None,
        )
        return LBFGSState(rule, free)

    def _rate(self, name: str) -> float:
        return self.rates.get(name, 1.0)

    def step(
        self, landscape: Landscape, params: Params, state: LBFGSState, *, step: int, total: int
    ) -> Float[Tensor, " b"]:
        evaluated: list[Tensor] = []  # a line search asks more than once; the first was before
        for group in state.rule.param_groups:
            group["lr"] = value_at(self.lr, step, total)
        self._take_up(landscape, params, state)

        def summed() -> Tensor:
            asked = self._place(landscape, params, state)
            evaluated.append(landscape.gradients())
            for name, free in state.free.items():
                slope = params[name].grad
                assert slope is not None  # noqa: S101 # just evaluated
                held = params[name].detach() != asked[name]
                free.grad = (slope * self._rate(name)).masked_fill(held, 0)
            return evaluated[-1].sum()

        state.rule.step(summed)
        self._place(landscape, params, state)
        return evaluated[0]

    def _take_up(self, landscape: Landscape, params: Params, state: LBFGSState) -> None:
        """Go on from where the tensors are, if somebody has moved them since."""
        here = {name: params[name].detach().clone() for name in state.free}
        self._place(landscape, params, state)
        if all(torch.equal(params[name].detach(), where) for name, where in here.items()):
            return
        with torch.no_grad():
            for name, where in here.items():
                params[name].copy_(where)
                state.free[name].copy_(where / self._rate(name))

    def _place(self, landscape: Landscape, params: Params, state: LBFGSState) -> Params:
        """Bring the tensors to where the rule is, confined; where they were asked to be."""
        asked = {name: free * self._rate(name) for name, free in state.free.items()}
        with torch.no_grad():
            for name, where in asked.items():
                params[name].grad = None
                params[name].copy_(where)
        landscape.confine()
        return asked

    def save(self, state: LBFGSState) -> dict[str, Any]:
        # A copy, since PyTorch hands out the tensors that the next step changes.
        return deepcopy({"rule": dict(state.rule.state_dict()), "free": state.free})

    def load(self, params: Params, saved: dict[str, Any]) -> LBFGSState:
        state = self.init(params)
        state.rule.load_state_dict(deepcopy(saved["rule"]))
        for name, free in state.free.items():
            free.copy_(saved["free"][name])
        return state


def _check_lr(lr: Schedule) -> None:
    """A negative rate would climb; a term that shall be raised has a negative weight instead."""
    if isinstance(lr, int | float) and lr < 0:
        raise ValueError(
            f"lr: expected a number not below 0, got {lr}; to raise a term, give it a negative "
            "weight"
        )


def _moved(params: Params, over: Sequence[str]) -> Params:
    """The tensors that `over` names; the others take no gradient."""
    names = chosen(over, tuple(params))
    for name, param in params.items():
        param.requires_grad_(name in names)
    return {name: params[name] for name in names}
