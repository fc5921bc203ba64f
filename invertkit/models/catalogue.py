"""The classifiers a recipe can name: embedded, timm's, torchvision's, the robust ImageNet ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from invertkit.errors import RecipeError, WeightsError
from invertkit.models.classifier import Classifier
from invertkit.models.kitnet import KitNet
from invertkit.models.weights_file import load_into, metadata, read_weights, sha256
from invertkit.normalization import IMAGENET_MEAN, IMAGENET_STD

EMBEDDED = Path(__file__).parent / "weights" / "kitnet.safetensors"
_ROBUST_HUB = "madrylab/robust-imagenet-models"


@contextmanager
def quiet_random() -> Iterator[None]:
    """Leave the global generator as it was: building a network draws weights from it."""
    with torch.random.fork_rng(devices=[]):
        yield


def embedded(*, weights: Path | None = None) -> Classifier:
    """The quasi-robust classifier that the package carries, or one of `invertkit train classifier`.

    Args:
        weights: Another file made by `invertkit train classifier`.

    Raises:
        WeightsError: The file is damaged or not one of these.
    """
    path = Path(weights) if weights is not None else EMBEDDED
    state = read_weights(path)
    said = metadata(path)
    if said.get("architecture") != json.dumps("kitnet"):
        raise WeightsError(
            f"{path}: was not made by `invertkit train classifier` (its metadata names no kitnet)."
        )
    facts = {key: json.loads(value) for key, value in said.items()}
    with quiet_random():
        net = KitNet(len(facts["classes"]), widths=facts["widths"])
    load_into(net, state, name=str(path))
    attack = facts["plan"]["attack"]
    return Classifier(
        net,
        mean=facts["mean"],
        std=facts["std"],
        classes=facts["classes"],
        description=(
            f"{'the embedded' if weights is None else path.name} KitNet ({len(facts['classes'])} "
            f"classes, {attack['norm']} ε = {attack['eps']:g} at {facts['size']}×{facts['size']}, "
            f"sha256 {sha256(path)[:12]})"
        ),
        default_layers=("stem", "layer1", "layer2", "layer3"),
        size=facts["size"],
    )


def from_torchvision(
    *,
    name: str = "resnet50",
    weights: Path | None = None,
    pretrained: bool = True,
    layers: Sequence[str] = (),
) -> Classifier:
    """A classifier of torchvision.

    Args:
        name: As in `torchvision.models`.
        weights: A local file; otherwise torchvision's own, from its cache or the network.
        pretrained: Without `weights`: false for random weights, which is only good for timing.
        layers: What `default` layers mean; for ResNets stem and the first three groups if empty.

    Raises:
        RecipeError: No such model.
        WeightsError: The weights cannot be had or do not fit.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise RecipeError(_unknown(name, known, "torchvision"))
    with quiet_random():
        net = models.get_model(name, weights=None)
    if weights is None and pretrained:
        entry = models.get_model_weights(name).DEFAULT
        try:
            state = entry.get_state_dict(progress=False, check_hash=True)
        except OSError as error:
            raise WeightsError(_unreachable(f"torchvision's {name}", error)) from None
        net.load_state_dict(state)
    said = _load_given(net, weights, pretrained=pretrained)
    return Classifier(
        net,
        classes=_imagenet_names() if weights is None else (),
        description=f"torchvision's {name} ({said})",
        default_layers=tuple(layers) or _resnet_layers(net),
    )


def from_timm(
    *,
    name: str = "resnet50",
    weights: Path | None = None,
    pretrained: bool = True,
    layers: Sequence[str] = (),
) -> Classifier:
    """A classifier of timm, with the normalisation that its weights were trained with.

    Args:
        name: As in `timm.list_models()`, with or without a tag of its weights.
        weights: A local file; otherwise timm's, from the hub's cache or the network.
        pretrained: Without `weights`: false for random weights, which is only good for timing.
        layers: What `default` layers mean; timm's feature stages if empty.

    Raises:
        RecipeError: No such model.
        WeightsError: The weights cannot be had or do not fit.
    """
    import timm

    if not timm.is_model(name.split(".")[0]):
        raise RecipeError(_unknown(name, timm.list_models(), "timm"))
    with quiet_random():
        try:
            net = timm.create_model(name, pretrained=weights is None and pretrained)
        except (OSError, RuntimeError) as error:
            raise WeightsError(_unreachable(f"timm's {name}", error)) from None
    said = _load_given(net, weights, pretrained=pretrained)
    config = getattr(net, "pretrained_cfg", {})
    stages = getattr(net, "feature_info", None)
    names = (
        tuple(stages.module_name()) if stages is not None and hasattr(stages, "module_name") else ()
    )
    if not names and isinstance(stages, list):
        names = tuple(dict.fromkeys(stage["module"] for stage in stages))
    inside = dict(net.named_modules())
    return Classifier(
        net,
        mean=config.get("mean", IMAGENET_MEAN),
        std=config.get("std", IMAGENET_STD),
        description=f"timm's {name} ({said})",
        default_layers=tuple(layers) or tuple(layer for layer in names if layer in inside),
    )


def robust(*, name: str = "resnet50-l2-eps0.05", weights: Path | None = None) -> Classifier:
    """An adversarially trained ImageNet classifier of Salman et al.

    Args:
        name: ARCHITECTURE-NORM-epsRADIUS, such as `resnet50-l2-eps0.05` or `resnet50-linf-eps4.0`.
        weights: Its file; otherwise it is fetched from the hub `madrylab/robust-imagenet-models`
            through the hub client's cache.

    Raises:
        RecipeError: The name is not of that form.
        WeightsError: The file cannot be had, needs code to be run, or does not fit.

    Source: Salman et al. 2020 (arXiv:2007.08489); MAGIC uses `resnet50-l2-eps0.05`.
    """
    from torchvision import models

    match = re.fullmatch(r"([a-z0-9_]+)-(l2|linf)-eps([0-9.]+)", name)
    if match is None or match[1] not in models.list_models(module=models):
        raise RecipeError(
            f"name: unknown robust classifier {name!r}; expected ARCHITECTURE-NORM-epsRADIUS such "
            "as 'resnet50-l2-eps0.05', with an architecture of torchvision."
        )
    with quiet_random():
        net = models.get_model(match[1], weights=None)
    path = Path(weights) if weights is not None else _from_hub(name)
    load_into(net, read_weights(path), name=str(path))
    return Classifier(
        net,
        classes=_imagenet_names(),
        description=f"{name} ({path.name}, sha256 {sha256(path)[:12]})",
        default_layers=_resnet_layers(net),
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging as hub_logging

    file = name.replace("-", "_") + ".ckpt"
    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # what goes wrong is told once, by us
    try:
        return Path(hf_hub_download(_ROBUST_HUB, file))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise WeightsError(_unreachable(f"{_ROBUST_HUB}/{file}", error)) from None
    finally:
        hub_logging.set_verbosity(before)


def _load_given(net: nn.Module, weights: Path | None, *, pretrained: bool) -> str:
    """Load a local file if there is one; what to say about the weights."""
    if weights is None:
        return "its own weights" if pretrained else "random weights"
    path = Path(weights)
    load_into(net, read_weights(path), name=str(path))
    return f"{path.name}, sha256 {sha256(path)[:12]}"


def _unreachable(what: str, error: Exception) -> str:
    first = str(error).strip().split("\n")[0]
    return (
        f"The weights of {what} are not in the cache and cannot be fetched ({first:.100}). "
        "Connect to the network, or give a local file with `weights:`, or use the embedded "
        "classifier (`type: embedded`, or `--budget preview` where the recipe has one)."
    )


def _unknown(name: str, known: Sequence[str], library: str) -> str:
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"name: {library} has no classifier {name!r}.{hint}"


def _imagenet_names() -> tuple[str, ...]:
    from torchvision.models import ResNet18_Weights

    names: Any = ResNet18_Weights.DEFAULT.meta["categories"]
    return tuple(names)


def _resnet_layers(net: nn.Module) -> tuple[str, ...]:
    """Stem after its activation and the first three groups: MAGIC's four points."""
    wanted = ("relu", "layer1", "layer2", "layer3")
    return wanted if all(hasattr(net, layer) for layer in wanted) else ()
