"""Looking at the layers of a network while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn

from invertkit.errors import TapError

Show = Callable[[str, Tensor], None]
"""Told the name of a layer and what it puts out."""


@final
class Taps:
    """Keeps what layers put out, as it was when they put it out.

    A network may write into what a layer gave it: `out += identity`, `F.relu(x, inplace=True)`.
    Every tensor counts how often it was written to, so a look into which somebody wrote is noticed,
    and taken again with copies of those layers; later looks copy them at once. Where nobody writes,
    nothing is copied.

    Example:
        >>> def run(show):
        ...     features = torch.tensor([-1.0, 1.0])
        ...     show("features", features)
        ...     show("positive", features.relu_())
        >>> seen = Taps().look(run)
        >>> seen["features"].tolist(), seen["positive"].tolist()
        ([-1.0, 1.0], [0.0, 1.0])
    """

    def __init__(self) -> None:
        self._written: set[str] = set()

    def look(self, run: Callable[[Show], None]) -> dict[str, Tensor]:
        """What a run shows, by name; what it shows first, if a name comes several times.

        Args:
            run: Runs the network and shows what it is to show; called again, the first times that
                it writes into that.
        """
        while True:
            seen: dict[str, Tensor] = {}
            counts: dict[str, int] = {}
            run(partial(self._keep, seen, counts))
            written = {name for name, count in counts.items() if seen[name]._version != count}
            if not written:
                return seen
            self._written |= written

    def _keep(
        self, seen: dict[str, Tensor], counts: dict[str, int], name: str, value: Tensor
    ) -> None:
        if name in seen:
            return
        if name in self._written or value.is_inference():  # whose tensors do not count
            kept = value.clone()
            if value.requires_grad and torch.is_grad_enabled():
                # Its numbers stay. But what follows now follows from the copy, so that a gradient
                # by what is shown is whole; and whoever else holds the tensor sees later writes.
                value.copy_(kept)
            value = kept
        else:
            counts[name] = value._version
        seen[name] = value


def tensor_of(value: Any, who: str) -> Tensor:
    """The tensor that counts among what a network or a layer gives.

    Itself; of what has logits, those; of mappings, sequences and dataclasses the first tensor.

    Args:
        value: What it gives.
        who: Gives it, for the message.

    Raises:
        TapError: No tensor.

    Example:
        >>> tensor_of({"features": torch.zeros(2), "logits": torch.ones(1)}, "The network")
        tensor([1.])
        >>> tensor_of((torch.zeros(2), None), "The layer").shape
        torch.Size([2])
    """
    if isinstance(value, Tensor):
        return value
    parts: Iterable[Any] = ()
    if isinstance(value, Mapping):
        parts = (value.get("logits"), *value.values())
    elif isinstance(value, Sequence):
        parts = (getattr(value, "logits", None), *value)
    elif is_dataclass(value):
        parts = (getattr(value, "logits", None), *(getattr(value, f.name) for f in fields(value)))
    elif hasattr(value, "logits"):
        parts = (value.logits,)
    for part in parts:
        if isinstance(part, Tensor):
            return part
    raise TapError(
        f"{who} gives {type(value).__name__} without a tensor in it; expected a tensor, or a "
        "tuple, mapping or dataclass that holds one."
    )


class _EnoughError(Exception):
    """Every layer that was asked for has been seen; the rest of the network need not run."""


def run_watched(
    modules: Mapping[str, nn.Module], run: Callable[[], Any], show: Show, *, output: str = ""
) -> None:
    """Run a network and show some of its layers.

    Args:
        modules: The layers by name; of a name that ends in `:input` the input is shown.
        run: Runs the network.
        show: Is told of the layers, of one that runs several times each time.
        output: The name to show the network's own output by; if empty, it runs no further than the
            last of the layers, if there are any.

    Example:
        >>> net = nn.Sequential(nn.ReLU(), nn.Flatten())
        >>> image = torch.tensor([[[-1.0], [1.0]]])
        >>> run_watched({"0": net[0], "1:input": net[1]}, lambda: net(image), print)
        0 tensor([[[0.],
                 [1.]]])
        1:input tensor([[[0.],
                 [1.]]])
    """
    left = set(modules)

    def seen(name: str, value: Tensor) -> None:
        show(name, value)
        left.discard(name)
        if not left and not output:
            raise _EnoughError

    with _hooks(modules, seen):
        try:
            whole = run()
        except _EnoughError:
            return
    if output:
        show(output, tensor_of(whole, "The network"))


@contextmanager
def _hooks(modules: Mapping[str, nn.Module], seen: Show) -> Iterator[None]:
    """Hooks that tell what the layers are given or put out; removed in any case.

    They are put where `register_forward_hook` puts them, which for small networks would take
    longer than a layer.
    """
    graph = torch.is_grad_enabled()

    def tell(name: str, value: Any) -> None:
        tensor = tensor_of(value, f"Layer {name!r}")
        if graph and not torch.is_grad_enabled():
            raise TapError(
                f"Layer {name!r} runs without gradients inside the network (under `no_grad`, or "
                "as a checkpointed block that is run again). Read the block around it, or switch "
                "gradient checkpointing off."
            )
        seen(name, tensor)

    def before(module: nn.Module, inputs: Any, named: dict[str, Any], *, name: str) -> None:
        # Nearly always a layer is given one tensor, and a look may be at a hundred inputs.
        alone = inputs and isinstance(inputs[0], Tensor)
        tell(name, inputs[0] if alone else (*inputs, *named.values()))

    def after(module: nn.Module, inputs: Any, output: Any, *, name: str) -> None:
        tell(name, output)

    # A dictionary keeps its order: hooks of others that are there already run before these.
    placed: list[tuple[dict[Any, Any], Any]] = []
    try:
        for name, module in modules.items():
            early = name.endswith(":input")
            hooks = module._forward_pre_hooks if early else module._forward_hooks
            hook = partial(before if early else after, name=name)
            placed.append((hooks, hook))
            hooks[hook] = hook  # type: ignore[index]
            if early:  # some networks give their layers everything by name
                placed.append((module._forward_pre_hooks_with_kwargs, hook))
                module._forward_pre_hooks_with_kwargs[hook] = True  # type: ignore[index]
        yield
    finally:
        for hooks, hook in placed:
            hooks.pop(hook, None)
