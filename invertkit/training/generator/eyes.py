"""The eyes of the discriminators: a frozen classifier whose architecture has a name."""

from __future__ import annotations

from pathlib import Path

from invertkit.errors import InputError
from invertkit.models.classifiers import catalogue
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.loading.safetensors_file import read_facts


def open_eyes(word: str, weights: Path | None) -> tuple[Classifier, str]:
    """A classifier, and what `architectures.build` calls its network.

    Args:
        word: As recipes name it.
        weights: A file in place of its own.

    Raises:
        InputError: Nothing tells what network it is, so that its discriminator could not be
            opened again.
        RecipeError: There is no such classifier.
        WeightsError: Its weights cannot be had.

    Example:
        >>> open_eyes("embedded-eps0", None)[1]
        'timm:tf_efficientnet_lite0'
    """
    eyes = open_classifier(word, weights=weights)
    if word.startswith(("timm:", "torchvision:")):
        return eyes, word
    entry, path = catalogue.find(word), Path(word)
    if entry is not None and entry.architecture != "kitnet":  # whose widths a name does not tell
        return eyes, entry.architecture
    facts = read_facts(path) if path.suffix == ".safetensors" and path.is_file() else {}
    architecture = facts.get("architecture")
    if not isinstance(architecture, str) or "widths" in facts:
        raise InputError(
            f"--eyes: nothing tells what network {word} is. Give timm:NAME or torchvision:NAME "
            "with --eyes-weights FILE, or convert the file with `invertkit models convert`."
        )
    return eyes, architecture
