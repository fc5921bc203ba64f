"""`invertkit train generator`: train, measure, and write the three networks with their card."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.images import save_png
from invertkit.models.catalogue import embedded
from invertkit.models.classifier import Classifier
from invertkit.models.kitgan import KitDiscriminator, KitEncoder, KitGenerator, baked
from invertkit.training.classifier import Report
from invertkit.training.generator import GeneratorPlan, train_encoder, train_generator
from invertkit.training.photographs import Photographs, load_photographs, plain_batches
from invertkit.view import resize_image


def train_and_measure_generator(
    *,
    data: Path,
    test: Path | None,
    out: Path,
    plan: GeneratorPlan,
    resume: Path | None,
    device: str,
    report: Report,
) -> Path:
    """Train as asked and leave `generator.safetensors` and `samples.png` in `out`.

    Raises:
        InputError: The data cannot be used, or an argument is out of range.
    """
    if plan.steps < 1 or plan.batch < 4 or plan.batch % plan.group:
        raise InputError(
            f"expected --steps at least 1 and --batch a multiple of {plan.group}, got "
            f"{plan.steps} and {plan.batch}."
        )
    photographs = load_photographs(data, resolution=32)
    guide = embedded() if plan.guide_layers else None
    generator, discriminator = train_generator(
        plan, photographs, out=out, guide=guide, resume=resume, device=device, report=report
    )
    encoder = train_encoder(
        plan, generator, classes=len(photographs.classes), device=device, report=report
    )
    path = out / "generator.safetensors"
    save_generator(generator, discriminator, encoder, path, plan=plan, classes=photographs.classes)
    report(f"{path}: {path.stat().st_size / 1e6:.1f} MB.")
    save_png(samples(generator.cpu(), plan, classes=len(photographs.classes)), out / "samples.png")
    if test is not None:
        held_out = load_photographs(test, resolution=32)
        distance = frechet_distance(generator, plan, held_out)
        report(f"Fréchet distance to the test photographs, embedded classifier: {distance:.2f}")
    return path


def save_generator(
    generator: KitGenerator,
    discriminator: KitDiscriminator,
    encoder: KitEncoder,
    path: Path,
    *,
    plan: GeneratorPlan,
    classes: tuple[str, ...],
) -> None:
    """All three as float16 safetensors, spectral norms divided out, facts in the metadata."""
    parts: dict[str, nn.Module] = {
        "generator": generator,
        "discriminator": baked(discriminator),
        "encoder": encoder,
    }
    state = {
        f"{part}.{name}": value.detach().cpu().half().contiguous().clone()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
        if "num_batches_tracked" not in name
    }
    where = object_statistics(generator.cpu(), plan, classes=len(classes))
    facts: dict[str, Any] = {
        "architecture": "kitgan",
        "size": 32,
        "latent": plan.latent,
        "embedding": plan.embedding,
        "widths": plan.widths,
        "classes": classes,
        "statistics": where,
        "plan": asdict(plan),
    }
    save_file(state, path, metadata={key: json.dumps(value) for key, value in facts.items()})


def pictures(
    generator: KitGenerator, plan: GeneratorPlan, *, count: int, classes: int, seed: int = 0
) -> tuple[Float[Tensor, "n 3 32 32"], Tensor]:
    """Pictures in [0, 1] of latents clamped to ±2, classes in turn, with their labels."""
    draw = torch.Generator().manual_seed(seed)
    latent = torch.randn(count, plan.latent, generator=draw).clamp(-2, 2)
    labels = torch.arange(count) * classes // count
    table = generator.embeddings.weight.T
    with torch.no_grad():
        made = [
            generator(z, table[y])
            for z, y in zip(latent.split(256), labels.split(256), strict=True)
        ]
    return torch.cat(made) / 2 + 0.5, labels


def samples(
    generator: KitGenerator, plan: GeneratorPlan, *, classes: int, columns: int = 12
) -> Float[Tensor, "3 h w"]:
    """A sheet of unselected pictures, a row for each class."""
    made, _ = pictures(generator, plan, count=columns * classes, classes=classes)
    framed = F.pad(made, (1, 1, 1, 1), value=1.0)
    rows: Tensor = framed.unflatten(0, (classes, columns)).permute(2, 0, 3, 1, 4)
    sheet: Tensor = rows.reshape(3, classes * 34, columns * 34)
    return sheet


def object_statistics(
    generator: KitGenerator, plan: GeneratorPlan, *, classes: int, count: int = 1000
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the generator puts its objects: mean centre and size, as shares of the picture.

    A stand-in for the detector of Huh et al. 2020, §3.3: the place where the embedded classifier's
    logit of the class is most sensitive; the size is that of a uniform box with the same variance.
    """
    classifier = embedded()
    made, labels = pictures(generator, plan, count=count, classes=classes, seed=1)
    axis = (torch.arange(32) + 0.5) / 32
    sums = torch.zeros(4)
    for images, wanted in zip(made.split(100), labels.split(100), strict=True):
        seen = resize_image(images, (64, 64)).requires_grad_()
        logits = classifier(seen)
        score = logits.gather(1, wanted[:, None] % logits.shape[1]).sum()
        (slope,) = torch.autograd.grad(score, seen)
        energy = resize_image(slope.square().sum(1, keepdim=True), (32, 32))[:, 0]
        energy = energy / energy.sum((1, 2), keepdim=True)
        for place, weights in enumerate((energy.sum(2), energy.sum(1))):
            mean = (weights * axis).sum(1)
            variance = (weights * (axis - mean[:, None]).square()).sum(1)
            sums[place] += mean.sum()
            sums[2 + place] += (12 * variance).sqrt().clamp(max=1).sum()
    row, column, height, width = (round(float(value) / count, 4) for value in sums)
    return (row, column), (height, width)


def frechet_distance(
    generator: KitGenerator, plan: GeneratorPlan, photographs: Photographs, *, count: int = 10_000
) -> float:
    """Fréchet distance in the last features of the embedded classifier.

    Not FID: Inception's weights do not come with the package. Where the embedded classifier also
    guided the training, the number flatters it.
    """
    classifier = embedded()
    made, _ = pictures(
        generator, plan, count=min(count, len(photographs)), classes=len(photographs.classes)
    )
    real = (images for images, _ in plain_batches(photographs, batch=250, size=32))
    return _frechet(
        torch.cat([_features(classifier, images) for images in real]),
        torch.cat([_features(classifier, images) for images in made.split(250)]),
    )


@torch.no_grad()
def _features(classifier: Classifier, images: Tensor) -> Float[Tensor, "b c"]:
    seen = classifier.observe(resize_image(images, (64, 64)), ("layer3",))
    return seen["layer3"].mean((2, 3)).double()


def _frechet(real: Float[Tensor, "n c"], made: Float[Tensor, "m c"]) -> float:
    """`‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)`, of two clouds of points."""
    first, second = torch.cov(real.T), torch.cov(made.T)
    values = torch.linalg.eigvals(first @ second).real.clamp(min=0)
    means = (real.mean(0) - made.mean(0)).square().sum()
    return float(means + first.trace() + second.trace() - 2 * values.sqrt().sum())
