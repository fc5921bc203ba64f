"""Labels of classifiers that are given by words, paths or modules, and names of files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from torch import nn

from invertkit.core.images.sheet import plain
from invertkit.errors import InputError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.open import open_classifier


def named_classifiers(words: Mapping[str, Any] | Sequence[Any]) -> dict[str, Any]:
    """Each classifier under its label.

    Words and paths may carry a label of their own, `LABEL=WORD`. Without one, a file's is its
    name without ending, with its folder's where two files are called the same, and a module's is
    its class and number.

    Args:
        words: By label, or in order.

    Raises:
        InputError: There is none, or two share a label.

    Example:
        >>> named_classifiers(["plain=runs/a/classifier.safetensors", "embedded"])
        {'plain': 'runs/a/classifier.safetensors', 'embedded': 'embedded'}
    """
    if isinstance(words, Mapping):
        if not words:
            raise InputError("classifiers: expected at least one, got none.")
        return dict(words)
    given = [words] if isinstance(words, str | Path | nn.Module) else list(words)
    if not given:
        raise InputError("classifiers: expected at least one, got none.")
    pairs = [_labelled(word, number) for number, word in enumerate(given, 1)]
    count = Counter(label for label, _ in pairs)
    fuller = [
        f"{Path(word).parent.name}/{label}"
        if count[label] > 1 and not isinstance(word, nn.Module) and Path(word).parent.name
        else label
        for label, word in pairs
    ]
    twice = [label for label, times in Counter(fuller).items() if times > 1]
    if twice:
        raise InputError(
            f"classifiers: two are called {twice[0]!r}; give them labels of your own, such as "
            f"`first={pairs[[label for label in fuller].index(twice[0])][1]}`."
        )
    return {label: word for label, (_, word) in zip(fuller, pairs, strict=True)}


def _labelled(word: Any, number: int) -> tuple[str, Any]:
    if isinstance(word, nn.Module):
        return f"{type(word).__name__} {number}", word
    label, unlabelled = split_label(str(word))
    if label:
        return label, unlabelled
    path = Path(unlabelled)
    return (path.stem if path.suffix in _ENDINGS or path.is_file() else unlabelled), word


def split_label(text: str) -> tuple[str, str]:
    """`LABEL=WORD` in two; an empty label if there is none. Labels may hold further `=`.

    Example:
        >>> split_label("robust=resnet50-l2-eps3"), split_label("embedded")
        (('robust', 'resnet50-l2-eps3'), ('', 'embedded'))
    """
    # Names of files may hold a `=` too: what is there as a whole, or after a `=`, is a file.
    if Path(text).exists():
        return "", text
    splits = [(text[: at.start()], text[at.end() :]) for at in re.finditer("=", text)]
    files = [split for split in splits if split[1] and Path(split[1]).is_file()]
    label, word = (files or splits or [("", text)])[0 if files else -1]
    return (label.strip(), word.strip()) if label.strip() and word.strip() else ("", text)


_ENDINGS: Final = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def opened_classifier(word: Any) -> Classifier:
    """The classifier of a word, a path or a module.

    Raises:
        RecipeError: Nothing of that name.
        WeightsError: Its weights cannot be had.
    """
    if isinstance(word, Classifier):
        return word
    return Classifier(word) if isinstance(word, nn.Module) else open_classifier(word)


def slug(text: str) -> str:
    """The text as a part of a file name.

    Example:
        >>> slug("resnet50 (ε = 0.05)")
        'resnet50-eps-=-0.05'
    """
    return re.sub(r"[^\w.+=,-]+", "-", plain(text)).strip("-.")[:80] or "x"
