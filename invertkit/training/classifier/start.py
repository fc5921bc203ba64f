"""The network that a training starts from: new, one of timm's, or from a weights file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from invertkit.core.pixel_space import IMAGENET_MEAN, IMAGENET_STD
from invertkit.errors import InputError, InvertkitError, WeightsError
from invertkit.models.classifiers import catalogue
from invertkit.models.classifiers.architectures import class_names
from invertkit.models.classifiers.kitnet import KitNet
from invertkit.models.loading import hub
from invertkit.models.loading.hub import why
from invertkit.models.loading.safetensors_file import read_facts
from invertkit.models.loading.weights_file import load_into, read_weights, sha256
from invertkit.training.classifier.normalized import Normalized

KITNET: Final = "kitnet"
WIDTHS: Final = (24, 48, 96, 192)


Statistics = tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]


@final
@dataclass(frozen=True)
class Start:
    """A network and what must be known to make it again.

    Args:
        net: From normalised images to logits.
        architecture: `kitnet` or `timm:NAME`.
        classes: Names of the logits.
        mean: Per channel; None to take the training photographs'.
        std: Likewise.
        size: Side of the input that it was made for, None if it does not say.
        fixed: Whether it takes images of that size only.
        widths: Of `kitnet`.
        origin: Where the weights come from, in words.
    """

    net: nn.Module
    architecture: str
    classes: tuple[str, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int | None = None
    fixed: bool = False
    widths: tuple[int, int, int, int] | None = None
    origin: str = "random weights"


def starting_network(
    *,
    classes: Sequence[str],
    model: str | None = None,
    pretrained: bool = True,
    init: str | Path | None = None,
    widths: Sequence[int] = WIDTHS,
    seed: int = 0,
) -> Start:
    """Build a network and fill it.

    The last layer is new wherever the weights are of other classes than asked for.

    Args:
        classes: Names of the classes; none to keep the network's own.
        model: `kitnet` or `timm:NAME`; by default what `init` says of itself, else `kitnet`.
        pretrained: Of a timm model without `init`: load its published weights.
        init: A weights file: a `classifier.safetensors` of ours, or raw weights of `model`. The
            word `embedded`, or another classifier that the package carries, stands for its file.
        widths: Channels of a new `kitnet`.
        seed: Of random weights.

    Raises:
        InputError: No such model, or it does not say its classes and none are given.
        WeightsError: Weights cannot be had or are of another network.
    """
    facts: Mapping[str, Any] = {}
    path = _path_of(init)
    if path is not None:
        facts = _facts(path)
        model = _agreed(model, facts.get("architecture"), path)
        widths = facts.get("widths") or widths
    architecture = model or KITNET
    known = tuple(facts.get("classes") or ())
    names = tuple(classes) or known
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # PyTorch's initialisers read it
        if architecture == KITNET:
            if not names:
                raise InputError(
                    "a new network needs labelled photographs; for label-free training give "
                    "--init FILE, or --model timm:NAME with its published weights."
                )
            start = _kitnet(names, tuple(widths))
        else:
            start = _timm(architecture, names, pretrained=pretrained and path is None)
    if path is None:
        return start
    # Equal counts are not enough: the last layer of other classes would name everything wrongly.
    text = _fill(start, path, same=not known or known == names)
    return replace(
        start,
        mean=tuple(facts["mean"]) if "mean" in facts else start.mean,
        std=tuple(facts["std"]) if "std" in facts else start.std,
        size=facts.get("size", start.size),
        origin=text,
    )


def behind_normalisation(start: Start, statistics: Callable[[], Statistics | None]) -> Normalized:
    """The network with its own normalisation, else the photographs', else ImageNet's.

    Args:
        start: The network.
        statistics: Mean and standard deviation of the photographs, where they are to be had.
    """
    if start.mean is not None and start.std is not None:
        return Normalized(start.net, torch.tensor(start.mean), torch.tensor(start.std))
    numbers = statistics() or (torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD))
    return Normalized(start.net, *numbers)


def _path_of(init: str | Path | None) -> Path | None:
    if init is None:
        return None
    entry = catalogue.find(str(init))
    if entry is not None and entry.source == "invertkit":
        return hub.fetch(entry)
    path = Path(init)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file.")
    return path


def _facts(path: Path) -> dict[str, Any]:
    """What a safetensors file of ours says of itself; nothing for any other."""
    if path.suffix != ".safetensors":
        return {}
    facts = read_facts(path)
    return facts if "architecture" in facts else {}


def _agreed(asked: str | None, stated: str | None, path: Path) -> str | None:
    if asked and stated and asked != stated:
        raise InputError(
            f"{path}: holds a {stated}, not the {asked} of --model. Leave --model out."
        )
    return stated or asked


def _kitnet(classes: tuple[str, ...], widths: tuple[int, ...]) -> Start:
    if len(widths) != 4 or min(widths) < 1:
        raise InputError(f"widths: expected four numbers of at least 1, got {widths}.")
    a, b, c, d = widths
    return Start(KitNet(len(classes), widths=widths), KITNET, classes, widths=(a, b, c, d))


def _timm(architecture: str, classes: tuple[str, ...], *, pretrained: bool) -> Start:
    import timm  # here: it takes seconds, which a new `kitnet` need not wait for

    library, _, name = architecture.partition(":")
    if library != "timm" or not timm.is_model(name.split(".")[0]):
        raise InputError(
            f"--model: expected {KITNET} or timm:NAME, got {architecture!r}. Names of timm are "
            "listed by `python -c 'import timm; print(*timm.list_models())'`."
        )
    options = {"num_classes": len(classes)} if classes else {}
    try:
        net = timm.create_model(name, pretrained=pretrained, **options)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"The weights of timm's {name} are not in the cache and cannot be fetched "
            f"({why(error)}). Connect to the network, or give --init FILE, or --no-pretrained."
        ) from None
    config = net.pretrained_cfg
    return Start(
        net,
        architecture,
        classes or class_names("", net.num_classes) or tuple(map(str, range(net.num_classes))),
        mean=tuple(config.get("mean", IMAGENET_MEAN)),
        std=tuple(config.get("std", IMAGENET_STD)),
        size=int(config.get("input_size", (3, 224, 224))[-1]),
        fixed=bool(config.get("fixed_input_size", False)),
        origin="its published weights" if pretrained else "random weights",
    )


def _fill(start: Start, path: Path, *, same: bool) -> str:
    """Load the file, all but the last layer where that is of other classes; what was done."""
    state = read_weights(path)
    fresh = start.net.state_dict()
    heads = tuple(f"{layer}." for layer in _heads(start.net))
    odd = [key for key in fresh if key in state and fresh[key].shape != state[key].shape]
    replaced = [key for key in fresh if key.startswith(heads)]
    text = f"{path.name}, sha256 {sha256(path)[:12]}"
    # Raw weights do not say their classes; a last layer of another shape tells that they differ.
    if same and not (odd and all(key in replaced for key in odd)):
        load_into(start.net, state, name=str(path))
        return text
    rest = {key: value for key, value in state.items() if key not in replaced}
    try:
        load_into(start.net, {**rest, **{key: fresh[key] for key in replaced}}, name=str(path))
    except InvertkitError as error:
        raise WeightsError(str(error)) from None
    return f"{text}, with a new last layer"


def _heads(net: nn.Module) -> tuple[str, ...]:
    """Names of the layers that end in the logits."""
    if isinstance(net, KitNet):
        return ("fc",)
    names = getattr(net, "pretrained_cfg", {}).get("classifier", ())
    return (names,) if isinstance(names, str) else tuple(names or ())
