"""Networks by name, without weights: what a file's metadata or the catalogue calls them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

from invertkit.core.suggestions import did_you_mean
from invertkit.errors import RecipeError
from invertkit.models.classifiers.catalogue import CIFAR10_CLASSES, LITE0
from invertkit.models.classifiers.cifar_resnet import DEPTHS, CifarResNet
from invertkit.models.classifiers.class_names import imagenet_classes
from invertkit.models.classifiers.efficientnet_lite import EfficientNetLite0
from invertkit.models.classifiers.kitnet import KitNet

TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {"kitnet": "KitNet", LITE0: "EfficientNet-Lite0"}
)
"""What architectures are called in a sentence, where that is not their own name."""
_RESNET = ("relu", "layer1", "layer2", "layer3")
LAYERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "kitnet": ("stem", "layer1", "layer2", "layer3"),
        # Halves, quarters, eighths and sixteenths of the image's side.
        LITE0: ("conv_stem", "blocks.1", "blocks.2", "blocks.4"),
        "densenet161": (
            "features.relu0", "features.denseblock1", "features.denseblock2",
            "features.denseblock3",
        ),
        "mnasnet1_0": ("layers.7", "layers.8", "layers.9", "layers.10"),
        "mobilenet_v2": ("features.1", "features.3", "features.6", "features.13"),
        "shufflenet_v2_x1_0": ("conv1", "maxpool", "stage2", "stage3"),
        "vgg16_bn": ("features.5", "features.12", "features.22", "features.32"),
    }
)  # fmt: skip
"""What `layers: default` means, shallow to deep; a ResNet has its stem and first three groups."""

_OF_DEPTH: Final = {18: 2, 34: 6, 50: 6, 101: 23, 152: 36}
# What is told by names and shapes, and names that it has for certain: so few need be built.
_RECOGNISED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        **{
            name: ("fc.weight", f"layer3.{_OF_DEPTH[depth] - 1}.bn2.bias")
            for name, depth in (
                ("resnet18", 18), ("resnet50", 50), ("resnet34", 34), ("wide_resnet50_2", 50),
                ("wide_resnet50_4", 50), ("resnext50_32x4d", 50), ("resnet101", 101),
                ("wide_resnet101_2", 101), ("resnext101_32x8d", 101), ("resnet152", 152),
            )
        },
        "densenet161": ("features.denseblock4.denselayer24.norm1.weight",),
        "mnasnet1_0": ("layers.8.0.layers.0.weight",),
        "mobilenet_v2": ("features.18.1.weight",),
        "shufflenet_v2_x1_0": ("stage2.0.branch1.0.weight",),
        "vgg16_bn": ("features.40.weight", "classifier.6.weight"),
        **{
            f"cifar_resnet{depth}": ("linear.weight", f"layer3.{_OF_DEPTH[depth] - 1}.bn2.bias")
            for depth in DEPTHS
        },
    }
)  # fmt: skip


@contextmanager
def quiet_random() -> Iterator[None]:
    """Leave the global generator as it was: building a network draws weights from it.

    Example:
        >>> before = torch.random.get_rng_state()
        >>> with quiet_random():
        ...     net = nn.Linear(2, 2)
        >>> bool((torch.random.get_rng_state() == before).all())
        True
    """
    with torch.random.fork_rng(devices=[]):
        yield


def build(architecture: str, classes: int, *, widths: Sequence[int] = ()) -> nn.Module:
    """A network with random weights.

    Args:
        architecture: `kitnet`, `timm:NAME`, `torchvision:NAME` or its bare NAME,
            `wide_resnet50_4`, or `cifar_resnetDEPTH`.
        classes: Number of logits.
        widths: Channels, of `kitnet` only.

    Raises:
        RecipeError: No such architecture.

    Example:
        >>> build("kitnet", 5).fc.out_features
        5
    """
    library, _, rest = architecture.rpartition(":")
    with quiet_random():
        if architecture == "kitnet":
            return KitNet(classes, widths=widths) if widths else KitNet(classes)
        if architecture == LITE0:
            return EfficientNetLite0(classes)
        if library == "timm":
            return _of_timm(rest, classes)
        if library not in ("", "torchvision"):
            raise RecipeError(
                f"unknown architecture {architecture!r}; expected timm:NAME or torchvision:NAME."
            )
        if rest == "wide_resnet50_4":
            from torchvision.models import resnet

            wide: nn.Module = resnet.ResNet(
                resnet.Bottleneck, [3, 4, 6, 3], num_classes=classes, width_per_group=256
            )
            return wide
        if rest.startswith("cifar_resnet") and rest.removeprefix("cifar_resnet").isdigit():
            depth = int(rest.removeprefix("cifar_resnet"))
            if depth not in DEPTHS:
                raise RecipeError(
                    f"unknown architecture {rest!r}; the depths are {', '.join(map(str, DEPTHS))}."
                )
            return CifarResNet(depth, classes=classes)
        return of_torchvision(rest, num_classes=classes)


def of_torchvision(name: str, **options: Any) -> nn.Module:
    """A network of torchvision with random weights.

    Raises:
        RecipeError: No such classifier.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise RecipeError(unknown(name, known, "torchvision"))
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False  # they warn, and draw for a minute
    with quiet_random():
        net: nn.Module = models.get_model(name, weights=None, **options)
    return net


def _of_timm(name: str, classes: int) -> nn.Module:
    import timm

    if not timm.is_model(name.split(".")[0]):
        raise RecipeError(unknown(name, timm.list_models(), "timm"))
    net: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
    return net


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """The architecture whose names and shapes are exactly those of `state`, if it is a known one.

    Only the number of classes may differ. timm's networks are not tried: several share names.

    Args:
        state: Tensors by bare names.

    Example:
        >>> recognise(build("squeezenet1_0", 1000).state_dict()) is None
        True
        >>> recognise(build("shufflenet_v2_x1_0", 7).state_dict())
        'shufflenet_v2_x1_0'
    """
    classes = class_count(state)
    if classes == 0:
        return None
    wanted = _shapes(state)
    for architecture, marks in _RECOGNISED.items():
        if all(mark in state for mark in marks) and _own_shapes(architecture, classes) == wanted:
            return architecture
    return None


@cache
def _own_shapes(architecture: str, classes: int) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return _shapes(build(architecture, classes).state_dict())


def class_count(state: Mapping[str, Tensor]) -> int:
    """How many logits: rows of the last matrix; 0 if there is none.

    Example:
        >>> class_count({"conv.weight": torch.zeros(8, 3, 3, 3), "fc.weight": torch.zeros(5, 8)})
        5
    """
    matrices = [value for key, value in state.items() if value.ndim == 2 and "weight" in key]
    return int(matrices[-1].shape[0]) if matrices else 0


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {k: v.shape for k, v in state.items() if not k.endswith("num_batches_tracked")}


def default_layers(net: nn.Module, architecture: str) -> tuple[str, ...]:
    """What `layers: default` means for a network; empty where that is known of neither.

    Args:
        net: A network that names its stages itself, as timm's do.
        architecture: Its name, which may tell.

    Example:
        >>> default_layers(build("vgg16_bn", 10), "vgg16_bn")
        ('features.5', 'features.12', 'features.22', 'features.32')
    """
    named = LAYERS.get(architecture.removeprefix("torchvision:"))
    if named is not None:
        return named
    if all(hasattr(net, layer) for layer in _RESNET):
        return _RESNET
    return feature_stages(net)


def feature_stages(net: nn.Module) -> tuple[str, ...]:
    """The stages that a network of timm names itself."""
    stages = getattr(net, "feature_info", None)
    names: tuple[str, ...] = ()
    if stages is not None and hasattr(stages, "module_name"):
        names = tuple(stages.module_name())
    elif isinstance(stages, list):
        names = tuple(dict.fromkeys(stage["module"] for stage in stages))
    inside = dict(net.named_modules())
    return tuple(layer for layer in names if layer in inside)


def own_input(net: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...], int] | None:
    """Mean, deviation and side of the images that a network of timm says it takes.

    Args:
        net: Any network; None is said of those that do not tell.

    Example:
        >>> own_input(build("timm:tf_mobilenetv3_small_minimal_100", 10))
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 224)
        >>> own_input(build("kitnet", 10)) is None
        True
    """
    config = getattr(net, "pretrained_cfg", None) or {}
    if not {"mean", "std", "input_size"} <= set(config):
        return None
    return tuple(config["mean"]), tuple(config["std"]), int(config["input_size"][-1])


def class_names(architecture: str, classes: int) -> tuple[str, ...]:
    """Names of the logits where their number tells: of ImageNet, of CIFAR-10; else none.

    Example:
        >>> class_names("cifar_resnet18", 10)[:2], class_names("resnet18", 12)
        (('airplane', 'automobile'), ())
    """
    if classes == len(CIFAR10_CLASSES) and architecture.startswith("cifar"):
        return CIFAR10_CLASSES
    if classes != 1000:
        return ()
    return imagenet_classes()


def unknown(name: str, known: Sequence[str], library: str) -> str:
    """A sentence on a name that a library does not have, with the one that looks most like it."""
    hint = did_you_mean(name, known)
    return f"name: {library} has no classifier {name!r}.{hint}"
