"""A checkpoint as safetensors that say what network they are, and load by themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from invertkit.errors import InputError
from invertkit.models.classifiers import architectures
from invertkit.models.classifiers.catalogue import usual
from invertkit.models.loading.layouts import Layout
from invertkit.models.loading.safetensors_file import as_half, read_facts, write_safetensors
from invertkit.models.loading.weights_file import (
    check_fit,
    is_safetensors,
    read_layout,
    read_trusted,
    sha256,
)


def convert_weights(
    source: Path, destination: Path, *, trust: bool, architecture: str = "", half: bool = False
) -> dict[str, Any]:
    """Write the tensors of a checkpoint as safetensors, with what is needed to load it by itself.

    The destination appears whole or not at all.

    Args:
        source: A PyTorch checkpoint, or a safetensors file in another layout.
        destination: A `.safetensors` file to make.
        trust: Run the code that the checkpoint holds, if it holds any.
        architecture: What network it is, as `invertkit.models.classifiers.architectures.build`
            calls it; otherwise it is told from the names and shapes, where they are known ones.
            Where it is given and no tensor has a name of that network, the tensors are taken in
            order, if they are as many and each has the shape of its place.
        half: Keep numbers as float16, where they fit: files half as large.

    Returns:
        What was written into the metadata, and `tensors`, how many there are.

    Raises:
        WeightsError: It needs code and is not trusted, or is damaged, or is another network.
        InputError: The destination exists or cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint = Path(folder, "mine.pt")
        ...     torch.save(architectures.build("shufflenet_v2_x1_0", 7).state_dict(), checkpoint)
        ...     facts = convert_weights(checkpoint, Path(folder, "mine.safetensors"), trust=False)
        >>> facts["architecture"], facts["size"], len(facts["classes"])
        ('shufflenet_v2_x1_0', 224, 7)
    """
    if destination.suffix != ".safetensors":
        raise InputError(f"{destination}: expected a name ending in .safetensors.")
    if destination.exists():
        raise InputError(f"{destination}: exists already, and nothing is overwritten.")
    layout = read_trusted(source) if trust and source.is_file() else read_layout(source)
    if architecture:
        layout = _renamed(layout, architecture)
    facts = _facts_of(source, layout, architecture)
    tensors = {
        key: (as_half(value) if half else value).detach().contiguous().clone()
        for key, value in layout.state.items()
    }
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in facts.items()}
    write_safetensors(tensors, destination, texts)
    return {**facts, "tensors": len(tensors)}


def _renamed(layout: Layout, architecture: str) -> Layout:
    """The tensors by the architecture's names, where its own names are all others.

    The same network written by other hands has other names, but registers its layers as they run:
    equal shapes in equal order are strong evidence, and what it labels is the proof.
    """
    with torch.device("meta"):
        net = architectures.build(architecture, architectures.class_count(layout.state))
    own = net.state_dict()
    if any(key in own for key in layout.state):
        return layout
    shapes = [value.shape for value in layout.state.values()]
    if [value.shape for value in own.values()] != shapes:
        return layout
    state = dict(zip(own, layout.state.values(), strict=True))
    return replace(layout, state=state)


def _facts_of(source: Path, layout: Layout, architecture: str) -> dict[str, Any]:
    """The metadata of a converted file; of a network that is not known, only where it is from."""
    origin: dict[str, Any] = {"converted_from": source.name, "sha256_of_source": sha256(source)}
    facts = {**(read_facts(source) if is_safetensors(source) else {}), **origin}
    # A training that was never told names counts its classes: those of the architecture are better.
    if facts.get("classes") == [str(i) for i in range(len(facts.get("classes", ())))]:
        del facts["classes"]
    name = architecture or facts.get("architecture") or architectures.recognise(layout.state)
    if not name:
        return facts
    classes = architectures.class_count(layout.state)
    with torch.device("meta"):
        net = architectures.build(name, classes, widths=facts.get("widths", ()))
    check_fit(net, layout.state, name=str(source))
    data = usual(name)
    mean, std, side = architectures.own_input(net) or (data.mean, data.std, data.side)
    names = architectures.class_names(name, classes)
    return {
        "architecture": name,
        "classes": list(names) or [f"class {i}" for i in range(classes)],
        "mean": list(layout.mean or mean),
        "std": list(layout.std or std),
        "size": side,
        **facts,
    }
