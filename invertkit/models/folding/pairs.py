"""Which batch norms of a network are the only readers of a convolution: seen in one forward.

The operations themselves are watched, so that it does not matter how a network is written. Names
would not do (`bn1` need not follow `conv1`), and neither does the order of modules: between the
two, a network may add a skip connection, or look at what the convolution gave. `torch.fx` would
see all that, but refuses code that branches on a tensor's size, as many networks do.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import Node, saved_tensors_hooks
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

Remainder = Callable[[Tensor], Tensor]
Place = tuple[Mapping[str, nn.Module | None], str, nn.Module]


@final
@dataclass(frozen=True, eq=False)
class Pair:
    """A convolution and the batch norm that is the only reader of its output.

    Args:
        conv: The convolution.
        norm: The batch norm.
        places: Where the network holds both: children of a module, name, module.
        between: Names under which a tap would see what lies between the two.
        witnesses: The modules that see it: both, and containers that end or begin there.
        remainder: What the batch norm's module does besides normalising.
    """

    conv: nn.Conv2d
    norm: _BatchNorm
    places: tuple[Place, ...]
    between: frozenset[str]
    witnesses: tuple[nn.Module, ...]
    remainder: Remainder

    def __post_init__(self) -> None:
        # Some libraries change a module by giving it another class.
        vars(self)["_kinds"] = (type(self.conv), type(self.norm))

    def undisturbed(self) -> bool:
        """Whether both are still as they were found: in place, evaluating, watched by nobody."""
        conv, norm = self.conv, self.norm
        # A `forward` of their own is somebody's patch, or another thread's loan.
        if (
            norm.training
            or "forward" in vars(conv)
            or "forward" in vars(norm)
            or (type(conv), type(norm)) != vars(self)["_kinds"]
        ):
            return False
        for children, name, module in self.places:
            if children.get(name) is not module:
                return False
        # A list: this is asked in every forward, and a generator costs more than the few modules.
        return not any([has_hooks(module) for module in self.witnesses])


def has_hooks(module: nn.Module) -> bool:
    """Whether somebody watches the module, or changes what it is given or puts out.

    Example:
        >>> module = nn.ReLU()
        >>> handle = module.register_forward_hook(lambda *_: None)
        >>> has_hooks(module), has_hooks(nn.ReLU())
        (True, False)
    """
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def find_pairs(net: nn.Module, example: Float[Tensor, "1 c h w"]) -> tuple[Pair, ...]:
    """The pairs of a network, whatever its architecture, by watching it at work.

    A pair is a convolution with weights of its own, that runs once, and a batch norm with running
    statistics, that runs once too, on the very tensor that the convolution put out. Nobody else
    takes that tensor: no operation does, and in the graph of gradients, of whatever any module
    puts out, the batch norm's is the only edge to the convolution. Not joined are layers with
    hooks or in training mode, weights that are computed in the forward, and what is run again in
    the backward.

    Args:
        net: In evaluation mode. It runs once, to its end.
        example: Of the size that is wanted; its values do not matter.

    Returns:
        In forward order; nothing where the network cannot take the example.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
        >>> (pair,) = find_pairs(net, torch.zeros(1, 3, 8, 8))
        >>> pair.conv is net[0], sorted(pair.between)
        (True, ['0', '1:input'])
    """
    modules = list(net.modules())
    if any(map(is_compiled, modules)) or not any(isinstance(m, _BatchNorm) for m in modules):
        return ()
    watch = _Watch(net)
    try:
        if not runs(watch.run, example):
            return ()
        return tuple(pair for pair in watch.pairs() if pair.undisturbed())
    finally:
        watch.forget()


def runs(code: Callable[[Tensor], object], example: Tensor) -> bool:
    """Whether it takes the example. Nobody notices the attempt, except what keeps count.

    Args:
        code: What is tried out.
        example: Is not changed.
    """
    # Networks with dropout or noise draw from the global generator, also when they are only tried.
    devices = [example.device] if example.is_cuda else []
    try:
        with (
            torch.inference_mode(mode=False),
            torch.enable_grad(),
            torch.random.fork_rng(devices),
            warnings.catch_warnings(action="ignore"),
        ):
            code(example.detach().clone().requires_grad_())
    except Exception:
        # Any network may be given, and it may refuse in any way.
        return False
    return True


# ---------------------------------------------------------------------- the search

# What an operation gives if it only asks: a shape or a type says nothing of the numbers.
_NO_USE: Final = (int, str, torch.Size, torch.dtype, torch.device, torch.layout)
_CONV: Final = ("input", "weight", "bias")
_NORM: Final = (
    "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps",
)  # fmt: skip


@dataclass(eq=False)
class _Call:
    """A convolution that ran: its module, its output, and what became of that."""

    conv: nn.Conv2d
    output: Tensor
    node: Node
    readers: list[tuple[_BatchNorm, Node]] = field(default_factory=list)
    between: set[str] = field(default_factory=set)
    witnesses: list[nn.Module] = field(default_factory=list)
    spoiled: bool = False


@final
class _Watch(TorchFunctionMode):
    """Sees every operation of a forward, and by hooks which module does it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.names: defaultdict[nn.Module, list[str]] = defaultdict(list)
        for name, module in net.named_modules(remove_duplicate=False):
            self.names[module].append(name)
        self.running: list[nn.Module] = []
        self.calls: dict[int, _Call] = {}
        self.uses: Counter[int] = Counter()
        self.shown: list[Tensor] = []
        self.packed = 0

    def run(self, example: Tensor) -> None:
        handles = []
        try:
            for module in self.names:
                handles.append(module.register_forward_pre_hook(self._enter))
                handles.append(module.register_forward_hook(self._leave))
            with saved_tensors_hooks(self._pack, lambda tensor: tensor), self:
                self.shown += _tensors(self.net(example))
        finally:
            for handle in handles:
                handle.remove()

    def forget(self) -> None:
        """Let go of the graph, whose hooks hold this: no collector would see that ring."""
        self.shown.clear()
        self.calls.clear()

    def pairs(self) -> Iterable[Pair]:
        """What has been seen to be a pair."""
        readers = _readers([t.grad_fn for t in self.shown if t.grad_fn is not None])
        for call in self.calls.values():
            if call.spoiled or len(call.readers) != 1:
                continue
            ((norm, node),) = call.readers
            remainder = _remainder(norm)
            # Shared weights run several times, and the batch norm belongs to one of them only.
            once = self.uses[id(call.conv.weight)] == self.uses[id(norm)] == 1
            if not once or remainder is None or readers[call.node] != [node]:
                continue
            yield Pair(
                conv=call.conv,
                norm=norm,
                places=(*self._places(call.conv), *self._places(norm)),
                between=frozenset(call.between),
                witnesses=tuple(dict.fromkeys((call.conv, norm, *call.witnesses))),
                remainder=remainder,
            )

    def _places(self, module: nn.Module) -> list[Place]:
        places: list[Place] = []
        for name in self.names[module]:
            parent, _, child = name.rpartition(".")
            places.append((self.net.get_submodule(parent)._modules, child, module))
        return places

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._show(module, inputs[:1], ":input")
        self.running.append(module)

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.running.pop()
        self._show(module, output, "")
        self.shown += _tensors(output)

    def _show(self, module: nn.Module, value: Any, suffix: str) -> None:
        for tensor in _tensors(value):
            if (call := self.calls.get(id(tensor))) is not None:
                call.between.update(f"{name}{suffix}" for name in self.names[module])
                call.witnesses.append(module)

    def _pack(self, tensor: Tensor) -> Tensor:
        """Not called where hooks from inside the network, of a checkpoint say, come before."""
        self.packed += 1
        # Else an output would hold its own node, and that the output.
        return tensor.detach()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (F.batch_norm, torch.batch_norm):
            return self._norm(func, args, kwargs)
        # A convolution that saves nothing by our hook runs under gradient checkpointing: it would
        # be run again in the backward, when the weights have been taken back.
        packed = self.packed
        out = func(*args, **kwargs)
        if not isinstance(out, _NO_USE):
            for tensor in _tensors((args, kwargs)):
                if (call := self.calls.get(id(tensor))) is not None:
                    call.spoiled = True
        if func is torch.conv2d:
            self._conv(out, dict(zip(_CONV, args, strict=False)) | kwargs, self.packed > packed)
        return out

    def _conv(self, out: Tensor, given: Mapping[str, Any], ours: bool) -> None:  # noqa: FBT001
        self.uses[id(given["weight"])] += 1
        conv = self.running[-1]
        if (
            ours
            and isinstance(conv, nn.Conv2d)
            and given["weight"] is conv._parameters.get("weight")
            and given.get("bias") is conv._parameters.get("bias")
            and out.grad_fn is not None
        ):
            self.calls[id(out)] = _Call(conv, out, out.grad_fn)

    def _norm(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        given = dict(zip(_NORM, args, strict=False)) | kwargs
        out: Tensor = func(*args, **kwargs)
        norm = self.running[-1]
        self.uses[id(norm)] += 1
        if (call := self.calls.get(id(given["input"]))) is not None:
            if (
                isinstance(norm, _BatchNorm)
                and given["running_mean"] is not None
                and given["running_mean"] is norm._buffers.get("running_mean")
                and given["running_var"] is norm._buffers.get("running_var")
                and given.get("weight") is norm._parameters.get("weight")
                and given.get("bias") is norm._parameters.get("bias")
                and not given.get("training", False)
                and given.get("eps", 1e-5) == norm.eps
                and out.grad_fn is not None
            ):
                call.readers.append((norm, out.grad_fn))
            else:
                call.spoiled = True
        return out


def _readers(roots: Iterable[Node]) -> defaultdict[Node, list[Node]]:
    """For every node of the graph of gradients the nodes that it gets a gradient from."""
    readers: defaultdict[Node, list[Node]] = defaultdict(list)
    known = set(roots)
    todo = list(known)
    while todo:
        node = todo.pop()
        for source, _ in node.next_functions:
            if source is not None:
                readers[source].append(node)
                if source not in known:
                    known.add(source)
                    todo.append(source)
    return readers


def _remainder(norm: _BatchNorm) -> Remainder | None:
    """What the module does besides normalising; None where that is not known."""
    kind = type(norm)
    if kind.forward in (nn.BatchNorm2d.forward, nn.SyncBatchNorm.forward):
        return _nothing
    # By name, since timm need not be imported where no network of it is.
    if kind.__module__.startswith("timm.layers") and kind.__name__ == "BatchNormAct2d":
        return _Activation(norm)
    return None


def _nothing(features: Tensor) -> Tensor:
    return features


@final
@dataclass(frozen=True, eq=False)
class _Activation:
    """The dropping and the activation that timm's norm carries."""

    norm: nn.Module

    def __call__(self, features: Tensor) -> Tensor:
        out: Tensor = self.norm.act(self.norm.drop(features))  # type: ignore[operator]
        return out


def is_compiled(module: nn.Module) -> bool:
    """Whether Dynamo stands between the module and its operations."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
