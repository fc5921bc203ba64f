"""The generators a recipe can name: the embedded one with its companions, and BigGAN-deep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from torch import Tensor

from invertkit.errors import WeightsError
from invertkit.models.classifiers.architectures import build, quiet_random
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.generators.biggan.config import BigGANConfig
from invertkit.models.generators.biggan.files import load_biggan
from invertkit.models.generators.biggan.network import BigGANDeep
from invertkit.models.generators.conditional import (
    ConditionalEncoder,
    ConditionalGenerator,
    encoder_widths,
)
from invertkit.models.generators.encoder import Encoder
from invertkit.models.generators.generator import BIGGAN_STATISTICS, Generator, ObjectStatistics
from invertkit.models.generators.latents import latent_and_class
from invertkit.models.generators.projected import (
    FeatureMixer,
    ProjectedDiscriminator,
    ScaleHead,
    keep_leaves,
    run_leaves,
)
from invertkit.models.loading.safetensors_file import metadata
from invertkit.models.loading.weights_file import load_into, read_weights, sha256

_FACTS: Final = ("classes", "embedding", "eyes", "latent", "size", "statistics", "widths")
ARCHITECTURE: Final = "conditional-gan"
"""What the metadata call the networks that `invertkit train generator` makes."""
EMBEDDED: Final = Path(__file__).parents[1] / "weights" / "generator64.safetensors"
"""The file with the embedded generator, its discriminator and its encoder."""


def embedded_generator(*, weights: Path | None = None) -> Generator:
    """The class-conditional generator that the package carries, or one of your own training.

    Args:
        weights: A file made by `invertkit train generator`.

    Raises:
        WeightsError: The file is damaged or not one of these.

    Example:
        >>> generator = embedded_generator()
        >>> {name: spec.shape for name, spec in generator.latents.items()}
        {'latent': (128,), 'embedding': (64,)}
    """
    path, facts = _facts(weights)
    with quiet_random():
        net = ConditionalGenerator(
            len(facts["classes"]),
            latent=facts["latent"],
            embedding=facts["embedding"],
            widths=facts["widths"],
        )
    load_into(net, _part(path, "generator"), name=str(path))
    return Generator(
        net,
        latents=latent_and_class(facts["latent"], names=facts["classes"]),
        size=facts["size"],
        statistics=ObjectStatistics(*(tuple(pair) for pair in facts["statistics"])),
        description=_described("generator", path, weights, facts),
        feature_layer="gen_z",
    )


def embedded_discriminator(*, weights: Path | None = None) -> Classifier:
    """What the embedded generator was trained against, for its features.

    Args:
        weights: A file made by `invertkit train generator`.

    Raises:
        WeightsError: The file is damaged or not one of these.
        RecipeError: Its eyes are of an architecture that is not known here.
    """
    path, facts = _facts(weights)
    state = _part(path, "discriminator")
    with quiet_random():
        net = _blank_discriminator(facts["eyes"], state, classes=len(facts["classes"]))
    if facts["eyes"].get("carried"):
        state |= {f"eyes.{name}": value for name, value in net.eyes.state_dict().items()}
    load_into(net, state, name=str(path))
    return Classifier(
        net,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        classes=facts["classes"],
        description=_described("discriminator", path, weights, facts),
        default_layers=net.layers,
        size=facts["size"],
    )


def _blank_discriminator(
    eyes: Mapping[str, Any], state: Mapping[str, Tensor], *, classes: int
) -> ProjectedDiscriminator:
    """A discriminator whose weights are still to come, but for eyes that the package carries."""
    inside, carried = "eyes.net.", eyes.get("carried")
    if carried:
        whole = open_classifier(carried)
        seeing, kept = whole.net, run_leaves(whole, eyes["layers"], eyes["size"])
    else:
        seeing = build(eyes["architecture"], 1)
        names = (name.removeprefix(inside) for name in state if name.startswith(inside))
        kept = {name.rpartition(".")[0] for name in names}
    keep_leaves(seeing, kept)
    mixer = FeatureMixer(eyes["channels"])
    return ProjectedDiscriminator(
        Classifier(seeing, mean=eyes["mean"], std=eyes["std"]),
        eyes_layers=eyes["layers"],
        eyes_size=eyes["size"],
        mixer=mixer,
        # Its weights are plain: spectral norms were divided out when the file was made.
        heads=[
            ScaleHead(width, side, classes, spectral=False)
            for width, side in zip(mixer.widths, eyes["sides"], strict=True)
        ],
    )


def embedded_encoder(*, weights: Path | None = None) -> Encoder:
    """The embedded generator's encoder: from a picture and its class to a latent.

    Args:
        weights: A file made by `invertkit train generator`.

    Raises:
        WeightsError: The file is damaged or not one of these.
    """
    path, facts = _facts(weights)
    with quiet_random():
        net = ConditionalEncoder(
            latent=facts["latent"],
            embedding=facts["embedding"],
            widths=encoder_widths(facts["size"]),
        )
    load_into(net, _part(path, "encoder"), name=str(path))
    return Encoder(
        net,
        gives="latent",
        takes="embedding",
        size=facts["size"],
        description=_described("encoder", path, weights, facts),
    )


def biggan(
    *,
    weights: Path | None = None,
    name: Literal["biggan-deep-128", "biggan-deep-256", "biggan-deep-512"] = "biggan-deep-256",
    truncation: float = 1.0,
    pretrained: bool = True,
) -> Generator:
    """BigGAN-deep of ImageNet's 1,000 classes, from the published PyTorch port's files.

    Args:
        weights: The folder with `pytorch_model.bin` and `config.json`, or the file itself.
        name: Which one it is; said where the file is missing.
        truncation: Which stored batch-norm statistics are used, 0 to 1.
        pretrained: Without `weights`: false for random weights, which is only good for timing.

    Raises:
        WeightsError: No file, or not one of these.

    Source: Brock et al. 2019; files of `pytorch-pretrained-biggan`, which lie on no hub that could
    be fetched from safely, so they are given by hand.
    """
    if weights is None and pretrained:
        raise WeightsError(
            f"{name} needs its published files: get pytorch_model.bin and config.json of {name} "
            "from the pytorch-pretrained-biggan project and name their folder with `weights:` "
            "(`--set models.generator.weights=FOLDER`), or use `type: embedded_generator`."
        )
    if weights is None:
        with quiet_random():
            net = BigGANDeep(BigGANConfig.of(int(name[-3:])), truncation=truncation)
        net.eval().requires_grad_(False)
        origin = "random weights"
    else:
        net = load_biggan(Path(weights), truncation=truncation)
        origin = Path(weights).name
    return Generator(
        net,
        latents=latent_and_class(net.config.latent, names=_imagenet_classes(net.config.classes)),
        size=net.config.resolution,
        statistics=BIGGAN_STATISTICS,
        description=f"BigGAN-deep {net.config.resolution} ({origin})",
        feature_layer="generator.gen_z",
    )


def _imagenet_classes(count: int) -> tuple[str, ...]:
    from torchvision.models import ResNet18_Weights

    names: tuple[str, ...] = tuple(ResNet18_Weights.DEFAULT.meta["categories"])
    return names if count == len(names) else ()


def _facts(weights: Path | None) -> tuple[Path, Mapping[str, Any]]:
    path = Path(weights) if weights is not None else EMBEDDED
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file.")
    header = metadata(path)
    architecture = header.get("architecture")
    if architecture != json.dumps(ARCHITECTURE):
        raise WeightsError(
            f"{path}: was not made by `invertkit train generator` (its metadata do not "
            f"name {ARCHITECTURE})."
        )
    lacking = [key for key in _FACTS if key not in header]
    if lacking:
        raise WeightsError(f"{path}: its metadata lacks {', '.join(lacking)}; train it again.")
    # Metadata of a safetensors file are texts, so each fact was written as JSON.
    return path, {key: json.loads(header[key]) for key in _FACTS}


def _part(path: Path, part: str) -> dict[str, Tensor]:
    """The tensors of one of the three networks in the file."""
    start = f"{part}."
    return {
        name.removeprefix(start): value
        for name, value in read_weights(path).items()
        if name.startswith(start)
    }


def _described(what: str, path: Path, weights: Path | None, facts: Mapping[str, Any]) -> str:
    whose = "the embedded" if weights is None else f"{path.name}'s"
    count, side = len(facts["classes"]), facts["size"]
    told = f"{count} classes, {side}×{side}, sha256 {sha256(path)[:12]}"
    return f"{whose} class-conditional {what} ({told})"
