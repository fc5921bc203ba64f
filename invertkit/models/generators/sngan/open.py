"""SNGAN's networks as models of a recipe: generator, discriminator and encoder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal

import torch

from invertkit.errors import WeightsError
from invertkit.models.classifiers.architectures import quiet_random
from invertkit.models.classifiers.class_names import imagenet_classes
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.generators.encoder import Encoder
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.latents import ClassEmbedding, LatentSpec
from invertkit.models.generators.sngan.chainer_file import (
    load_discriminator,
    load_encoder,
    load_generator,
)
from invertkit.models.generators.sngan.discriminator import SNGANDiscriminator
from invertkit.models.generators.sngan.encoder import SNGANEncoder
from invertkit.models.generators.sngan.generator import CLASSES, SNGANGenerator
from invertkit.models.loading.weights_file import cited

Size = Literal[128, 256]
_GENERATORS: Final = ("ResNetGenerator", "SCBNResNetGenerator", "ResNetAuxABGenerator")
PHOTOGRAPHS: Final = (-1.0, 255 / 128 - 1)
"""Black and white of photographs as the encoder was shown them: bytes / 128 - 1."""


def sngan(*, weights: Path | None = None, size: Size = 256, pretrained: bool = True) -> Generator:
    """SNGAN with conditional batch norm, from the Chainer files that Neural Collage published.

    Its latents are `latent`, z of N(0, I), and `embedding`, a weight for every class: a class is 1
    at its place, and what lies between classes mixes their scales and shifts.

    Args:
        weights: The folder with `ResNetGenerator_*.npz`, or the file itself; that of the auxiliary
            networks, `ResNetAuxABGenerator_*.npz`, holds the same generator.
        size: Side of the pictures, where random weights are asked for; else the file tells.
        pretrained: Without `weights`: false for random weights, which is only good for timing.

    Raises:
        WeightsError: No file, or not one of these.

    Source: Miyato & Koyama 2018; Suzuki et al. 2018, whose files cover 143 classes, the dogs and
    cats of ImageNet. They lie on no hub that could be fetched from safely, so they are given by
    hand.
    """
    if weights is None and not pretrained:
        with quiet_random():
            net, origin = SNGANGenerator(size), "random weights"
    else:
        path = published_file(weights, _GENERATORS, option="generator")
        net, origin = load_generator(path), cited(path)
    return Generator(
        net,
        latents={
            "latent": LatentSpec((net.latent,)),
            "embedding": ClassEmbedding(torch.eye(net.classes), class_names(net.classes)),
        },
        size=net.size,
        description=f"SNGAN {net.size} ({net.classes} classes, {origin})",
        feature_layer="l1",
    )


def sngan_discriminator(
    *, weights: Path | None = None, size: Size = 256, pretrained: bool = True
) -> Classifier:
    """The discriminator that SNGAN was trained against, for its features.

    `layers: default` is `features`, what it sees before it sums over places. Pictures are taken to
    [-1, 1], as the generator makes them; the released code shows it photographs as
    bytes / 128 - 1, where white is 0.992.

    Args:
        weights: The folder with `SNResNetProjectionDiscriminator_*.npz`, or the file itself.
        size: As of `sngan`.
        pretrained: As of `sngan`.

    Raises:
        WeightsError: No file, or not one of these.
    """
    if weights is None and not pretrained:
        with quiet_random():
            net, origin = SNGANDiscriminator(size), "random weights"
    else:
        path = published_file(weights, ("SNResNetProjectionDiscriminator",), option="discriminator")
        net, origin = load_discriminator(path), cited(path)
    return Classifier(
        net,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        classes=class_names(net.classes),
        description=f"SNGAN's discriminator {net.size} ({net.classes} classes, {origin})",
        default_layers=("features",),
        size=net.size,
    )


def sngan_encoder(
    *, weights: Path | None = None, size: Size = 128, pretrained: bool = True
) -> Encoder:
    """From a picture and its class to SNGAN's latent.

    Args:
        weights: The folder with `ResNetEncoder_*.npz`, or the file itself.
        size: As of `sngan`. The published encoder looks at 128 pixels, also for the generator of
            256.
        pretrained: As of `sngan`.

    Raises:
        WeightsError: No file, or not one of these.
    """
    if weights is None and not pretrained:
        with quiet_random():
            net, origin = SNGANEncoder(size), "random weights"
    else:
        path = published_file(weights, ("ResNetEncoder",), option="encoder")
        net, origin = load_encoder(path), cited(path)
    return Encoder(
        net,
        gives="latent",
        takes="embedding",
        size=net.size,
        input_range=PHOTOGRAPHS,
        description=f"SNGAN's encoder {net.size} ({net.classes} classes, {origin})",
    )


def class_names(count: int) -> tuple[str, ...]:
    """Names of a published network's classes, or numbers where its count tells nothing.

    Example:
        >>> class_names(143)[0], class_names(143)[-1], class_names(3)
        ('Chihuahua', 'cheetah', ('0', '1', '2'))
    """
    if count == CLASSES:
        return imagenet_classes()[151 : 151 + CLASSES]
    return tuple(map(str, range(count)))


def published_file(weights: Path | None, kinds: tuple[str, ...], *, option: str) -> Path:
    """The file of a folder whose name says that it is of one of these kinds, the longest trained.

    Args:
        weights: The folder, or the file, which may be called anything.
        kinds: What such files are called before `_450000.npz`, the best first.
        option: What the model is called in recipes, for messages.

    Raises:
        WeightsError: None was given, or there is none.
    """
    called = " or ".join(f"{kind}_*.npz" for kind in kinds)
    if weights is None:
        raise WeightsError(
            f"SNGAN needs its published files: get {called} as the page of Neural Collage's "
            "code (pfnet-research/neural-collage, Pre-trained models) says, and name the folder "
            f"with `weights:` (`--set models.{option}.weights=FOLDER`); or use the networks that "
            "the package carries."
        )
    path = Path(weights)
    if not path.is_dir():
        return path
    for kind in kinds:
        found = {
            int(number[1]): each
            for each in path.iterdir()
            if (number := re.fullmatch(rf"{kind}_(\d+)\.npz", each.name))
        }
        if found:
            return found[max(found)]
    raise WeightsError(f"{path}: holds no {called}.")
