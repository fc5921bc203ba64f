"""Classifiers by one word, whatever their source."""

from __future__ import annotations

import importlib
from pathlib import Path

from invertkit.errors import RecipeError
from invertkit.models.classifiers import catalogue
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.words import source_of


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
        ('tench', 'goldfish', 'great white shark')
    """
    word = str(name)
    source = source_of(name)
    if source is not None:
        return _opened(source.module, word, weights, pretrained=pretrained)
    try:
        return _opened("timm", word, weights, pretrained=pretrained)
    except RecipeError as error:
        near = catalogue.near(word)
        hint = f" Or, of the catalogue, {near[0]!r}?" if near else ""
        raise RecipeError(f"{error}{hint} `invertkit models` lists what there is.") from None


def _opened(module: str, word: str, weights: Path | None, *, pretrained: bool) -> Classifier:
    source = importlib.import_module(f"invertkit.models.classifiers.sources.{module}")
    classifier: Classifier = source.opened(word, weights=weights, pretrained=pretrained)
    return classifier
