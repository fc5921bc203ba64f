"""Classifiers by name: embedded, robust, timm's, torchvision's, the hub's, a file's."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from invertkit.core.log import log
from invertkit.core.pixel_space import IMAGENET_MEAN, IMAGENET_STD
from invertkit.errors import RecipeError, WeightsError
from invertkit.models.classifiers import architectures
from invertkit.models.classifiers import catalogue as robust_models
from invertkit.models.classifiers.architectures import quiet_random, unknown
from invertkit.models.classifiers.catalogue import Entry
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.loading import hub
from invertkit.models.loading.layouts import Layout
from invertkit.models.loading.weights_file import (
    check_fit,
    load_into,
    metadata,
    read_facts,
    read_layout,
    read_weights,
    sha256,
)

EMBEDDED = hub.CARRIED / "kitnet.safetensors"
_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar", ".latest", ".best")


def open_classifier(
    name: str | Path, *, weights: Path | None = None, pretrained: bool = True
) -> Classifier:
    """A classifier by one word: what a recipe and the command line call it.

    Args:
        name: `embedded`, a name of the catalogue such as `resnet50-l2-eps0.05`, `timm:NAME`,
            `torchvision:NAME`, `hf-hub:OWNER/NAME`, the path of a file, or a bare name of timm.
        weights: A local file in place of the weights that the name stands for; for a name of the
            catalogue also the folder that its file lies in.
        pretrained: False for random weights, which is only good for timing.

    Raises:
        RecipeError: Nothing of that name.
        WeightsError: The weights cannot be had, would run code, or do not fit.

    Example:
        >>> open_classifier("embedded").classes[:3]
        ('airplane', 'automobile', 'bird')
    """
    word = str(name)
    library, _, rest = word.partition(":")
    if isinstance(name, Path) or is_file_name(word):
        return from_file(path=Path(word)) if weights is None else _both(word)
    if word == "embedded":
        return embedded(weights=weights)
    if library == "torchvision" and rest:
        return from_torchvision(name=rest, weights=weights, pretrained=pretrained)
    if library in ("timm", "hf-hub") and rest:
        given = rest if library == "timm" else word
        return from_timm(name=given, weights=weights, pretrained=pretrained)
    if robust_models.find(word) is not None or "-eps" in word:
        return robust(name=word, weights=weights, pretrained=pretrained)
    try:
        return from_timm(name=word, weights=weights, pretrained=pretrained)
    except RecipeError as error:
        near = robust_models.near(word)
        hint = f" Or, of the catalogue, {near[0]!r}?" if near else ""
        raise RecipeError(f"{error}{hint} `invertkit models` lists what there is.") from None


def is_file_name(word: str) -> bool:
    """Whether a word names a file, not a classifier: by its slash or its ending."""
    return ":" not in word.split("/")[0] and (
        "/" in word or "\\" in word or Path(word).suffix in _SUFFIXES
    )


def _both(word: str) -> Classifier:
    raise RecipeError(
        f"name: {word} is a file already, and `weights:` names another. Give one of them."
    )


def embedded(*, weights: Path | None = None) -> Classifier:
    """The quasi-robust classifier that the package carries, or one of `invertkit train classifier`.

    Args:
        weights: Another file made by `invertkit train classifier`.

    Raises:
        WeightsError: The file is damaged or not one of these.
    """
    if weights is None:
        return from_file(path=EMBEDDED)
    path = Path(weights)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file.")
    if path.suffix != ".safetensors" or "architecture" not in metadata(path):
        raise WeightsError(
            f"{path}: was not made by `invertkit train classifier` (its metadata names no kitnet)."
        )
    return from_file(path=path)


def from_file(*, path: Path, architecture: str = "") -> Classifier:
    """A classifier from a local file that says what it is, or whose names and shapes show it.

    Args:
        path: Of `invertkit train classifier`, of `invertkit models convert`, or a checkpoint.
        architecture: What network it is, as `invertkit.models.classifiers.architectures.build`
            calls it, if the file does not tell.

    Raises:
        WeightsError: It is missing or damaged, would run code, does not fit, or does not tell
            what network it is.
        RecipeError: No such architecture.
    """
    layout = read_layout(path)
    facts = read_facts(path) if path.suffix == ".safetensors" else {}
    kind = architecture or facts.get("architecture") or architectures.recognise(layout.state)
    if not isinstance(kind, str) or not kind:
        raise WeightsError(
            f"{path}: does not say what network it is, and its {len(layout.state)} entries are "
            "those of none that is told by names and shapes. Name it: `{type: torchvision, name: "
            "…, weights: …}`, `{type: timm, …}`, or `invertkit models convert … --architecture …`."
        )
    try:
        return _assembled(path, layout, facts, kind)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, WeightsError | RecipeError):
            raise
        raise WeightsError(
            f"{path}: its metadata are not those of a classifier ({error!s:.100}). Make it again "
            "with `invertkit train classifier` or `invertkit models convert`."
        ) from None


def _assembled(
    path: Path, layout: Layout, facts: Mapping[str, Any], architecture: str
) -> Classifier:
    classes = tuple(str(name) for name in facts.get("classes", ()))
    count = len(classes) or architectures.class_count(layout.state)
    widths = facts.get("widths", ())
    with torch.device("meta"):  # before the metadata claim memory
        check_fit(
            architectures.build(architecture, count, widths=widths), layout.state, name=str(path)
        )
    net = architectures.build(architecture, count, widths=widths)
    load_into(net, layout.state, name=str(path))
    mean, std, said = _normalisation(layout, facts, architecture)
    size = int(facts.get("size", 32 if architecture.startswith("cifar") else 224))
    what = "KitNet" if architecture == "kitnet" else architecture
    words = [f"{count} classes", *_attack(facts, size), *said, f"sha256 {sha256(path)[:12]}"]
    for note in layout.notes:
        log.warning("%s: %s", path, note)
    return Classifier(
        net,
        mean=mean,
        std=std,
        classes=classes or architectures.class_names(architecture, count),
        description=(
            f"{'the embedded' if path.parent == hub.CARRIED else path.name} {what} "
            f"({', '.join(words)})"
        ),
        default_layers=architectures.default_layers(net, architecture),
        size=size,
    )


def _normalisation(
    layout: Layout, facts: Mapping[str, Any], architecture: str
) -> tuple[tuple[float, ...], tuple[float, ...], list[str]]:
    """Mean, deviation and, where nobody has said them, a word on that."""
    if layout.mean is not None and layout.std is not None:
        return layout.mean, layout.std, []
    if "mean" in facts and "std" in facts:
        mean, std = (tuple(map(float, facts[key])) for key in ("mean", "std"))
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean {mean} and std {std}")
        return mean, std, []
    small = architecture.startswith("cifar")
    mean, std = robust_models.CIFAR10 if small else robust_models.IMAGENET
    return mean, std, [f"mean and std of {'CIFAR-10' if small else 'ImageNet'} assumed"]


def _attack(facts: Mapping[str, Any], size: int) -> list[str]:
    """What it was trained against, if the file tells."""
    plan = facts.get("plan")
    attack = plan.get("attack") if isinstance(plan, Mapping) else None
    if not isinstance(attack, Mapping) or not {"norm", "eps"} <= set(attack):
        return []
    return [f"{attack['norm']} ε = {float(attack['eps']):g} at {size}×{size}"]


def robust(
    *, name: str = "resnet50-l2-eps0.05", weights: Path | None = None, pretrained: bool = True
) -> Classifier:
    """An adversarially trained classifier of the catalogue.

    Args:
        name: As `invertkit models` lists it: ARCHITECTURE-NORM-epsRADIUS, such as
            `resnet50-l2-eps0.05`, `resnet50-linf-eps4.0` or `cifar10-resnet50-l2-eps0.5`. With
            `weights` also with an architecture of torchvision that the catalogue lacks.
        weights: Its file, or the folder that holds it by its published name; otherwise it is
            taken from the hub client's cache, or fetched into it.
        pretrained: Without `weights`: false for random weights, which is only good for timing.

    Raises:
        RecipeError: Nothing of that name.
        WeightsError: The file cannot be had, would run code, or does not fit.

    Source: Salman et al. 2020 (arXiv:2007.08489); Engstrom et al. 2019; MAGIC uses
    `resnet50-l2-eps0.05`.
    """
    entry = robust_models.find(name) or _like_the_published(name, weights)
    if entry.source == "invertkit":
        return embedded(weights=weights or hub.fetch(entry))
    small = entry.dataset == "cifar10"
    net = architectures.build(entry.architecture, 10 if small else 1000)
    mean: tuple[float, ...] = entry.mean
    std: tuple[float, ...] = entry.std
    said = "random weights"
    if weights is not None or pretrained:
        path = hub.weights_of(entry, weights)
        layout = read_layout(path)
        load_into(net, layout.state, name=str(path))
        for note in layout.notes:
            log.warning("%s: %s", path, note)
        mean, std = layout.mean or mean, layout.std or std
        said = f"{path.name}, sha256 {sha256(path)[:12]}"
    return Classifier(
        net,
        mean=mean,
        std=std,
        classes=architectures.class_names(entry.architecture, 10 if small else 1000),
        description=f"{entry.name} ({said})",
        default_layers=architectures.default_layers(net, entry.architecture),
        size=entry.side,
    )


def _like_the_published(name: str, weights: Path | None) -> Entry:
    """An entry for a file of the user's with a name of the published form."""
    from torchvision import models

    stem, _, rest = name.partition("-")
    norm, _, eps = rest.partition("-eps")
    known = stem in models.list_models(module=models) and norm in ("l2", "linf")
    if known and eps.replace(".", "", 1).isdigit() and weights is not None:
        return Entry(
            name, stem, "imagenet", "l2" if norm == "l2" else "linf", float(eps), "yours", "",
            "", None, file=f"{name.replace('-', '_')}.ckpt",
        )  # fmt: skip
    near = robust_models.near(name)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise RecipeError(
        f"name: unknown robust classifier {name!r}; expected ARCHITECTURE-NORM-epsRADIUS such as "
        f"'resnet50-l2-eps0.05'.{hint} `invertkit models` lists what there is."
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
        name: As in `torchvision.models`; after a dot the name of its weights, as in
            `resnet50.IMAGENET1K_V1`, else its default ones.
        weights: A local file; otherwise torchvision's own, from its cache or the network.
        pretrained: Without `weights`: false for random weights, which is only good for timing.
        layers: What `default` layers mean; for ResNets stem and the first three groups if empty.

    Raises:
        RecipeError: No such model or weights.
        WeightsError: The weights cannot be had or do not fit.
    """
    architecture, _, tag = name.partition(".")
    if weights is not None:
        path = Path(weights)
        layout = read_layout(path)
        count = architectures.class_count(layout.state) or 1000
        net = architectures.of_torchvision(architecture)
        if count != 1000 and _fits_but_for_classes(architecture, count, layout):
            net = architectures.of_torchvision(architecture, num_classes=count)
        load_into(net, layout.state, name=str(path))
        return Classifier(
            net,
            mean=layout.mean or IMAGENET_MEAN,
            std=layout.std or IMAGENET_STD,
            description=f"torchvision's {name} ({path.name}, sha256 {sha256(path)[:12]})",
            default_layers=tuple(layers) or architectures.default_layers(net, architecture),
        )
    rescaled = pretrained and architecture in ("googlenet", "inception_v3")
    options = {"transform_input": True} if rescaled else {}
    net = architectures.of_torchvision(architecture, **options)
    said = "random weights"
    if pretrained:
        path = _torchvision_file(architecture, tag)
        state = read_weights(path)
        if architecture.startswith("densenet"):  # saved before torchvision renamed its layers
            old = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)")
            state = {old.sub(r"\1\2", key): value for key, value in state.items()}
        load_into(net, state, name=str(path))
        said = f"its own weights, {path.name}, sha256 {sha256(path)[:12]}"
    return Classifier(
        net,
        classes=architectures.class_names(architecture, 1000),
        description=f"torchvision's {name} ({said})",
        default_layers=tuple(layers) or architectures.default_layers(net, architecture),
    )


def _fits_but_for_classes(architecture: str, count: int, layout: Layout) -> bool:
    from invertkit.models.loading.weights_file import misfits

    with torch.device("meta"):
        net = architectures.of_torchvision(architecture, num_classes=count)
    return not any(misfits(net, layout.state).values())


def _torchvision_file(architecture: str, tag: str) -> Path:
    """The file of a torchvision network's own weights, downloaded if it is not there yet."""
    from torchvision import models

    table = models.get_model_weights(architecture)
    if tag and tag not in table.__members__:
        raise RecipeError(
            f"name: torchvision's {architecture} has no weights {tag!r}; it has "
            f"{', '.join(table.__members__)}."
        )
    url = str((table[tag] if tag else table.DEFAULT).url)
    file = url.rpartition("/")[2]
    checksum = file.rpartition("-")[2].split(".")[0]
    entry = Entry(
        f"torchvision's {architecture}", architecture, "imagenet", "none", 0.0, "torchvision", "",
        "", None, file=file, url=url, sha256=checksum,
    )  # fmt: skip
    return hub.weights_of(entry)


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
    """
    import timm

    of_hub = name.startswith("hf-hub:")
    if not of_hub and not timm.is_model(name.split(".")[0]):
        raise RecipeError(unknown(name, timm.list_models(), "timm"))
    net = _made_by_timm(name, pretrained=weights is None and pretrained, weights=weights)
    said = "its own weights" if pretrained else "random weights"
    if weights is not None:
        path = Path(weights)
        layout = read_layout(path)
        load_into(net, layout.state, name=str(path))
        said = f"{path.name}, sha256 {sha256(path)[:12]}"
    elif pretrained:
        said += _hash_of_cached(net)
    config = getattr(net, "pretrained_cfg", {})
    own = architectures.feature_stages(net)
    count = int(getattr(net, "num_classes", 0))
    return Classifier(
        net,
        mean=config.get("mean", IMAGENET_MEAN),
        std=config.get("std", IMAGENET_STD),
        classes=_timm_classes(config, count, own_weights=weights is None),
        description=f"{'' if of_hub else 'timm’s '}{name} ({said})".replace("’", "'"),
        default_layers=tuple(layers) or own,
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
            if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
                raise WeightsError(
                    f"The weights of {name} hold more than tensors, and reading them would run "
                    "code from the file. Ask its author for safetensors, or convert the file "
                    "yourself: `invertkit models convert FILE --trust`."
                ) from None
            if isinstance(error, RuntimeError) and "Error(s) in loading state_dict" in str(error):
                raise WeightsError(
                    f"The weights of {name} belong to another network than its configuration "
                    f"names ({' '.join(str(error).split())[:200]})."
                ) from None
            what = name if name.startswith("hf-hub:") else f"timm's {name}"
            raise WeightsError(hub.unreachable(what, error)) from None
    return net


def _lies_elsewhere(name: str) -> bool:
    """Whether timm would fetch the weights by a link: not from the hub, not from its cache."""
    from timm.models import _hub, get_pretrained_cfg

    if name.startswith("hf-hub:") or (config := get_pretrained_cfg(name)) is None:
        return False
    return bool(config.url) and not config.hf_hub_id and not _hub.check_cached_file(config.url)


def _hash_of_cached(net: nn.Module) -> str:
    """The hash of the hub file that timm has just read, where it is one."""
    from huggingface_hub import try_to_load_from_cache

    config = getattr(net, "pretrained_cfg", {})
    repository = str(config.get("hf_hub_id") or "").split("@")[0]
    names = (config.get("hf_hub_filename"), "model.safetensors", "pytorch_model.bin")
    for file in names if repository else ():
        found = try_to_load_from_cache(repository, file) if file else None
        if isinstance(found, str):
            return f", {file}, sha256 {sha256(Path(found))[:12]}"
    return ""


def _timm_classes(config: Mapping[str, Any], count: int, *, own_weights: bool) -> tuple[str, ...]:
    if config.get("label_names"):
        return tuple(map(str, config["label_names"]))
    tag = str(config.get("tag", ""))
    if own_weights and count == 1000 and ("in1k" in tag or not tag):
        return architectures.class_names("", count)
    return ()
