"""Adversarial training of a quasi-robust classifier (MAGIC Eq. 3): PGD inside, SGD outside."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.models.kitnet import KitNet
from invertkit.training.attack import Attack
from invertkit.training.photographs import Photographs, augmented_batches, plain_batches

Report = Callable[[str], None]


@final
@dataclass(frozen=True)
class TrainingPlan:
    """Everything that decides the weights, so that it can stand in the model card.

    Args:
        attack: The inner maximisation; `eps=0` trains the non-robust twin.
        epochs: Passes over the training photographs.
        clean_epochs: Passes before the attack begins. A clean start saves a forward and a
            backward per image.
        size: Side of the network's input; photographs are resized to it. ε is measured there.
        batch: Images per step.
        lr: Peak learning rate: linear rise over the first fifth of the steps, then linear to 0.
        momentum: Nesterov momentum.
        weight_decay: On convolution and linear weights only.
        smoothing: Label smoothing.
        widths: Channels of the four parts of `KitNet`.
        seed: Of weights, order and augmentation.
        bf16: Run convolutions in bfloat16 (attack and update; never the evaluation).
    """

    attack: Attack = Attack()
    epochs: int = 16
    clean_epochs: int = 0
    size: int = 64
    batch: int = 256
    lr: float = 0.4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    smoothing: float = 0.1
    widths: tuple[int, int, int, int] = (24, 48, 96, 192)
    seed: int = 0
    bf16: bool = False


@final
class Normalized(nn.Module):
    """A network behind its own normalisation: images in [0, 1] go in."""

    def __init__(self, net: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.net = net
        self.register_buffer("mean", mean.reshape(1, 3, 1, 1))
        self.register_buffer("std", std.reshape(1, 3, 1, 1))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Logits of images in [0, 1]."""
        logits: Tensor = self.net((image - self.mean) / self.std)
        return logits


def train_classifier(
    plan: TrainingPlan,
    data: Photographs,
    *,
    out: Path,
    resume: Path | None = None,
    device: str = "cpu",
    report: Report = print,
) -> Normalized:
    """Train `KitNet` on `data` and leave a checkpoint after every epoch in `out`.

    Args:
        plan: What to do.
        data: Training photographs.
        out: Folder of `epoch-NN.pt` files.
        resume: A checkpoint of an earlier run of the same plan, or of its clean epochs.
        device: Where to train.
        report: Receives one line per 50 steps and per epoch.

    Raises:
        InputError: `resume` is no checkpoint of this training, or `out` cannot be written.
    """
    torch.manual_seed(plan.seed)  # the only place: PyTorch's initialisers read the global generator
    net = KitNet(len(data.classes), widths=plan.widths)
    pixels = data.images.float() / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    model = Normalized(net, mean, std).to(device)
    model.to(memory_format=torch.channels_last)
    optimizer = _sgd(model, plan)
    first = 0
    if resume is not None:
        try:
            state = torch.load(resume, map_location=device, weights_only=True)
            model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            first = state["epoch"]
        except Exception as error:  # a damaged pickle may raise anything
            what = str(error).strip().split("\n")[0]
            raise InputError(
                f"{resume}: is not a checkpoint of this training ({what:.120}). Give an "
                "epoch-NN.pt of the same classes and widths."
            ) from None
    per_epoch = len(data) // plan.batch
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}).") from None
    for epoch in range(first, plan.epochs):
        now = plan if epoch >= plan.clean_epochs else replace(plan, attack=Attack(eps=0))
        _epoch(model, optimizer, now, data, epoch=epoch, per_epoch=per_epoch, report=report)
        torch.save(
            {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1},
            out / f"epoch-{epoch + 1:02d}.pt",
        )
    return model.eval()


def _sgd(model: nn.Module, plan: TrainingPlan) -> torch.optim.SGD:
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.SGD(
        [
            {"params": weights, "weight_decay": plan.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=plan.lr,
        momentum=plan.momentum,
        nesterov=True,
    )


def _epoch(
    model: Normalized,
    optimizer: torch.optim.SGD,
    plan: TrainingPlan,
    data: Photographs,
    *,
    epoch: int,
    per_epoch: int,
    report: Report,
) -> None:
    device = model.mean.device
    generator = torch.Generator().manual_seed(plan.seed * 1000 + epoch)
    started, seen, right, lost = time.monotonic(), 0, 0, 0.0
    batches = augmented_batches(data, batch=plan.batch, size=plan.size, generator=generator)
    for i, (images, labels) in enumerate(batches):
        images = images.to(device, memory_format=torch.channels_last)
        labels = labels.to(device)
        step = epoch * per_epoch + i
        for group in optimizer.param_groups:
            group["lr"] = plan.lr * _triangle(step / (plan.epochs * per_epoch))
        with torch.autocast(str(device.type), torch.bfloat16, enabled=plan.bf16):
            if plan.attack.eps > 0:
                with _frozen(model):
                    images = plan.attack(model, images, labels)
            logits = model(images)
            loss = F.cross_entropy(logits.float(), labels, label_smoothing=plan.smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += len(labels)
        right += int((logits.argmax(1) == labels).sum())
        lost += loss.item() * len(labels)
        if i % 50 == 49 or i == per_epoch - 1:
            seconds = time.monotonic() - started
            report(
                f"epoch {epoch + 1}/{plan.epochs} step {i + 1}/{per_epoch} "
                f"loss {lost / seen:.3f} train accuracy {right / seen:.3f} "
                f"{seen / seconds:.0f} images/s"
            )


def _triangle(progress: float) -> float:
    return progress / 0.2 if progress < 0.2 else (1 - progress) / 0.8


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no weight gradients while the block runs."""
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        model.train().requires_grad_(True)


def accuracy(
    model: nn.Module, data: Photographs, *, size: int, attack: Attack | None = None
) -> float:
    """Share of photographs that `model` (in eval mode) labels rightly, after `attack` if given."""
    device = next(model.parameters()).device
    right = 0
    for images, labels in plain_batches(data, batch=250, size=size):
        images, labels = images.to(device), labels.to(device)
        images = images.to(memory_format=torch.channels_last)
        if attack is not None:
            images = attack(model, images, labels)
        with torch.no_grad():
            right += int((model(images).argmax(1) == labels).sum())
    return right / len(data)


def card(plan: TrainingPlan, model: Normalized, data: Photographs, **more: Any) -> dict[str, str]:
    """What a weights file says of itself: architecture, normalisation, classes, plan."""
    facts = {
        "architecture": "kitnet",
        "widths": plan.widths,
        "classes": data.classes,
        "mean": [round(v, 6) for v in model.mean.flatten().tolist()],
        "std": [round(v, 6) for v in model.std.flatten().tolist()],
        "size": plan.size,
        "plan": asdict(plan),
        **more,
    }
    return {key: json.dumps(value) for key, value in facts.items()}
