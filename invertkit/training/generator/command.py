"""`invertkit train generator`: train, measure, and write the three networks with their card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from invertkit.core.devices import pick_device
from invertkit.core.images.save import save_png
from invertkit.errors import InputError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.generators.conditional import encoder_widths
from invertkit.training.data.files import without_number
from invertkit.training.data.photographs import PhotographSet, load_photographs
from invertkit.training.generator.encoder import mean_encoder, train_encoder
from invertkit.training.generator.eyes import open_eyes
from invertkit.training.generator.measures import (
    expect_same_classes,
    generated,
    measure_pictures,
    some_of,
)
from invertkit.training.generator.networks import GameNetworks
from invertkit.training.generator.plan import GeneratorOrders, GeneratorPlan
from invertkit.training.generator.release import save_generator
from invertkit.training.generator.settling import settle
from invertkit.training.generator.sheets import export, sheet
from invertkit.training.generator.standardizing import moments, standardize
from invertkit.training.generator.train import train_generator
from invertkit.training.loop.checkpoints import CHECKPOINT, make_folder
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
        RecipeError: There is no such classifier.
        WeightsError: A classifier's weights cannot be had.
        KeyboardInterrupt: It was stopped.
    """
    orders = replace(orders, device=str(pick_device(orders.device)))
    _check(plan, orders)
    checkpoint = orders.out / CHECKPOINT
    if orders.resume is None and checkpoint.exists():
        raise InputError(
            f"{checkpoint}: is of an earlier training. Go on with it by --resume {checkpoint}, or "
            "choose another --out."
        )
    train, test = _photographs(orders.data, orders, plan), None
    if orders.test is not None:
        test = _photographs(orders.test, orders, plan)
        expect_same_classes(train, test)
    eyes, architecture = open_eyes(orders.eyes, orders.eyes_weights)
    judges = {"the eyes": eyes}
    if orders.judge:
        judges["the judge"] = open_classifier(orders.judge, weights=orders.judge_weights)
    try:
        path, networks = _make(plan, train, orders=orders, eyes=(eyes, architecture), report=report)
        if orders.samples:
            folder = orders.out / "samples"
            export(networks.generator, folder, classes=train.classes, count=orders.samples)
            report(f"{folder}: {orders.samples} pictures.")
        if test is not None:
            _measure(networks, train, test, judges=judges, report=report)
    except KeyboardInterrupt:
        if checkpoint.exists():
            report(f"Interrupted. Go on with the same options and --resume {checkpoint}.")
        else:
            report("Interrupted before the first checkpoint.")
        raise
    return path


def _check(plan: GeneratorPlan, orders: GeneratorOrders) -> None:
    """Refuse numbers out of range.

    Raises:
        InputError: One is.
    """
    made = 4 * 2 ** (len(plan.widths) - 1)
    rules = {
        "--steps at least 1": plan.steps >= 1,
        "--batch at least 2": plan.batch >= 2,
        "--lr above 0 and at most 1": 0 < plan.lr <= 1,
        "--critic-lr above 0 and at most 1": 0 < plan.critic_lr <= 1,
        "--size from 16 to 256": 16 <= plan.size <= 256,
        "--widths of at least 1, one for each of 4, 8, … pixels up to --size": (
            plan.size == made and min(plan.widths) >= 1
        ),
        "--latent and --embedding at least 1": min(plan.latent, plan.embedding) >= 1,
        "--eyes-layers to name a layer": bool(plan.eyes_layers),
        "--eyes-size at least 32": plan.eyes_size >= 32,
        "--reconstructed from 0 to 1": 0 <= plan.reconstructed <= 1,
        "--warm-steps not below 0": plan.warm_steps >= 0,
        "--warm-lr above 0 and at most 1": 0 < plan.warm_lr <= 1,
        "--likeness not below 0": 0 <= plan.likeness < float("inf"),
        "--kl not below 0": 0 <= plan.kl < float("inf"),
        "--encoder-steps at least 1": plan.encoder_steps >= 1,
        "--seed from 0 to 4294967295": 0 <= plan.seed < 2**32,
        "--samples not below 0": orders.samples >= 0,
        "--save-every at least 1": orders.save_every >= 1,
        "--sheet-every not below 0": orders.sheet_every >= 0,
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise InputError(f"expected {broken[0]}.")


def _photographs(source: Path, orders: GeneratorOrders, plan: GeneratorPlan) -> PhotographSet:
    """Those of the classes asked for, by their plain names."""
    data = load_photographs(source, resolution=plan.size, only=_named(orders.classes))
    return replace(data, classes=tuple(map(without_number, data.classes)))


def _named(classes: str) -> tuple[str, ...]:
    """The names in `--classes`, or in the file that it names."""
    path = Path(classes)
    text = path.read_text(encoding="utf-8") if classes and path.is_file() else classes
    return tuple(name.strip() for name in re.split(r"[,\n]", text) if name.strip())


def _make(
    plan: GeneratorPlan,
    photographs: PhotographSet,
    *,
    orders: GeneratorOrders,
    eyes: tuple[Classifier, str],
    report: Tell,
) -> tuple[Path, GameNetworks]:
    """Train generator, then encoder; write weights and sheet; the networks are on the CPU."""
    classes, path = photographs.classes, orders.out / "generator.safetensors"
    networks = train_generator(
        plan,
        photographs,
        eyes=eyes[0],
        orders=orders,
        report=report,
        look=partial(_look, orders.out / "sheets"),
    )
    count = len(classes)
    if plan.encodes:
        measured = moments(networks.posterior, networks.generator, photographs)
        standardize(networks.generator, networks.posterior, measured)
    settle(networks.generator, plan, classes=count)
    if plan.encodes:
        encoder = mean_encoder(networks.posterior, widths=encoder_widths(plan.size))
    else:
        encoder = train_encoder(
            plan, networks.generator, classes=count, device=orders.device, report=report
        )
    networks.cpu()
    networks.eyes.cpu()
    save_generator(networks, encoder.cpu(), path, classes=classes, eyes_architecture=eyes[1])
    report(f"{path}: {path.stat().st_size / 1e6:.1f} MB.")
    save_png(sheet(networks.generator, classes=count), orders.out / "samples.png")
    return path, networks


def _look(folder: Path, networks: GameNetworks, step: int) -> None:
    """A sheet of what the averaged generator makes by now."""
    classes = networks.generator.embeddings.in_features
    settle(networks.generator, networks.plan, classes=classes, batches=6)
    make_folder(folder)
    save_png(sheet(networks.generator, classes=classes), folder / f"{step:06d}.png")


def _measure(
    networks: GameNetworks,
    train: PhotographSet,
    test: PhotographSet,
    *,
    judges: Mapping[str, Classifier],
    report: Tell,
) -> None:
    """Tell every measure: as many pictures made as photographs taken of each class."""
    for name, judge in judges.items():
        report(f"{name}: {judge.description}")
    per_class = min(100, int(torch.bincount(train.labels).min()))
    made = generated(networks.generator, per_class=per_class, classes=train.classes)
    real = some_of(train, per_class=per_class)
    for measured in measure_pictures(made, train=real, test=test, judges=dict(judges)):
        report(str(measured))
