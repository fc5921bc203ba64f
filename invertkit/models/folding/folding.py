"""A frozen network with less work: batch norms joined to convolutions, weights as CPUs like them.

In evaluation mode a batch norm is an affine map of every channel, y = (x − μ) s + β with
s = γ / √(σ² + ε). Where it alone reads a convolution W ∗ x + b, both together are the convolution
(W s) ∗ x + (b − μ) s + β: a pass over the feature map less, and another over its gradient.

On a CPU convolutions in float32 are faster on weights that lie in memory channels last; what they
put out then lies so too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any, Final, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from invertkit.models.folding.pairs import Pair, find_pairs, has_hooks, is_compiled, runs

# Each size of image costs a trial run, and a pyramid of scales may have many.
_SIZES: Final = 32
# In fewer bits, rounding a weight twice would show.
_EXACT: Final = ({torch.float32}, {torch.float64})


def joined(
    weight: Float[Tensor, "o i h w"],
    bias: Float[Tensor, " o"] | None,
    mean: Float[Tensor, " o"],
    variance: Float[Tensor, " o"],
    scale: Float[Tensor, " o"] | None,
    shift: Float[Tensor, " o"] | None,
    *,
    epsilon: float,
) -> tuple[Float[Tensor, "o i h w"], Float[Tensor, " o"]]:
    """Weight and bias of the convolution that also does the batch norm after it.

    Args:
        weight: Of the convolution, W.
        bias: Of the convolution, b; None for 0.
        mean: Running mean of the batch norm, μ.
        variance: Its running variance, σ².
        scale: Its weight, γ; None for 1.
        shift: Its bias, β; None for 0.
        epsilon: What it adds to the variance.

    Example:
        >>> conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval()
        >>> weight, bias = joined(
        ...     conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias,
        ...     epsilon=norm.eps,
        ... )
        >>> image = torch.rand(1, 3, 8, 8)
        >>> torch.allclose(norm(conv(image)), nn.functional.conv2d(image, weight, bias), atol=1e-6)
        True

    Source: Jacob et al. 2018 (arXiv:1712.05877), §3.2.
    """
    factor = (variance + epsilon).rsqrt()
    if scale is not None:
        factor = factor * scale
    offset = (-mean if bias is None else bias - mean) * factor
    return weight * factor[:, None, None, None], offset if shift is None else offset + shift


@final
class Folding:
    """Lends a network faster weights for the time of a forward.

    The network is the same before and after, and holds nothing twice but weights of convolutions.
    They are made when first needed, and again when a tensor behind them has been replaced or
    written to; what changes a tensor through `.data` goes unseen. Tensors that take gradients,
    and pairs that somebody has put hooks on, are left alone.

    Args:
        enabled: False lends nothing.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval().requires_grad_(False)
        >>> image, folding = torch.rand(1, 3, 8, 8), Folding()
        >>> plain = net(image)
        >>> with folding.lent(net, image, frozenset()):
        ...     bool(torch.allclose(net(image), plain, atol=1e-6)), "forward" in vars(net[1])
        (True, True)
        >>> "forward" in vars(net[1])  # the batch norm has its own again
        False
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        # A network in two threads at once would see the one's weights while the other takes them
        # back. One thread may enter twice: a network may hold another that is looked at.
        self.lock = RLock()
        self.forget()

    # A copy of a network has other modules: what was found of the first says nothing about them.
    def __reduce__(self) -> tuple[Any, ...]:
        return _fresh, (self.enabled,)

    def forget(self) -> None:
        """Drop what was made and found."""
        with self.lock:
            self._net: nn.Module | None = None
            self._weights: dict[Any, _Weights] = {}
            self._of_size: dict[tuple[int, ...], list[_Site]] = {}

    @contextmanager
    def lent(self, net: nn.Module, image: Tensor, layers: Set[str]) -> Iterator[None]:
        """Inside, `net` is faster, and others that take the lock wait.

        Args:
            net: In evaluation mode.
            image: What it will be given, for its size.
            layers: Names of layers, and of their inputs (`bn1:input`), that are looked at.
        """
        with self.lock:
            known = self._known(net, image) if self.enabled else []
            with _lent([site.loan(layers) for site in known]):
                yield

    def _known(self, net: nn.Module, image: Tensor) -> list[_Site]:
        """The convolutions of the network, tried out the first time for this size."""
        if self._net is not net:
            self.forget()
            self._net = net
        size = tuple(image.shape[-2:])
        if size not in self._of_size:
            modules = list(net.modules())
            # Somebody's hooks would see the trial run, and take it for one of theirs.
            watched = any(map(has_hooks, modules))
            if watched or len(self._of_size) >= _SIZES or any(map(is_compiled, modules)):
                return []
            self._of_size[size] = self._tried(net, image)
        return self._of_size[size]

    def _tried(self, net: nn.Module, image: Tensor) -> list[_Site]:
        """All convolutions, with their batch norms; none if the network then fails."""
        like = torch.zeros((1, *image.shape[-3:]), dtype=image.dtype, device=image.device)
        pairs = {pair.conv: pair for pair in find_pairs(net, like)}
        convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
        # Not all code bears channels last: a `view` over the pixels refuses. What fails so is tried
        # again with the layout that it has.
        for layout in (torch.channels_last, torch.preserve_format):
            sites = [self._site(conv, pairs.get(conv), layout) for conv in convs]
            loans = [site.loan(frozenset()) for site in sites]
            if not any(loans):
                return sites
            with _lent(loans):
                if runs(net, like):
                    return sites
        return []

    def _site(self, conv: nn.Conv2d, pair: Pair | None, layout: torch.memory_format) -> _Site:
        """With the weights that other sizes have made already."""
        alone, both = (
            self._weights.setdefault((conv, norm, layout), _Weights(conv, norm, layout))
            for norm in (None, pair.norm if pair else None)
        )
        return _Site(alone, both, pair)


class _Loan(NamedTuple):
    """What a convolution shall run with, and whether that includes its batch norm."""

    conv: nn.Conv2d
    weight: nn.Parameter
    bias: nn.Parameter | None
    pair: Pair | None


@contextmanager
def _lent(loans: Sequence[_Loan | None]) -> Iterator[None]:
    """Put them in place, and take them back in any case."""
    given = [loan for loan in loans if loan is not None]
    before = [(p := loan.conv._parameters, p["weight"], p["bias"]) for loan in given]
    norms = [(vars(loan.pair.norm), loan.pair.remainder) for loan in given if loan.pair]
    try:
        for loan in given:
            loan.conv._parameters.update(weight=loan.weight, bias=loan.bias)
        # A module's own attribute goes before its class's method, and is gone without a trace.
        for attributes, remainder in norms:
            attributes["forward"] = remainder
        yield
    finally:
        for parameters, weight, bias in before:
            parameters.update(weight=weight, bias=bias)
        for attributes, _ in norms:
            attributes.pop("forward", None)


@final
@dataclass(frozen=True, eq=False)
class _Site:
    """A convolution of the network: its weights alone, and with the batch norm's if it has one."""

    alone: _Weights
    both: _Weights
    pair: Pair | None

    def loan(self, layers: Set[str]) -> _Loan | None:
        """The faster weights; None where its own are as good, or must not be touched."""
        pair = self.pair
        if pair is not None and pair.between.isdisjoint(layers) and pair.undisturbed():
            joint = self.both.now()
            if joint is not None:
                return _Loan(self.both.conv, *joint, pair)
        alone = self.alone.now()
        return None if alone is None else _Loan(self.alone.conv, *alone, None)


_Faster = tuple[nn.Parameter, nn.Parameter | None]
_Stamp = tuple[Tensor, int, int]
"""A tensor as it was: itself, how often it had been written to, and where its numbers lay."""


@final
class _Weights:
    """Weight and bias for a convolution, kept as long as the tensors behind them stay."""

    def __init__(
        self, conv: nn.Conv2d, norm: _BatchNorm | None, layout: torch.memory_format
    ) -> None:
        self.conv, self.norm, self._layout = conv, norm, layout
        # Not the tensors but where they are: a training, or `.to`, puts others in their place.
        self._sources: list[tuple[Mapping[str, Tensor | None], str]] = [
            (conv._parameters, "weight"),
            (conv._parameters, "bias"),
        ]
        if norm is not None:
            self._sources += [
                (norm._buffers, "running_mean"),
                (norm._buffers, "running_var"),
                (norm._parameters, "weight"),
                (norm._parameters, "bias"),
            ]
        self._stamps: list[_Stamp | None] | None = None
        self._epsilon = 0.0
        self._faster: _Faster | None = None

    def now(self) -> _Faster | None:
        """For the tensors as they are; None where nothing is gained or one must not be touched."""
        if not self._unchanged():
            sources = [owner.get(name) for owner, name in self._sources]
            self._stamps = [_stamp(tensor) for tensor in sources]
            self._epsilon = 0.0 if self.norm is None else self.norm.eps
            self._faster = self._make(sources)
        return self._faster

    # A network may learn between two looks, or be fine-tuned. Weights joined before would then be
    # those of an earlier step, silently, so every source is compared with its stamp. The version
    # tells what was written in place; the address tells `tensor.data = other`, which may leave the
    # version as it was.
    def _unchanged(self) -> bool:
        """Asked for every convolution in every forward: hence no function is called here."""
        if self._stamps is None or (self.norm is not None and self.norm.eps != self._epsilon):
            return False
        for (owner, name), stamp in zip(self._sources, self._stamps, strict=True):
            tensor = owner.get(name)
            if tensor is None or stamp is None:
                if tensor is not stamp:  # type: ignore[comparison-overlap]
                    return False
            elif (
                tensor is not stamp[0]
                or tensor.requires_grad
                or tensor._version != stamp[1]
                or tensor.data_ptr() != stamp[2]
            ):
                return False
        return True

    def _make(self, sources: list[Tensor | None]) -> _Faster | None:
        weight, bias, *of_norm = sources
        present = [tensor for tensor in sources if tensor is not None]
        if weight is None or not all(map(_usable, present)):
            return None
        fast = weight.device.type == "cpu" and weight.dtype == torch.float32
        layout = self._layout if fast else torch.preserve_format
        # What is kept must serve autograd later, even if the first look is under inference mode.
        with torch.inference_mode(mode=False), torch.no_grad():
            if self.norm is not None:
                mean, variance, scale, shift = of_norm
                kinds = {tensor.dtype for tensor in present}
                if mean is None or variance is None or kinds not in _EXACT:
                    return None
                weight, bias = joined(
                    weight, bias, mean, variance, scale, shift, epsilon=self.norm.eps
                )
            elif layout is torch.preserve_format or weight.is_contiguous(memory_format=layout):
                return None
            if layout is not torch.preserve_format:
                weight = weight.contiguous(memory_format=layout)
            return _constant(weight), None if bias is None else _constant(bias)


def _constant(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def _usable(tensor: Tensor) -> bool:
    """Whether it is a plain constant: takes no gradient, is no wrapper, notes what is written."""
    return (
        not tensor.requires_grad
        and not tensor.is_inference()
        and type(tensor) in (Tensor, nn.Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def _stamp(tensor: Tensor | None) -> _Stamp | None:
    if tensor is None or not _usable(tensor):
        return None
    return tensor, tensor._version, tensor.data_ptr()


def _fresh(enabled: bool) -> Folding:  # noqa: FBT001
    return Folding(enabled=enabled)
