"""The words that name classifiers: which source each belongs to, read without torch.

A source is a line of `SOURCES` and a module of `invertkit.models.classifiers.sources` with a
function `opened`, which is imported when it is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from invertkit.models.classifiers import catalogue

_ENDINGS: Final = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar", ".latest", ".best")


@final
@dataclass(frozen=True, slots=True)
class Source:
    """Where classifiers come from.

    Args:
        form: How its words look.
        summary: What they name.
        knows: Whether a word is of that form.
        module: Of `invertkit.models.classifiers.sources`; its `opened(word, weights=…,
            pretrained=…)` makes the classifier.
        listed: Whether each of its words has a line of its own in the catalogue.
    """

    form: str
    summary: str
    knows: Callable[[str], bool]
    module: str
    listed: bool = False


def is_file_name(word: str) -> bool:
    """Whether a word names a file, not a classifier: by its slash or its ending.

    Example:
        >>> is_file_name("mine.safetensors"), is_file_name("hf-hub:owner/name")
        (True, False)
    """
    return ":" not in word.split("/")[0] and (
        "/" in word or "\\" in word or Path(word).suffix in _ENDINGS
    )


def _begins(prefix: str) -> Callable[[str], bool]:
    return lambda word: word.startswith(prefix) and word != prefix


SOURCES: Final = (
    Source(
        "embedded",
        "the quasi-robust classifier that the package carries",
        lambda word: word == "embedded",
        "embedded",
        listed=True,
    ),
    Source(
        "timm:NAME",
        "any classifier of timm, such as timm:resnet50.a1_in1k; from the hub",
        _begins("timm:"),
        "timm",
    ),
    Source(
        "torchvision:NAME",
        "any classifier of torchvision, such as torchvision:resnet50 or, with the name of its "
        "weights, torchvision:resnet50.IMAGENET1K_V1; from its own site",
        _begins("torchvision:"),
        "torchvision",
    ),
    Source(
        "hf-hub:OWNER/NAME",
        "a classifier on the hub that timm can build",
        _begins("hf-hub:"),
        "timm",
    ),
    Source(
        "FILE",
        "a local file that says what it is, or whose keys show it",
        is_file_name,
        "file",
    ),
    Source(
        "ARCHITECTURE-NORM-epsRADIUS",
        "an adversarially trained classifier of the catalogue, such as resnet50-l2-eps0.05",
        lambda word: catalogue.find(word) is not None or "-eps" in word,
        "robust",
        listed=True,
    ),
)
"""The first that knows a word has it. A word that none knows is taken for a bare name of timm."""


def source_of(name: str | Path) -> Source | None:
    """The source of a word; None for a bare word, which is left to timm.

    Example:
        >>> source_of("torchvision:resnet50").form, source_of("resnet50")
        ('torchvision:NAME', None)
    """
    if isinstance(name, Path):
        return next(source for source in SOURCES if source.form == "FILE")
    return next((source for source in SOURCES if source.knows(name)), None)
