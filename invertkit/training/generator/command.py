"""`invertkit train generator`: train, measure, and write the three networks with their card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.core.devices import pick_device
from invertkit.core.images.resize import resize_image
from invertkit.core.images.save import save_png
from invertkit.errors import InputError
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.generators.kitgan import KitDiscriminator, KitEncoder, KitGenerator, baked
from invertkit.models.loading.safetensors_file import save_in_order
from invertkit.training.data.photographs import PhotographSet, load_photographs
from invertkit.training.generator.encoder import train_encoder
from invertkit.training.generator.measures import expect_same_classes, measure_generator, pictures
from invertkit.training.generator.plan import GeneratorOrders, GeneratorPlan
from invertkit.training.generator.train import train_generator
from invertkit.training.loop.checkpoints import CHECKPOINT
from invertkit.training.loop.options import Tell


def train_and_measure_generator(
    *, orders: GeneratorOrders, plan: GeneratorPlan, report: Tell
) -> Path:
    """Train as asked and leave `generator.safetensors` and `samples.png` in the folder.

    Args:
        orders: Data, folder, device, and what to make and to measure.
        plan: What to do.
        report: Receives what is to be told, a line at a time.

    Raises:
        InputError: The data cannot be used, or an argument is out of range.
    """
    device = str(pick_device(orders.device))
    _check(plan)
    if orders.samples < 0:
        raise InputError(f"expected --samples not below 0, got {orders.samples}.")
    checkpoint = orders.out / CHECKPOINT
    if orders.resume is None and checkpoint.exists():
        raise InputError(
            f"{checkpoint}: is of an earlier training. Go on with it by --resume {checkpoint}, or "
            "choose another --out."
        )
    photographs = load_photographs(orders.data, resolution=32)
    held_out = None if orders.test is None else load_photographs(orders.test, resolution=32)
    if held_out is not None:
        expect_same_classes(photographs, held_out)
    try:
        path, generator = _make(plan, photographs, orders=orders, device=device, report=report)
        if orders.samples:
            folder, classes = orders.out / "samples", photographs.classes
            export(generator, plan, folder, classes=classes, count=orders.samples)
            report(f"{folder}: {orders.samples} pictures.")
        if held_out is not None:
            for measured in measure_generator(
                generator, plan, train=photographs, test=held_out, device=device
            ):
                report(str(measured))
    except KeyboardInterrupt:
        if checkpoint.exists():
            report(f"Interrupted. Go on with the same options and --resume {checkpoint}.")
        else:
            report("Interrupted before the first checkpoint.")
        raise
    return path


def _check(plan: GeneratorPlan) -> None:
    if plan.steps < 1 or plan.batch < plan.group or plan.batch % plan.group:
        raise InputError(
            f"expected --steps at least 1 and --batch a multiple of {plan.group}, got "
            f"{plan.steps} and {plan.batch}."
        )
    if not (0 < plan.lr <= 1 and 0 < plan.critic_lr <= 1):
        raise InputError(
            "expected --lr and --critic-lr above 0 and at most 1, got "
            f"{plan.lr:g} and {plan.critic_lr:g}."
        )
    if plan.guide_size < 16 or plan.encoder_steps < 1 or not 0 <= plan.seed < 2**32:
        raise InputError(
            "expected --guide-size at least 16, --encoder-steps at least 1 and --seed from 0 to "
            f"4294967295, got {plan.guide_size}, {plan.encoder_steps} and {plan.seed}."
        )


def _make(
    plan: GeneratorPlan,
    photographs: PhotographSet,
    *,
    orders: GeneratorOrders,
    device: str,
    report: Tell,
) -> tuple[Path, KitGenerator]:
    """Train generator, then encoder; write weights and sheet; the generator is on the CPU."""
    out = orders.out
    generator, discriminator = train_generator(
        plan,
        photographs,
        out=out,
        guide=open_classifier("embedded-cifar10") if plan.guide_layers else None,
        resume=orders.resume,
        device=device,
        report=report,
    )
    classes = photographs.classes
    encoder = train_encoder(plan, generator, classes=len(classes), device=device, report=report)
    generator = generator.cpu()
    path = out / "generator.safetensors"
    save_generator(generator, discriminator, encoder, path, plan=plan, classes=classes)
    report(f"{path}: {path.stat().st_size / 1e6:.1f} MB.")
    save_png(sheet(generator, plan, classes=len(classes)), out / "samples.png")
    return path, generator


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
    facts: dict[str, Any] = {
        "architecture": "kitgan",
        "size": 32,
        "latent": plan.latent,
        "embedding": plan.embedding,
        "widths": plan.widths,
        "classes": classes,
        "statistics": object_statistics(generator.cpu(), plan, classes=classes),
        "plan": asdict(plan),
    }
    save_in_order(state, path, {key: json.dumps(value) for key, value in facts.items()})


def sheet(
    generator: KitGenerator, plan: GeneratorPlan, *, classes: int, columns: int = 12
) -> Float[Tensor, "3 h w"]:
    """Unselected pictures, a row for each class."""
    samples = pictures(generator, plan, torch.arange(classes).repeat_interleave(columns))
    framed = F.pad(samples, (1, 1, 1, 1), value=1.0)
    rows: Tensor = framed.unflatten(0, (classes, columns)).permute(2, 0, 3, 1, 4)
    joined: Tensor = rows.reshape(3, classes * 34, columns * 34)
    return joined


def export(
    generator: KitGenerator,
    plan: GeneratorPlan,
    folder: Path,
    *,
    classes: Sequence[str],
    count: int,
) -> None:
    """Write `count` unselected pictures as `CLASS/NUMBER.png`, as evenly over classes as can be."""
    labels = torch.arange(count) % len(classes)
    for index, image in enumerate(pictures(generator, plan, labels, seed=2)):
        place = folder / classes[int(labels[index])]
        place.mkdir(parents=True, exist_ok=True)
        save_png(image, place / f"{index:06d}.png")


def object_statistics(
    generator: KitGenerator, plan: GeneratorPlan, *, classes: Sequence[str], count: int = 1000
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the generator puts its objects: mean centre and size, as shares of the picture.

    A stand-in for the detector of Huh et al. 2020, §3.3: the place where the embedded classifier's
    logit of the class is most sensitive; the size is that of a uniform box with the same variance.
    For a class that the embedded classifier does not know it is the logit of its own guess.
    """
    classifier = open_classifier("embedded-cifar10")
    known = list(classifier.classes)
    logit = torch.tensor([known.index(name) if name in known else -1 for name in classes])
    labels = torch.arange(count) * len(classes) // count
    samples = pictures(generator, plan, labels, seed=1)
    axis = (torch.arange(32) + 0.5) / 32
    sums = torch.zeros(4)
    for images, wanted in zip(samples.split(100), logit[labels].split(100), strict=True):
        seen = resize_image(images, (64, 64)).requires_grad_()
        logits = classifier(seen)
        wanted = torch.where(wanted < 0, logits.argmax(1), wanted)
        (slope,) = torch.autograd.grad(logits.gather(1, wanted[:, None]).sum(), seen)
        energy = resize_image(slope.square().sum(1, keepdim=True), (32, 32))[:, 0]
        energy = energy / energy.sum((1, 2), keepdim=True)
        for place, weights in enumerate((energy.sum(2), energy.sum(1))):
            mean = (weights * axis).sum(1)
            variance = (weights * (axis - mean[:, None]).square()).sum(1)
            sums[place] += mean.sum()
            sums[2 + place] += (12 * variance).sqrt().clamp(max=1).sum()
    row, column, height, width = (round(float(value) / count, 4) for value in sums)
    return (row, column), (height, width)
