"""Pictures of a generator, not picked: singly, and on a sheet with a row for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from invertkit.core.images.save import save_png
from invertkit.models.generators.conditional import ConditionalGenerator


@torch.no_grad()
def pictures(
    generator: ConditionalGenerator, labels: Int[Tensor, " n"], *, seed: int = 0
) -> Float[Tensor, "n 3 s s"]:
    """Unselected pictures in [0, 1] of those classes; latents are clamped to ±2.

    Args:
        generator: In evaluation mode.
        labels: The class of each.
        seed: Of the latents.
    """
    draw = torch.Generator().manual_seed(seed)
    weight = generator.embeddings.weight
    latent = torch.randn(len(labels), generator.latent, generator=draw).clamp(-2, 2).to(weight)
    chunks = [
        generator(z, weight.T[y]).cpu()
        for z, y in zip(latent.split(100), labels.to(weight.device).split(100), strict=True)
    ]
    return (torch.cat(chunks) / 2 + 0.5).clamp(0, 1)


def sheet(
    generator: ConditionalGenerator, *, classes: int, columns: int = 8
) -> Float[Tensor, "3 h w"]:
    """Unselected pictures, a row for each class."""
    samples = pictures(generator, torch.arange(classes).repeat_interleave(columns))
    framed = F.pad(samples, (1, 1, 1, 1), value=1.0)
    rows: Tensor = framed.unflatten(0, (classes, columns)).permute(2, 0, 3, 1, 4)
    return rows.flatten(3, 4).flatten(1, 2)


def export(
    generator: ConditionalGenerator, folder: Path, *, classes: Sequence[str], count: int
) -> None:
    """Write `count` unselected pictures as `CLASS/NUMBER.png`, as evenly over classes as can be."""
    labels = torch.arange(count) % len(classes)
    for index, image in enumerate(pictures(generator, labels, seed=2)):
        place = folder / classes[int(labels[index])]
        place.mkdir(parents=True, exist_ok=True)
        save_png(image, place / f"{index:06d}.png")
