"""Making any module ready to be looked at: frozen, evaluating, each image for itself."""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parameter import is_lazy

from invertkit.core.log import log
from invertkit.core.suggestions import listed
from invertkit.errors import InputError

COMPLAINTS: Final = (
    RuntimeError,
    AssertionError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
)
"""What a network may raise on images that it cannot take."""


def first_line(error: Exception) -> str:
    """What an error says, to stand in brackets.

    Example:
        >>> first_line(AssertionError("Input height (96) doesn't match model (224)."))
        "Input height (96) doesn't match model (224)"
    """
    return (str(error).strip().split("\n")[0] or type(error).__name__).rstrip(".")[:200]


def ready(net: nn.Module) -> nn.Module:
    """The network itself, changed so that a look at one image is a function of that image.

    It evaluates and takes no gradient. Activations that would write into their input leave it
    alone, so that a layer can be shown without being copied. Batch norms without running statistics
    would normalise each image by its neighbours; here each is normalised by itself, as in a batch
    of one, and that is told.

    Args:
        net: Is changed.

    Raises:
        InputError: It is no module, or has lazy layers that have never run.

    Example:
        >>> net = ready(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True)))
        >>> net.training, net[0].weight.requires_grad, net[1].inplace
        (False, False, False)
    """
    if not isinstance(net, nn.Module):
        raise InputError(f"A classifier wraps a torch.nn.Module, got {net!r:.60}.")
    modules = dict(net.named_modules())
    _expect_weights(modules)
    for module in modules.values():
        _make_recordable(module)
        if getattr(module, "inplace", None) is True:
            module.__dict__["inplace"] = False
    net.eval()
    for weight in net.parameters():  # compiled networks have no `requires_grad_` of their own
        weight.requires_grad = False
    coupling = {n: m for n, m in modules.items() if _couples(m)}
    for module in coupling.values():
        module.__dict__["forward"] = partial(_one_by_one, module)
    if coupling:
        log.warning(
            "%d batch norms have no running statistics (%s) and would mix the images of a batch; "
            "they normalise each image by itself.",
            len(coupling),
            listed([name or type(net).__name__ for name in coupling], most=3),
        )
    return net


def _expect_weights(modules: dict[str, nn.Module]) -> None:
    for name, module in modules.items():
        tensors = [*module._parameters.values(), *module._buffers.values()]
        if any(is_lazy(tensor) for tensor in tensors if tensor is not None):
            raise InputError(
                f"Layer {name!r} of the network is lazy ({type(module).__name__}) and has no "
                "weights yet; run the network on an image and load its weights first."
            )


def _make_recordable(module: nn.Module) -> None:
    """Replace weights that `inference_mode` made, through which no gradient would pass."""
    with torch.inference_mode(mode=False), torch.no_grad():
        for name, weight in [*module._parameters.items()]:
            if weight is not None and weight.is_inference():
                module._parameters[name] = nn.Parameter(weight.clone(), requires_grad=False)
        for name, buffer in [*module._buffers.items()]:
            if buffer is not None and buffer.is_inference():
                module._buffers[name] = buffer.clone()


def _couples(module: nn.Module) -> bool:
    """Whether it normalises by the batch also where it evaluates."""
    return isinstance(module, _BatchNorm) and module.running_mean is None


def _one_by_one(module: nn.Module, features: Tensor) -> Tensor:
    """What the module gives for each image alone."""
    forward = type(module).forward
    # A batch norm's own check looks at the whole; one number a channel cannot be normalised.
    return torch.cat([forward(module, row) for row in features.split(1)])


def stores_statistics(module: nn.Module) -> bool:
    """Whether it is a batch norm over the pixels of maps that normalises by statistics it keeps.

    By what it holds, since every library has a frozen batch norm of its own.

    Example:
        >>> from torchvision.ops import FrozenBatchNorm2d
        >>> norms = nn.BatchNorm2d(2), nn.SyncBatchNorm(2), FrozenBatchNorm2d(2), nn.BatchNorm1d(2)
        >>> [stores_statistics(norm) for norm in norms]
        [True, True, True, False]
    """
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm3d | _InstanceNorm):
        return False
    kept = getattr(module, "running_mean", None), getattr(module, "running_var", None)
    return all(isinstance(each, Tensor) and each.ndim == 1 for each in kept)


def sees_grey(net: nn.Module) -> bool:
    """Whether a network takes images of one channel: its first convolution does.

    Example:
        >>> sees_grey(nn.Sequential(nn.Conv2d(1, 4, 3))), sees_grey(nn.Flatten())
        (True, False)
    """
    first = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
    return first is not None and first.in_channels == 1


def dtype_of(net: nn.Module) -> torch.dtype | None:
    """The numbers that a network computes with: those of its first weight; None without weights.

    Example:
        >>> dtype_of(nn.Linear(1, 1).half()), dtype_of(nn.ReLU())
        (torch.float16, None)
    """
    return next((weight.dtype for weight in net.parameters() if weight.is_floating_point()), None)
