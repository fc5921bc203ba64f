"""Is a weights file what it is said to be? Every entry accounted for, in words."""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch

from invertkit.errors import WeightsError
from invertkit.models.classifiers import architectures, catalogue
from invertkit.models.classifiers.catalogue import Entry
from invertkit.models.classifiers.words import is_file_name
from invertkit.models.loading.hub import weights_of
from invertkit.models.loading.layouts import Layout
from invertkit.models.loading.safetensors_file import read_facts
from invertkit.models.loading.weights_file import (
    check_finite,
    check_fit,
    is_safetensors,
    read_layout,
    sha256,
)


@final
@dataclass(frozen=True, slots=True)
class Verified:
    """What was found; anything wrong has been raised before.

    Args:
        path: The file.
        size: In bytes.
        sha256: Of the file.
        published: How that compares with the published checksum.
        container: How the bytes are packed.
        layout: Where the network lies in it.
        entries: How many entries its state dict has.
        duplicates: How many of them repeat another.
        architecture: The network they fit, entry by entry.
        parameters: How many numbers the network learns.
        classes: Number of logits.
        normaliser: Mean and deviation, and where they are from.
        beside: What else the file holds.
        notes: What a reader should know.
    """

    path: Path
    size: int
    sha256: str
    published: str
    container: str
    layout: str
    entries: int
    duplicates: int
    architecture: str
    parameters: int
    classes: int
    normaliser: str
    beside: tuple[str, ...]
    notes: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """All of its fields as plain data, for programs."""
        return {**asdict(self), "path": str(self.path)}


def verify(what: str, *, weights: Path | None = None, architecture: str = "") -> Verified:
    """Check a weights file: integrity, layout, every entry, normaliser, checksum.

    Args:
        what: A name of the catalogue, or the path of a file.
        weights: For a name: its file or the folder that it lies in, instead of the cache.
        architecture: For a file that does not tell what network it is.

    Raises:
        WeightsError: Anything is wrong; the message says what.
        RecipeError: No such name or architecture.

    Example:
        >>> checked = verify("embedded")
        >>> checked.architecture, checked.classes, checked.container
        ('timm:tf_efficientnet_lite0', 1000, 'safetensors')
    """
    entry = None if is_file_name(what) else catalogue.find(what)
    if entry is None and not is_file_name(what):
        near = catalogue.near(what)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise WeightsError(f"{what}: neither a name of the catalogue nor a file.{hint}")
    path = Path(what) if entry is None else weights_of(entry, weights)
    layout = read_layout(path)
    facts = read_facts(path) if is_safetensors(path) else {}
    kind = _kind(path, layout, facts, entry, architecture)
    classes = architectures.class_count(layout.state)
    with torch.device("meta"):
        net = architectures.build(kind, classes, widths=facts.get("widths", ()))
    check_fit(net, layout.state, name=str(path))
    check_finite(layout.state, name=str(path))
    digest = sha256(path)
    return Verified(
        path=path,
        size=path.stat().st_size,
        sha256=digest,
        published=_published(entry, digest),
        container=_container(path),
        layout=layout.name,
        entries=layout.entries,
        duplicates=layout.duplicates,
        architecture=kind,
        parameters=sum(p.numel() for p in net.parameters()),
        classes=classes,
        normaliser=_normaliser(layout.mean, layout.std, facts, entry),
        beside=layout.beside,
        notes=layout.notes,
    )


def _kind(
    path: Path, layout: Layout, facts: dict[str, Any], entry: Entry | None, architecture: str
) -> str:
    """What network the entries are of: as told, else by the catalogue, the file, the names."""
    kind = (
        architecture
        or (entry.architecture if entry else "")
        or facts.get("architecture")
        or architectures.recognise(layout.state)
    )
    if not kind:
        raise WeightsError(
            f"{path}: whole, but its {len(layout.state)} entries are those of no network that is "
            "told by names and shapes. Name it with `--architecture`."
        )
    return str(kind)


def _published(entry: Entry | None, digest: str) -> str:
    if entry is None:
        return "no published name was given to compare with"
    if not entry.sha256:
        return "no checksum is published"
    return "the published one" if digest.startswith(entry.sha256) else "not the published file's"


def _container(path: Path) -> str:
    if is_safetensors(path):
        return "safetensors"
    return "torch, zip" if zipfile.is_zipfile(path) else "torch, the older container"


def _normaliser(
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    facts: dict[str, Any],
    entry: Entry | None,
) -> str:
    where = "in the file's entries"
    if mean is None or std is None:
        if "mean" not in facts or "std" not in facts:
            return "none in the file"
        mean, std, where = tuple(facts["mean"]), tuple(facts["std"]), "in the file's metadata"
    normaliser = f"mean {_three(mean)}, std {_three(std)}, {where}"
    if entry is None:
        return normaliser
    agree = all(
        abs(value - published) < 1e-4
        for pair in ((mean, entry.mean), (std, entry.std))
        for value, published in zip(*pair, strict=True)
    )
    if agree:
        return f"{normaliser}; as the catalogue says"
    return f"{normaliser}; the catalogue says mean {_three(entry.mean)}, std {_three(entry.std)}"


def _three(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
