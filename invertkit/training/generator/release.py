"""The file that a training leaves: generator, discriminator and encoder, with what they are."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from invertkit.models.classifiers.catalogue import ENTRIES
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.generators.conditional import ConditionalEncoder
from invertkit.models.generators.open import ARCHITECTURE
from invertkit.models.generators.projected import baked, run_leaves
from invertkit.models.loading.safetensors_file import as_half, save_in_order
from invertkit.training.generator.networks import GameNetworks
from invertkit.training.generator.placing import object_statistics


def save_generator(
    networks: GameNetworks,
    encoder: ConditionalEncoder,
    path: Path,
    *,
    classes: tuple[str, ...],
    eyes_architecture: str,
    looked_at: int = 1000,
) -> None:
    """All three as float16 safetensors, spectral norms divided out, facts in the metadata.

    Of the eyes, what the discriminator runs is in it too, so that it can be opened by itself; not
    if the package carries them.

    Args:
        networks: Trained, the generator settled; on the CPU.
        encoder: Of the generator.
        path: Of the file; what is there is overwritten.
        classes: Names.
        eyes_architecture: What `architectures.build` calls the eyes' network.
        looked_at: Pictures in which objects are looked for.
    """
    plan, eyes = networks.plan, networks.eyes
    carried = carried_as(eyes)
    where = object_statistics(
        networks.generator, classes=classes, eyes=eyes, size=plan.eyes_size, count=looked_at
    )
    facts: dict[str, Any] = {
        "architecture": ARCHITECTURE,
        "size": plan.size,
        "latent": plan.latent,
        "embedding": plan.embedding,
        "widths": plan.widths,
        "classes": classes,
        "statistics": where,
        "eyes": {
            "architecture": eyes_architecture,
            "description": eyes.description,
            "carried": carried,
            "mean": eyes.mean,
            "std": eyes.std,
            "layers": networks.layers,
            "size": plan.eyes_size,
            "channels": networks.channels,
            "sides": networks.sides,
        },
        "plan": asdict(plan),
    }
    texts = {key: json.dumps(value) for key, value in facts.items()}
    save_in_order(_tensors(networks, encoder, eyes=carried is None), path, texts)


def _tensors(
    networks: GameNetworks, encoder: ConditionalEncoder, *, eyes: bool
) -> dict[str, Tensor]:
    """Of each network, what it needs; of the eyes, what runs before the last layer judged."""
    parts: dict[str, nn.Module] = {
        "generator": networks.generator,
        "encoder": encoder,
        "discriminator.mixer": networks.mixer,
        "discriminator.heads": baked(networks.heads),
    }
    state = {
        f"{part}.{name}": value
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }
    if eyes:
        seen = run_leaves(networks.eyes, networks.layers, networks.plan.eyes_size)
        state |= {
            f"discriminator.eyes.net.{name}": value
            for name, value in networks.eyes.net.state_dict().items()
            if name.rpartition(".")[0] in seen
        }
    return {
        name: _stored(value) for name, value in state.items() if "num_batches_tracked" not in name
    }


def carried_as(eyes: Classifier) -> str | None:
    """The name of a classifier in the package that has the same weights, as float16 has them.

    Example:
        >>> carried_as(open_classifier("embedded-eps0"))
        'embedded-eps0'
    """
    mine = _plain(eyes)
    for name, entry in ENTRIES.items():
        if entry.source == "invertkit":
            theirs = _plain(open_classifier(name))
            if theirs.keys() == mine.keys() and all(mine[k].equal(theirs[k]) for k in mine):
                return name
    return None


def _plain(eyes: Classifier) -> dict[str, Tensor]:
    state = eyes.net.state_dict()
    return {k: as_half(v.cpu()) for k, v in state.items() if "num_batches_tracked" not in k}


def _stored(value: Tensor) -> Tensor:
    return as_half(value.detach().cpu()).contiguous().clone()
