"""The classifier that the package carries, and those that `invertkit train` makes like it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from invertkit.errors import WeightsError
from invertkit.models.classifiers.catalogue import ENTRIES
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.sources.file import from_file
from invertkit.models.loading import hub
from invertkit.models.loading.safetensors_file import metadata
from invertkit.models.loading.weights_file import is_safetensors

EMBEDDED: Final = hub.CARRIED / ENTRIES["embedded"].file
"""Its weights."""


def opened(word: str, *, weights: Path | None, pretrained: bool) -> Classifier:
    """What `open_classifier` asks of a source; the word is `embedded`."""
    return embedded(weights=weights)


def embedded(*, weights: Path | None = None) -> Classifier:
    """The quasi-robust classifier that the package carries, or one of `invertkit train classifier`.

    EfficientNet-Lite0 with the thousand classes of ImageNet, made for 224×224; it takes any size.

    Args:
        weights: Another file made by `invertkit train classifier`.

    Raises:
        WeightsError: The file is damaged or not one of these.

    Example:
        >>> import torch
        >>> embedded()(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 1000])
    """
    if weights is None:
        return from_file(path=EMBEDDED)
    path = Path(weights)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file.")
    if not is_safetensors(path) or "architecture" not in metadata(path):
        raise WeightsError(
            f"{path}: was not made by `invertkit train classifier` (its metadata names no network)."
        )
    return from_file(path=path)
