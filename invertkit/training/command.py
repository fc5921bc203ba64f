"""`invertkit train classifier`: train, measure, and write weights with their card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import torch
from safetensors.torch import save_file

from invertkit.errors import InputError
from invertkit.training.attack import Attack
from invertkit.training.classifier import (
    Normalized,
    Report,
    TrainingPlan,
    accuracy,
    card,
    train_classifier,
)
from invertkit.training.photographs import Photographs, load_photographs


def train_and_measure(
    *,
    data: Path,
    test: Path | None,
    out: Path,
    norm: str,
    eps: float,
    attack_steps: int,
    step_size: float | None,
    epochs: int,
    clean_epochs: int,
    resolution: int,
    size: int,
    batch: int,
    lr: float,
    seed: int,
    bf16: bool,
    resume: Path | None,
    device: str,
    report: Report,
) -> Path:
    """Train as asked and leave `classifier.safetensors` in `out`; its path.

    Raises:
        InputError: The data cannot be used, or an argument is out of range.
    """
    if norm not in ("l2", "linf"):
        raise InputError(f"--norm: expected l2 or linf, got {norm!r}.")
    if eps < 0 or attack_steps < 0 or epochs < 1 or batch < 1 or size < 16:
        raise InputError(
            "expected --eps and --attack-steps not below 0, --epochs and --batch at least 1, "
            "--size at least 16."
        )
    attack = Attack(cast(Literal["l2", "linf"], norm), eps, attack_steps, step_size)
    plan = TrainingPlan(
        attack=attack,
        epochs=epochs,
        clean_epochs=clean_epochs,
        size=size,
        batch=batch,
        lr=lr,
        seed=seed,
        bf16=bf16,
    )
    photographs = load_photographs(data, resolution=resolution)
    if len(photographs) < batch:
        raise InputError(
            f"{data}: has {len(photographs)} photographs, fewer than a batch of {batch}. "
            "Use a smaller --batch."
        )
    model = train_classifier(
        plan, photographs, out=out, resume=resume, device=device, report=report
    )
    path = out / "classifier.safetensors"
    save_classifier(model, plan, photographs, path)
    report(f"{path}: {path.stat().st_size / 1e6:.1f} MB.")
    if test is not None:
        measured = load_photographs(test, resolution=resolution)
        radii = [0.0, eps] if eps else [0.0, 0.05]
        for radius, share in measure(model, measured, size=size, norm=norm, radii=radii).items():
            report(f"accuracy under PGD-20 at {norm} ε = {radius:g}: {share:.4f}")
    return path


def save_classifier(
    model: Normalized, plan: TrainingPlan, photographs: Photographs, path: Path
) -> None:
    """Weights as float16 safetensors, with their card in the metadata."""
    state = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in model.net.state_dict().items()
        if "num_batches_tracked" not in name
    }
    save_file(state, path, metadata=card(plan, model, photographs))


def measure(
    model: torch.nn.Module,
    photographs: Photographs,
    *,
    size: int,
    norm: str,
    radii: Sequence[float],
    steps: int = 20,
) -> dict[float, float]:
    """Accuracy at each radius, by PGD of `steps` steps of 2.5 ε / steps; 0 is clean."""
    shares = {}
    for radius in radii:
        attack = Attack(
            cast(Literal["l2", "linf"], norm), radius, steps, 2.5 * radius / max(1, steps)
        )
        shares[radius] = accuracy(model, photographs, size=size, attack=attack if radius else None)
    return shares


def every(photographs: Photographs, stride: int) -> Photographs:
    """Each `stride`-th photograph: a smaller set with the same classes."""
    return replace(
        photographs,
        images=photographs.images[::stride],
        labels=photographs.labels[::stride],
    )
