"""The plan of a generator's training: everything that decides the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, final

from invertkit.core.flags import NO_FLAG, Flag


def words(typed: str) -> tuple[str, ...]:
    """What was typed with commas between.

    Example:
        >>> words("tabby, lion")
        ('tabby', 'lion')
    """
    return tuple(word.strip() for word in typed.split(",") if word.strip())


def _widths(typed: str) -> dict[str, object]:
    # What is no number becomes 0, which the command refuses with a sentence.
    return {"widths": tuple(int(word) if word.isdecimal() else 0 for word in words(typed))}


def _layers(typed: str) -> dict[str, object]:
    return {"eyes_layers": words(typed)}


@final
@dataclass(frozen=True)
class GeneratorPlan:
    """Everything that decides the weights, so that it can stand in the model card.

    Args:
        steps: Updates of the generator, at least 1. The discriminators take as many.
        batch: Photographs, and made pictures, a step; at least 2.
        size: Side of the pictures: 4 doubled once for each width but the first.
        lr: Adam's rate of the generator, 0 to 1; constant, since the average is what is kept.
        critic_lr: Of the discriminators, 0 to 1.
        betas: Adam's moments.
        decay: Of the exponential moving average of the generator's weights.
        latent: Length of z.
        embedding: Length of the class embedding.
        widths: Channels of the generator at 4, 8, 16, … pixels.
        eyes_layers: Layers of the eyes that get a discriminator each, shallow to deep.
        eyes_size: Side in pixels at which the eyes look, at least 32.
        reconstructed: Share of the made pictures that start from a photograph's latent instead of a
            drawn one and must be like it, 0 to 1; from 0 on no encoder learns beside the generator.
        warm_steps: Steps at first in which all pictures are such, and nobody judges.
        warm_lr: Adam's rate of the generator in these, and of the encoder, 0 to 1.
        likeness: Weight of being like the photograph, beside the discriminators' scores.
        kl: Weight of the encoder's distance from the prior, for each nat.
        encoder_steps: Updates of the encoder afterwards, at least 1, where none learnt on the way.
        seed: Of weights, order and latents, from 0.
        bf16: Train in bfloat16 all that is not the eyes.
    """

    steps: int = 10_000
    batch: int = 32
    size: int = 64
    lr: float = 4e-4
    critic_lr: float = 4e-4
    betas: Annotated[tuple[float, float], NO_FLAG] = (0.0, 0.99)
    decay: Annotated[float, NO_FLAG] = 0.996
    latent: int = 128
    embedding: int = 64
    widths: Annotated[
        tuple[int, ...],
        Flag(
            "--widths",
            help="Channels of the generator at 4, 8, 16, … pixels, joined by commas.",
            typed=str,
            default="512,256,128,64,32",
            reads=_widths,
        ),
    ] = (512, 256, 128, 64, 32)
    eyes_layers: Annotated[
        tuple[str, ...],
        Flag(
            "--eyes-layers",
            help="Layers of the eyes that get a discriminator each, joined by commas.",
            typed=str,
            default="blocks.0,blocks.1,blocks.2,blocks.4,blocks.6",
            reads=_layers,
        ),
    ] = ("blocks.0", "blocks.1", "blocks.2", "blocks.4", "blocks.6")
    eyes_size: int = 96
    reconstructed: float = 0.5
    warm_steps: int = 1_000
    warm_lr: float = 1e-3
    likeness: float = 3.0
    kl: float = 1e-3
    encoder_steps: int = 4_000
    seed: int = 0
    bf16: bool = False

    @property
    def encodes(self) -> bool:
        """Whether an encoder learns beside the generator to the end, and so knows it as it is."""
        return self.reconstructed > 0 or self.steps <= self.warm_steps


@final
@dataclass(frozen=True)
class GeneratorOrders:
    """What a generator's training is told beside its plan.

    Args:
        data: Folder or zip of CLASS/NAME.png to train on.
        out: Folder for checkpoint, weights and pictures.
        classes: Of the data to train on, joined by commas, or a file with one a line; all if empty.
        eyes: Classifier on whose features the discriminators look, as recipes name it.
        eyes_weights: A file in place of the weights that its name stands for.
        test: The same classes, unseen, to measure on.
        judge: Classifier to measure with beside the eyes, as recipes name it.
        judge_weights: A file in place of the weights that its name stands for.
        samples: Pictures to write singly to OUT/samples.
        resume: A checkpoint.pt to go on from.
        device: auto, cpu, cuda or cuda:N.
        save_every: Steps between checkpoints.
        sheet_every: Steps between sheets of samples in OUT/sheets; 0 for none.
    """

    data: Path
    out: Path
    classes: str = ""
    eyes: str = "embedded"
    eyes_weights: Path | None = None
    test: Path | None = None
    judge: str = ""
    judge_weights: Path | None = None
    samples: int = 0
    resume: Path | None = None
    device: str = "auto"
    save_every: int = 500
    sheet_every: int = 500
