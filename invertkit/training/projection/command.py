"""`invertkit train encoder` and `invertkit train zeta`: train, and write the weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

from invertkit.core.devices import pick_device
from invertkit.core.suggestions import listed
from invertkit.errors import InputError
from invertkit.models.classifiers.class_names import class_place
from invertkit.models.generators.encoder_file import save_encoder
from invertkit.models.generators.zeta_file import save_zeta
from invertkit.training.data.files import PictureFiles, without_number
from invertkit.training.data.photographs import PhotographSet, as_labelled, load_photographs
from invertkit.training.loop.checkpoints import CHECKPOINT
from invertkit.training.loop.options import Tell
from invertkit.training.projection.descent import Descent, Lesson, descend
from invertkit.training.projection.encoder import EncoderLesson
from invertkit.training.projection.plan import (
    DescentOrders,
    DescentPlan,
    EncoderPlan,
    ZetaOrders,
    ZetaPlan,
)
from invertkit.training.projection.subject import Subject, open_encoder, open_subject
from invertkit.training.projection.zeta import ZetaLesson

Orders = TypeVar("Orders", bound=DescentOrders)


def train_and_write_encoder(*, orders: DescentOrders, plan: EncoderPlan, report: Tell) -> Path:
    """Train an encoder as asked and leave `encoder.safetensors` in the folder.

    Args:
        orders: Data, folder, device and generator.
        plan: What to do.
        report: Receives what is to be told, a line at a time.

    Raises:
        InputError: The data cannot be used, or an argument is out of range.
        WeightsError: The generator's weights cannot be had.
        KeyboardInterrupt: It was stopped.
    """
    orders = _checked(plan, orders)
    subject = open_subject(orders.generator, orders.discriminator).to(orders.device)
    lesson = EncoderLesson(plan, subject, device=orders.device)
    path = orders.out / "encoder.safetensors"

    def write() -> None:
        facts = {
            "latent": subject.numbers,
            "embedding": subject.table.shape[1],
            "channels": lesson.widths,
            "size": subject.generator.size,
            "gives": subject.latent,
            "takes": subject.embedding,
            "generator": subject.generator.description,
            "plan": asdict(plan),
        }
        save_encoder(lesson.net, path, facts=facts)

    return _trained(plan, lesson, subject, orders=orders, report=report, path=path, write=write)


def train_and_write_zeta(*, orders: ZetaOrders, plan: ZetaPlan, report: Tell) -> Path:
    """Train an auxiliary space as asked and leave `zeta.safetensors` in the folder.

    Args:
        orders: Data, folder, device, generator and encoder.
        plan: What to do.
        report: Receives what is to be told, a line at a time.

    Raises:
        InputError: The data cannot be used, or an argument is out of range.
        WeightsError: The generator's or the encoder's weights cannot be had.
        KeyboardInterrupt: It was stopped.
    """
    orders = _checked(plan, orders)
    if min(plan.zeta, plan.hidden) < 1:
        raise InputError("expected --zeta and --hidden at least 1.")
    if plan.rate not in ("frozen", "learned"):  # a word typed is any word
        raise InputError(f"expected --rate frozen or learned, got {plan.rate!r}.")
    subject = open_subject(orders.generator, orders.discriminator).to(orders.device)
    encoder = open_encoder(orders.encoder, generator=orders.generator)
    lesson = ZetaLesson(plan, subject, encoder, device=orders.device)
    if plan.warm_steps and orders.resume is None:
        report(f"z there and back, after {plan.warm_steps} steps alone: {lesson.warm():.4f}")
    path = orders.out / "zeta.safetensors"

    def write() -> None:
        facts = {"generator": subject.generator.description, "plan": asdict(plan)}
        save_zeta(lesson.net, path, latent=subject.latent, facts=facts)

    return _trained(plan, lesson, subject, orders=orders, report=report, path=path, write=write)


def _checked(plan: DescentPlan, orders: Orders) -> Orders:
    """The orders with a device that is there.

    Raises:
        InputError: A number is out of range, or the folder holds another training.
    """
    rules = {
        "--steps at least 1": plan.steps >= 1,
        "--batch at least 1": plan.batch >= 1,
        "--lr above 0 and at most 1": 0 < plan.lr <= 1,
        "--seed from 0 to 4294967295": 0 <= plan.seed < 2**32,
        "--pixels not below 0": getattr(plan, "pixels", 0) >= 0,
        "--warm-steps not below 0": getattr(plan, "warm_steps", 0) >= 0,
        "--save-every at least 1": orders.save_every >= 1,
    }
    broken = [rule for rule, holds in rules.items() if not holds]
    if broken:
        raise InputError(f"expected {broken[0]}.")
    checkpoint = orders.out / CHECKPOINT
    if orders.resume is None and checkpoint.exists():
        raise InputError(
            f"{checkpoint}: is of an earlier training. Go on with it by --resume {checkpoint}, or "
            "choose another --out."
        )
    return replace(orders, device=str(pick_device(orders.device)))


def _trained(
    plan: DescentPlan,
    lesson: Lesson,
    subject: Subject,
    *,
    orders: DescentOrders,
    report: Tell,
    path: Path,
    write: Callable[[], None],
) -> Path:
    """Descend from the beginning or a checkpoint, and write what was learnt."""
    report(f"generator: {subject.generator.description}")
    report(f"discriminator: {subject.discriminator.description}")
    data = photographs_for(orders.data, subject)
    descent = Descent(plan, lesson, device=orders.device)
    if orders.resume is not None:
        descent.restore(orders.resume)
    checkpoint = orders.out / CHECKPOINT
    try:
        descend(descent, data, orders=orders, report=report)
    except KeyboardInterrupt:
        report(f"Interrupted. Go on with the same options and --resume {checkpoint}.")
        raise
    write()
    report(f"{path}: {path.stat().st_size / 1e6:.1f} MB.")
    return path


def photographs_for(source: Path, subject: Subject) -> PhotographSet:
    """Those of the generator's classes, labelled as the generator numbers them.

    Args:
        source: Folder or zip of CLASS/NAME.png.
        subject: With the generator.

    Raises:
        InputError: There are none, or none of its classes.
    """
    classes = subject.generator.classes
    folders = [
        folder
        for folder in PictureFiles(source).classes
        if class_place(without_number(folder), classes) is not None
    ]
    if not folders:
        raise InputError(
            f"{source}: holds no class of {subject.generator.description}: {listed(classes)}."
        )
    data = load_photographs(source, resolution=subject.generator.size, only=folders)
    names = tuple(map(without_number, data.classes))
    return as_labelled(replace(data, classes=names), classes)
