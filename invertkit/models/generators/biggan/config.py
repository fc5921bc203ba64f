"""The shapes of the published BigGAN-deep networks, and where they are written down."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Self, final

from invertkit.errors import InputError, WeightsError

WIDTHS: Final = {
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
    512: (16, 16, 8, 8, 4, 2, 1, 1),
}
"""Channels before and after each pair of blocks, in units of `channel_width`, by resolution."""


@final
@dataclass(frozen=True, kw_only=True)
class BigGANConfig:
    """The shape of one BigGAN-deep.

    Args:
        layers: Per residual block: whether it doubles the side, and its input and output channels
            in units of `channel_width`. A block keeps or halves them.
        attention: Index in `layers` of the block that self-attention comes before.
        latent: Length of z.
        embedding: Length of the class embedding.
        channel_width: Unit of channels; 8 or more.
        classes: Number of classes.
        eps: Added to variances.
        n_stats: Rows of batch-norm statistics, for truncations evenly spaced from 0 to 1.

    Raises:
        InputError: The layers do not fit each other, or a size is too small.

    Example:
        >>> config = BigGANConfig.of(256)
        >>> config.resolution, config.classes, len(config.layers)
        (256, 1000, 12)
    """

    layers: tuple[tuple[bool, int, int], ...]
    attention: int = 8
    latent: int = 128
    embedding: int = 128
    channel_width: int = 128
    classes: int = 1000
    eps: float = 1e-4
    n_stats: int = 51

    def __post_init__(self) -> None:
        if not 0 <= self.attention < len(self.layers):
            raise InputError(
                f"attention: expected the index of one of the {len(self.layers)} layers, got "
                f"{self.attention}."
            )
        # The skip of a block drops channels and never makes any, so it cannot widen.
        for index, (_, inputs, outputs) in enumerate(self.layers):
            before = self.layers[index - 1][2] if index else inputs
            if inputs < 1 or inputs != before or outputs not in (inputs, inputs / 2):
                raise InputError(
                    f"layers: block {index} goes from {inputs} to {outputs} channels after "
                    f"{before}; expected it to take what the one before gives, and to keep or "
                    "halve it."
                )
        sizes = (self.latent, self.embedding, self.classes, self.n_stats)
        if self.channel_width < 8 or min(sizes) < 1 or self.eps <= 0:
            raise InputError(
                "A BigGAN needs a channel width of at least 8, at least one of latent, embedding, "
                f"class and row of statistics, and a positive eps; got {self}."
            )

    @property
    def resolution(self) -> int:
        """Side of the pictures, in pixels."""
        return 4 << sum(upsample for upsample, _, _ in self.layers)

    @classmethod
    def of(cls, resolution: int) -> Self:
        """The published network of 128, 256 or 512 pixels.

        Raises:
            InputError: Another resolution.
        """
        if resolution not in WIDTHS:
            raise InputError(
                f"resolution: BigGAN-deep was published for 128, 256 and 512 pixels, not for "
                f"{resolution}."
            )
        steps = pairwise(WIDTHS[resolution])
        return cls(layers=tuple(block for a, b in steps for block in ((False, a, a), (True, a, b))))

    @classmethod
    def from_json(cls, path: Path) -> Self:
        """What the `config.json` of the published files says; entries it adds are passed over.

        Raises:
            WeightsError: Missing, not JSON, lacking an entry, or describing no BigGAN-deep.
        """
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            config = cls(
                layers=tuple((bool(up), int(a), int(b)) for up, a, b in facts["layers"]),
                attention=int(facts["attention_layer_position"]),
                latent=int(facts["z_dim"]),
                embedding=int(facts["class_embed_dim"]),
                channel_width=int(facts["channel_width"]),
                classes=int(facts["num_classes"]),
                eps=float(facts["eps"]),
                n_stats=int(facts["n_stats"]),
            )
            resolution = facts["output_dim"]
        except OSError as error:
            raise WeightsError(f"{path}: cannot be read ({error.strerror}).") from None
        except KeyError as error:
            raise WeightsError(
                f"{path}: is not the configuration of a BigGAN-deep: it has no {error}."
            ) from None
        except (TypeError, ValueError) as error:
            raise WeightsError(
                f"{path}: is not the configuration of a BigGAN-deep ({str(error).rstrip('.')})."
            ) from None
        if resolution != config.resolution:
            raise WeightsError(
                f"{path}: says output_dim {resolution}, but its layers make pictures of "
                f"{config.resolution} pixels."
            )
        return config
