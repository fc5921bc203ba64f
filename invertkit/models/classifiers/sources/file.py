"""A classifier from a local file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from invertkit.errors import RecipeError, WeightsError
from invertkit.models.classifiers import architectures
from invertkit.models.classifiers.catalogue import usual
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.loading import hub
from invertkit.models.loading.layouts import Layout
from invertkit.models.loading.safetensors_file import read_facts
from invertkit.models.loading.weights_file import (
    check_fit,
    is_safetensors,
    load_into,
    read_layout,
    sha256,
)


def opened(word: str, *, weights: Path | None, pretrained: bool) -> Classifier:
    """What `open_classifier` asks of a source; the word is a path."""
    if weights is not None:
        raise RecipeError(
            f"name: {word} is a file already, and `weights:` names another. Give one of them."
        )
    return from_file(path=Path(word))


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

    Example:
        >>> from_file(path=hub.CARRIED / "lite0-eps0.safetensors").default_layers
        ('conv_stem', 'blocks.1', 'blocks.2', 'blocks.4')
    """
    layout = read_layout(path)
    facts = read_facts(path) if is_safetensors(path) else {}
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
    # On the meta device first: metadata that lie must not claim memory for a giant.
    with torch.device("meta"):
        check_fit(
            architectures.build(architecture, count, widths=widths), layout.state, name=str(path)
        )
    net = architectures.build(architecture, count, widths=widths)
    load_into(net, layout.state, name=str(path))
    mean, std, assumed = _normalisation(layout, facts, architecture)
    size = int(facts.get("size", usual(architecture).side))
    what = architectures.TITLES.get(architecture, architecture)
    words = [f"{count} classes", *_attack(facts, size), *assumed, f"sha256 {sha256(path)[:12]}"]
    layout.warn(path)
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
    """Mean, deviation and, where the file tells neither, a word on that."""
    if layout.mean is not None and layout.std is not None:
        return layout.mean, layout.std, []
    if "mean" in facts and "std" in facts:
        mean, std = (tuple(map(float, facts[key])) for key in ("mean", "std"))
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean {mean} and std {std}")
        return mean, std, []
    name, mean, std, _ = usual(architecture)
    return mean, std, [f"mean and std of {name} assumed"]


def _attack(facts: Mapping[str, Any], size: int) -> list[str]:
    """What it was trained against, if the file tells."""
    plan = facts.get("plan")
    attack = plan.get("attack") if isinstance(plan, Mapping) else None
    if not isinstance(attack, Mapping) or not {"norm", "eps"} <= set(attack):
        return []
    return [f"{attack['norm']} ε = {float(attack['eps']):g} at {size}×{size}"]
