"""The classifiers that have a name of their own: a table of facts, read without torch.

Accuracies, file names and links are those that the authors published; what they did not publish
is None here and is said to be so. A name such as `timm:NAME` needs no entry: see
`invertkit.models.classifiers.words.SOURCES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, final

Norm = Literal["none", "l2", "linf"]


class DataSet(NamedTuple):
    """What classifiers are trained on, as far as it is usual.

    Attributes:
        name: In words.
        mean: Of its images in [0, 1], per channel.
        std: Their deviation, per channel.
        side: Of the images that classifiers of it take, in pixels.
    """

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    side: int


IMAGENET: Final = DataSet("ImageNet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224)
CIFAR10: Final = DataSet("CIFAR-10", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), 32)
CIFAR10_CLASSES: Final = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

LITE0: Final = "timm:tf_efficientnet_lite0"
"""The network that the package carries: EfficientNet-Lite0 by its name in timm."""

_HUB = "madrylab/robust-imagenet-models"
_SALMAN = "Salman et al. 2020, Do Adversarially Robust ImageNet Models Transfer Better?"
_LIBRARY = "Engstrom et al. 2019, Robustness (Python library)"


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a classifier.

    Args:
        name: The word that names it in a recipe.
        architecture: A name of `invertkit.models.classifiers.architectures`.
        dataset: What it was trained on: `imagenet` or `cifar10`.
        norm: Norm of the perturbations it was trained against; `none` for ordinary training.
        eps: Their radius: for l2 with pixels in [0, 1], for linf in 255ths; 0 for none.
        source: Where it comes from, in a word: `salman2020`, `robustness`, `invertkit`.
        paper: What to cite.
        licence: Of the weights.
        accuracy: Published accuracy on clean test images, in per cent; None if not published.
        repository: On the hub; empty if it is not there.
        file: Its file name.
        url: Where the file is, if not on the hub.
        size: Of the download in bytes; None if not published.
        sha256: Of the file, or its first digits; empty if not published.
        side: Of the images it was trained on, in pixels.
        mean: Subtracted from images in [0, 1], per channel.
        std: Divides the difference.
        note: What else to know.
    """

    name: str
    architecture: str
    dataset: str
    norm: Norm
    eps: float
    source: str
    paper: str
    licence: str
    accuracy: float | None
    repository: str = ""
    file: str = ""
    url: str = ""
    size: int | None = None
    sha256: str = ""
    side: int = 224
    mean: tuple[float, float, float] = IMAGENET.mean
    std: tuple[float, float, float] = IMAGENET.std
    note: str = ""

    @property
    def attack(self) -> str:
        """What it was trained against, in words."""
        if self.norm == "none" or self.eps == 0:
            return "none"
        return f"l2 {self.eps:g}" if self.norm == "l2" else f"linf {self.eps:g}/255"

    def facts(self) -> dict[str, Any]:
        """All of its fields as plain data, for programs."""
        return asdict(self)


def usual(architecture: str) -> DataSet:
    """The data set that a network of that name is trained on, where nobody says otherwise.

    Example:
        >>> usual("cifar_resnet50").side, usual("torchvision:resnet50").side
        (32, 224)
    """
    if architecture == LITE0:
        return IMAGENET._replace(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return CIFAR10 if architecture.startswith("cifar") else IMAGENET


_L2 = ("0", "0.01", "0.03", "0.05", "0.1", "0.25", "0.5", "1", "3", "5")
_LINF = ("0.5", "1.0", "2.0", "4.0", "8.0")

# Published accuracies, Salman et al., tables of the repository robust-models-transfer.
_ACCURACY: Final[Mapping[tuple[str, Norm], tuple[float, ...]]] = MappingProxyType(
    {
        ("resnet18", "l2"): (69.79, 69.90, 69.24, 69.15, 68.77, 67.43, 65.49, 62.32, 53.12, 45.59),
        ("resnet50", "l2"): (75.80, 75.68, 75.76, 75.59, 74.78, 74.14, 73.16, 70.43, 62.83, 56.13),
        ("wide_resnet50_2", "l2"): (
            76.97, 77.25, 77.26, 77.17, 76.74, 76.21, 75.11, 73.41, 66.90, 60.94,
        ),
        ("wide_resnet50_4", "l2"): (
            77.91, 78.02, 77.87, 77.77, 77.64, 77.10, 76.52, 75.51, 69.67, 65.20,
        ),
        ("resnet18", "linf"): (66.13, 63.46, 59.63, 52.49, 42.11),
        ("resnet50", "linf"): (73.73, 72.05, 69.10, 63.86, 54.53),
        ("wide_resnet50_2", "linf"): (75.82, 74.65, 72.35, 68.41, 60.82),
    }
)  # fmt: skip

# The others exist at ε = 0 and 3: (name in the files, architecture) -> accuracies.
_OTHERS: Final[Mapping[tuple[str, str], tuple[float, float]]] = MappingProxyType(
    {
        ("densenet", "densenet161"): (77.37, 66.98),
        ("mnasnet", "mnasnet1_0"): (60.97, 41.83),
        ("mobilenet", "mobilenet_v2"): (65.26, 50.40),
        ("resnext50_32x4d", "resnext50_32x4d"): (77.38, 66.25),
        ("shufflenet", "shufflenet_v2_x1_0"): (64.25, 43.32),
        ("vgg16_bn", "vgg16_bn"): (73.66, 57.19),
    }
)

# The one checksum that could be found in public: from a third party's registry, with the size.
_KNOWN: Final[Mapping[str, tuple[int, str]]] = MappingProxyType(
    {
        "resnet50_linf_eps4.0.ckpt": (
            204_818_947,
            "9e62216975c111b8081481533b6142dec34be69abe5d90b54d7f860015c263db",
        )
    }
)


def _salman(stem: str, architecture: str, norm: Norm, eps: str, accuracy: float) -> Entry:
    file = f"{stem}_{norm}_eps{eps}.ckpt"
    size, checksum = _KNOWN.get(file, (None, ""))
    return Entry(
        name=f"{stem}-{norm}-eps{eps}",
        architecture=architecture,
        dataset="imagenet",
        norm=norm,
        eps=float(eps),
        source="salman2020",
        paper=f"{_SALMAN} (arXiv:2007.08489)",
        licence="MIT",
        accuracy=accuracy,
        repository=_HUB,
        file=file,
        size=size,
        sha256=checksum,
        note="MAGIC's classifier (AAAI 2023)." if file == "resnet50_l2_eps0.05.ckpt" else "",
    )


def _of_salman() -> Iterator[Entry]:
    for (stem, norm), accuracies in _ACCURACY.items():
        for eps, accuracy in zip(_L2 if norm == "l2" else _LINF, accuracies, strict=True):
            yield _salman(stem, stem, norm, eps, accuracy)
    for (stem, architecture), pair in _OTHERS.items():
        for eps, accuracy in zip(("0", "3"), pair, strict=True):
            yield _salman(stem, architecture, "l2", eps, accuracy)


_LIBRARYS_CIFAR: Final[tuple[tuple[Norm, str, float, str, str], ...]] = (
    ("l2", "0", 95.25, "yhpp4yws7sgi6lj", "cifar_nat.pt"),
    ("l2", "0.25", 92.77, "2qsp7pt6t7uo71w", "cifar_l2_0_25.pt"),
    ("l2", "0.5", 90.83, "1zazwjfzee7c8i4", "cifar_l2_0_5.pt"),
    ("l2", "1", 81.62, "s2x7thisiqxz095", "cifar_l2_1_0.pt"),
    ("linf", "8", 87.03, "c9qlt1lbdnu9tlo", "cifar_linf_8.pt"),
)
_LIBRARYS_IMAGENET: Final[tuple[tuple[Norm, str, float, str, str], ...]] = (
    ("l2", "3", 57.90, "knf4uimlqsi1yz8", "imagenet_l2_3_0.pt"),
    ("linf", "4", 62.42, "axfuary2w1cnyrg", "imagenet_linf_4.pt"),
    ("linf", "8", 47.91, "yxn15a9zklz3s8q", "imagenet_linf_8.pt"),
)
_LIBRARYS_STANDARD: Final = Entry(
    name="robustness-resnet50-standard",
    architecture="resnet50",
    dataset="imagenet",
    norm="none",
    eps=0.0,
    accuracy=76.13,
    source="robustness",
    paper="He et al. 2016, Deep Residual Learning for Image Recognition (arXiv:1512.03385)",
    licence="BSD-3-Clause (torchvision)",
    file="resnet50-0676ba61.pth",
    url="https://download.pytorch.org/models/resnet50-0676ba61.pth",
    sha256="0676ba61",
    note="The library's ε = 0 is torchvision's: torchvision:resnet50.IMAGENET1K_V1.",
)


def _of_the_library() -> Iterator[Entry]:
    # Only the names differ: those of ImageNet need a word against Salman et al.'s of equal radius.
    for prefix, architecture, dataset, known, files in (
        ("cifar10", "cifar_resnet50", "cifar10", CIFAR10, _LIBRARYS_CIFAR),
        ("robustness", "resnet50", "imagenet", IMAGENET, _LIBRARYS_IMAGENET),
    ):
        for norm, eps, accuracy, key, file in files:
            yield Entry(
                name=f"{prefix}-resnet50-{norm}-eps{eps}",
                architecture=architecture,
                dataset=dataset,
                norm=norm,
                eps=float(eps),
                source="robustness",
                paper=f"{_LIBRARY}, github.com/MadryLab/robustness",
                licence="MIT",
                accuracy=accuracy,
                file=file,
                url=f"https://www.dropbox.com/s/{key}/{file}?dl=1",
                side=known.side,
                mean=known.mean,
                std=known.std,
                note="Saved with torch 1.1 and dill 0.2.9, in torch's older container.",
            )
    yield _LIBRARYS_STANDARD


# Twins of one network that differ in the radius they were trained against: one more is a line.
_TWINS: Final[tuple[tuple[float, float | None], ...]] = ((0.0, 75.1), (0.5, None), (1.5, None))
_DEFAULT: Final = 0.5
"""Radius of the twin that `embedded` means."""


def _ours() -> Iterator[Entry]:
    names = ((f"embedded-eps{eps:g}", eps, accuracy) for eps, accuracy in _TWINS)
    default = next(("embedded", *twin) for twin in _TWINS if twin[0] == _DEFAULT)
    for name, eps, accuracy in (default, *names):
        yield Entry(
            name=name,
            architecture=LITE0,
            dataset="imagenet",
            norm="l2" if eps else "none",
            eps=eps,
            source="invertkit",
            paper="Tan & Le 2019, EfficientNet (arXiv:1905.11946)"
            + ("; MAGIC Eq. 3, trained here; see docs/quasi-robust.md" if eps else ""),
            licence="Apache-2.0",
            accuracy=accuracy,
            file=f"lite0-eps{eps:g}.safetensors",
            mean=usual(LITE0).mean,
            std=usual(LITE0).std,
            note="Carried by the package, no download. EfficientNet-Lite0"
            + (", with Google's weights." if eps == 0 else "; ε at 224×224."),
        )


ENTRIES: Final[Mapping[str, Entry]] = MappingProxyType(
    {entry.name: entry for make in (_ours, _of_salman, _of_the_library) for entry in make()}
)


def find(name: str) -> Entry | None:
    """The entry of that name, or of the same name with its radius written otherwise.

    Example:
        >>> find("resnet50-linf-eps4").file
        'resnet50_linf_eps4.0.ckpt'
    """
    if name in ENTRIES:
        return ENTRIES[name]
    parts = _parts(name)
    if parts is None:
        return None
    return next((entry for entry in ENTRIES.values() if _parts(entry.name) == parts), None)


def near(name: str, count: int = 1) -> list[str]:
    """Names of the table that look like `name`, best first.

    Example:
        >>> near("resnet50-l2-eps0.005")
        ['resnet50-l2-eps0.05']
    """
    return get_close_matches(name, ENTRIES, n=count)


def select(
    *,
    norm: str = "",
    architecture: str = "",
    dataset: str = "",
    source: str = "",
    eps: float | None = None,
    max_eps: float | None = None,
    words: Sequence[str] = (),
) -> list[Entry]:
    """The entries that fit every filter given, in the order of the table.

    Args:
        norm: `l2`, `linf` or `none`; ordinary training (ε = 0) counts as `none` as well.
        architecture: Its name, or a part of it or of the entry's name.
        dataset: As in `Entry`.
        source: As in `Entry`.
        eps: Exactly this radius, in the units of the entry's norm.
        max_eps: At most this radius.
        words: Each occurs somewhere in what is known of the entry.

    Example:
        >>> [entry.name for entry in select(architecture="resnet18", norm="l2", max_eps=0.02)]
        ['resnet18-l2-eps0', 'resnet18-l2-eps0.01']
    """
    exact = any(entry.architecture == architecture for entry in ENTRIES.values())
    return [
        entry
        for entry in ENTRIES.values()
        if norm in ("", entry.norm, "none" if entry.eps == 0 else entry.norm)
        and (
            entry.architecture == architecture
            if exact
            else architecture in entry.architecture or architecture in entry.name
        )
        and dataset in ("", entry.dataset)
        and source in ("", entry.source)
        and (eps is None or entry.eps == eps)
        and (max_eps is None or entry.eps <= max_eps)
        and all(word.lower() in str(entry.facts()).lower() for word in words)
    ]


def _parts(name: str) -> tuple[str, str, float] | None:
    match = re.fullmatch(r"(.+)-(l2|linf)-eps(\d+(?:\.\d+)?)", name)
    return None if match is None else (match[1], match[2], float(match[3]))
