from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.kitnet import KitNet
from tests.helpers import uniform

Calls = list[str]


def lively(net: nn.Module) -> nn.Module:
    """Float64, with batch norms that do something to every channel, and weights that differ."""
    draw = torch.Generator().manual_seed(1)
    for module in net.eval().modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.running_mean is not None and module.running_var is not None:
                module.running_mean.normal_(0, 0.3, generator=draw)
                module.running_var.uniform_(0.4, 2, generator=draw)
            for weight in (module.weight, module.bias):
                if weight is not None:
                    nn.init.uniform_(weight, 0.5, 1.5, generator=draw)
    return net.double()


@contextmanager
def batch_norms_run() -> Iterator[Calls]:
    """The operations that normalise, while the block runs."""
    calls: Calls = []
    original = torch.batch_norm

    def counted(*args: object) -> Tensor:
        calls.append("batch_norm")
        return original(*args)  # type: ignore[no-any-return,arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "batch_norm", counted)
        yield calls


def norms_in(classifier: Classifier, layers: tuple[str, ...] = (), size: int = 32) -> int:
    """How many batch norms are computed in one look, once the network is known."""
    image = uniform(2, 3, size, size)
    classifier.observe(image, layers)
    with batch_norms_run() as calls:
        classifier.observe(image, layers)
    return len(calls)


def double_slope(
    classifier: Classifier, image: Tensor, layer: str
) -> tuple[Tensor, Tensor, Tensor]:
    """A layer, the gradient of a function of it, and the gradient of that gradient's norm."""
    image = image.clone().requires_grad_()
    seen = classifier.observe(image, (layer,))[layer]
    value = seen.sin().sum()
    (first,) = torch.autograd.grad(value, image, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), image)
    return seen.detach(), first.detach(), second


def assert_near(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).norm() <= 1e-10 * wanted.norm()


# ---------------------------------------------------------------------- networks


class Branching(nn.Module):
    """Its first convolution is read by its batch norm, and in one of several ways by others."""

    def __init__(self, use: Callable[[Tensor], Tensor | float]) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)
        self.use = use

    def forward(self, image: Tensor) -> Tensor:
        features = self.conv(image)
        out = self.use(features) + self.bn(features)
        return self.bn2(self.conv2(out.sigmoid())).mean((2, 3))


def silent(features: Tensor) -> float:
    """Looks, but takes nothing."""
    return 0.0 * features.dim() * features.shape[1] * len(features.size())


class PreActivation(nn.Module):
    """As in a DenseNet: batch norm, activation, convolution, and everything is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm1, self.conv1 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)
        self.norm2, self.conv2 = nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1)
        self.norm3 = nn.BatchNorm2d(4)

    def forward(self, image: Tensor) -> Tensor:
        first = self.stem(image)
        second = torch.cat([first, self.conv1(self.norm1(first).relu())], 1)
        return self.norm3(self.conv2(self.norm2(second).relu())).mean((2, 3))


class Shared(nn.Module):
    """One convolution, or one weight, for two batch norms."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3)
        self.second = nn.Conv2d(3, 3, 3) if tied else self.first
        self.second.weight = self.first.weight
        self.norm1, self.norm2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm2(self.second(self.norm1(self.first(image)).tanh())).mean((2, 3))


class OneNorm(nn.Module):
    """One batch norm for two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, image: Tensor) -> Tensor:
        return self.norm(self.second(self.norm(self.first(image)).tanh())).mean((2, 3))


class Standardised(nn.Conv2d):
    """A convolution with weights that its forward computes."""

    def forward(self, features: Tensor) -> Tensor:
        weight = self.weight / self.weight.norm()
        return F.conv2d(features, weight, self.bias)


class Activating(nn.BatchNorm2d):
    """A batch norm that does something that nobody here knows of."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features).sin()


class Unruly(nn.Module):
    """A `view` that only one memory layout allows, groups, and an operation without a module."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4, affine=False))
        self.head = nn.Linear(4 * 28 * 28, 5)

    def forward(self, image: Tensor) -> Tensor:
        features = self.body(F.conv2d(image, self.weight).tanh())
        out: Tensor = self.head(features.view(len(image), -1))
        return out


class Checkpointed(nn.Module):
    """What runs a second time in the backward."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh())
        self.reentrant = reentrant

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = checkpoint(self.body, image, use_reentrant=self.reentrant)
        return out.mean((2, 3))


def scripted() -> nn.Module:
    """Compiled, so that Python sees no operation in it."""
    with warnings.catch_warnings(action="ignore"):
        net: nn.Module = torch.jit.script(simple().eval())  # type: ignore[no-untyped-call]
    return net


def used_by_compiled_code() -> nn.Module:
    """By what Python does not see; the graph of gradients does."""
    with warnings.catch_warnings(action="ignore"):
        return Branching(torch.jit.trace(torch.tanh, torch.zeros(1, 4, 2, 2)))  # type: ignore[no-untyped-call]


def simple(**options: object) -> nn.Sequential:
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, **options)  # type: ignore[arg-type]
    return nn.Sequential(conv, norm, nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def resnet18() -> nn.Module:
    from torchvision.models import resnet18 as published

    return published(weights=None, num_classes=7)


def densenet() -> nn.Module:
    from torchvision.models import DenseNet

    return DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=8, num_classes=5)


def efficientnet() -> nn.Module:
    import timm

    net: nn.Module = timm.create_model("test_efficientnet", num_classes=5, drop_rate=0.2)
    return net


def robustness() -> nn.Module:
    from invertkit.models.classifiers.architectures import build

    return build("cifar_resnet18", 5)


# network, side of the image, batch norms, those that stay when nobody looks inside
NETS: dict[str, tuple[Callable[[], nn.Module], int, int, int]] = {
    "kitnet": (partial(KitNet, 5, widths=(4, 4, 8, 8)), 32, 8, 0),
    "resnet18": (resnet18, 32, 20, 0),
    "densenet": (densenet, 64, 11, 6),
    "timm": (efficientnet, 32, 13, 0),
    "robustness": (robustness, 16, 20, 0),
    "pre-activation": (PreActivation, 32, 3, 2),
    "used once": (partial(Branching, silent), 32, 2, 0),
    "used twice": (partial(Branching, torch.tanh), 32, 2, 1),
    "used without gradient": (partial(Branching, lambda x: x.detach().tanh()), 32, 2, 1),
    "used by compiled code": (used_by_compiled_code, 32, 2, 1),
    "written to": (partial(Branching, lambda x: x.mul_(0.5)), 32, 2, 1),
    "shared module": (partial(Shared, tied=False), 32, 2, 2),
    "shared weight": (partial(Shared, tied=True), 32, 2, 2),
    "one norm": (OneNorm, 32, 2, 2),
    "unruly": (Unruly, 32, 1, 0),
    "checkpoint": (partial(Checkpointed, reentrant=False), 32, 1, 1),
    "without affine": (partial(simple, affine=False), 32, 1, 0),
    # Of each of two images.
    "without statistics": (partial(simple, track_running_stats=False), 32, 2, 2),
}


def make(name: str) -> tuple[Classifier, Classifier, int]:
    """A folding classifier, one that never folds, with equal weights, and a side."""
    build, size, _, _ = NETS[name]
    two = []
    for _ in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            two.append(lively(build()))
    return Classifier(two[0]), Classifier(two[1], fold=False), size


nets = pytest.mark.parametrize("name", NETS)
