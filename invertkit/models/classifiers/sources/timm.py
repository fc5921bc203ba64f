"""Classifiers of timm, and those on the hub that timm can build."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from torch import nn

from invertkit.core.pixel_space import IMAGENET_MEAN, IMAGENET_STD
from invertkit.errors import RecipeError, WeightsError
from invertkit.models.classifiers import architectures
from invertkit.models.classifiers.architectures import quiet_random, unknown
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.loading import hub
from invertkit.models.loading.weights_file import cited, load_into, read_layout, sha256


def opened(word: str, *, weights: Path | None, pretrained: bool) -> Classifier:
    """What `open_classifier` asks of a source; `timm:NAME`, `hf-hub:OWNER/NAME` or a bare name."""
    name = word.removeprefix("timm:")
    return from_timm(name=name, weights=weights, pretrained=pretrained)


def from_timm(
    *,
    name: str = "resnet50",
    weights: Path | None = None,
    pretrained: bool = True,
    layers: Sequence[str] = (),
) -> Classifier:
    """A classifier of timm, with the normalisation that its weights were trained with.

    Args:
        name: As in `timm.list_models()`, with or without a tag of its weights, or
            `hf-hub:OWNER/NAME`, which timm builds by the hub's `config.json`.
        weights: A local file; otherwise timm's, from the hub's cache or the network. Safetensors
            are preferred; other files are read as tensors only.
        pretrained: Without `weights`: false for random weights, which is only good for timing.
        layers: What `default` layers mean; timm's feature stages if empty.

    Raises:
        RecipeError: No such model.
        WeightsError: The weights cannot be had or do not fit, or would run code.

    Example:
        >>> from_timm(name="test_resnet", pretrained=False).resolve(["default"])[:2]
        ('act1', 'layer1')
    """
    import timm

    of_hub = name.startswith("hf-hub:")
    if not of_hub and not timm.is_model(name.split(".")[0]):
        raise RecipeError(unknown(name, timm.list_models(), "timm"))
    net = _made_by_timm(name, pretrained=weights is None and pretrained, weights=weights)
    origin = "its own weights" if pretrained else "random weights"
    if weights is not None:
        path = Path(weights)
        layout = read_layout(path)
        load_into(net, layout.state, name=str(path))
        origin = cited(path)
    elif pretrained:
        origin += _hash_of_cached(net)
    config = getattr(net, "pretrained_cfg", {})
    count = int(getattr(net, "num_classes", 0))
    library = "" if of_hub else "timm's "
    return Classifier(
        net,
        mean=config.get("mean", IMAGENET_MEAN),
        std=config.get("std", IMAGENET_STD),
        classes=_timm_classes(config, count, own_weights=weights is None),
        description=f"{library}{name} ({origin})",
        default_layers=tuple(layers) or architectures.feature_stages(net),
        size=int(tuple(config.get("input_size", (3, 224, 224)))[-1]),
    )


def _made_by_timm(name: str, *, pretrained: bool, weights: Path | None) -> nn.Module:
    import timm

    options: dict[str, Any] = {}
    if weights is not None and not name.startswith("hf-hub:"):
        count = architectures.class_count(read_layout(Path(weights)).state)
        options = {"num_classes": count} if count else {}
    with quiet_random():
        try:
            if pretrained and hub.offline() and _lies_elsewhere(name):
                raise OSError("HF_HUB_OFFLINE is set")
            net: nn.Module = timm.create_model(name, pretrained=pretrained, **options)
        except (OSError, RuntimeError, AssertionError, pickle.UnpicklingError) as error:
            raise WeightsError(_in_a_sentence(name, error)) from None
    return net


def _in_a_sentence(name: str, error: Exception) -> str:
    """What timm complains of. It has no errors of its own, so the text of others' must tell."""
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        return (
            f"The weights of {name} hold more than tensors, and reading them would run "
            "code from the file. Ask its author for safetensors, or convert the file "
            "yourself: `invertkit models convert FILE --trust`."
        )
    if isinstance(error, RuntimeError) and "Error(s) in loading state_dict" in str(error):
        return (
            f"The weights of {name} belong to another network than its configuration "
            f"names ({' '.join(str(error).split())[:200]})."
        )
    return hub.unreachable(name if name.startswith("hf-hub:") else f"timm's {name}", error)


def _lies_elsewhere(name: str) -> bool:
    """Whether timm would fetch the weights by a link: not from the hub, not from its cache.

    The hub's client heeds HF_HUB_OFFLINE; what timm fetches by a link does not.
    """
    from timm.models import get_pretrained_cfg

    if name.startswith("hf-hub:") or (config := get_pretrained_cfg(name)) is None:
        return False
    file = hub.link_folder() / Path(urlparse(config.url or "").path).name
    return bool(config.url) and not config.hf_hub_id and not file.is_file()


def _hash_of_cached(net: nn.Module) -> str:
    """The hash of the hub file that timm has just read, where it is one."""
    from huggingface_hub import try_to_load_from_cache

    config = getattr(net, "pretrained_cfg", {})
    repository = str(config.get("hf_hub_id") or "").split("@")[0]
    names = (config.get("hf_hub_filename"), "model.safetensors", "pytorch_model.bin")
    for file in names if repository else ():
        path = try_to_load_from_cache(repository, file) if file else None
        if isinstance(path, str):
            return f", {file}, sha256 {sha256(Path(path))[:12]}"
    return ""


def _timm_classes(config: Mapping[str, Any], count: int, *, own_weights: bool) -> tuple[str, ...]:
    if config.get("label_names"):
        return tuple(map(str, config["label_names"]))
    tag = str(config.get("tag", ""))
    if own_weights and count == 1000 and ("in1k" in tag or not tag):
        return architectures.class_names("", count)
    return ()
