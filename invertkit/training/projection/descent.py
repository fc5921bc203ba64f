"""A training that descends one loss on photographs: resumable, the same stopped or not."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from invertkit.core.signals import Stopping
from invertkit.errors import InputError
from invertkit.training.data.photographs import PhotographSet
from invertkit.training.generator.draws import ByClass
from invertkit.training.loop.checkpoints import (
    CHECKPOINT,
    make_folder,
    read_checkpoint,
    write_checkpoint,
)
from invertkit.training.loop.options import Tell
from invertkit.training.projection.plan import DescentOrders, DescentPlan

FREE: Final = ("steps", "lr")
"""What of a plan may be another when a training is gone on with."""


class Lesson(ABC):
    """What is learnt: a network, and its loss on photographs of known classes.

    Attributes:
        net: That learns.
        subject: What it is for, in words; another one is another training.
    """

    net: nn.Module
    subject: str

    @abstractmethod
    def losses(
        self, photographs: Float[Tensor, "b 3 s s"], labels: Int[Tensor, " b"]
    ) -> tuple[Float[Tensor, ""], Mapping[str, Float[Tensor, ""]]]:
        """What is descended, and what is told, by name.

        Args:
            photographs: In [0, 1].
            labels: Their classes.
        """


@final
class Descent:
    """A lesson on its way: the network, its optimizer, and how far they are."""

    def __init__(self, plan: DescentPlan, lesson: Lesson, *, device: str) -> None:
        self.plan, self.lesson, self.device, self.step = plan, lesson, device, 0
        self.learning = [weight for weight in lesson.net.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.Adam(
            self.learning, plan.lr, plan.betas, weight_decay=plan.decay
        )
        self._tallies: dict[str, Tensor] = {}
        self._told = 0

    def update(self, photographs: Float[Tensor, "b 3 s s"], labels: Int[Tensor, " b"]) -> None:
        """One step."""
        plan = self.plan
        left = (plan.steps - self.step) / max(plan.steps / 9, 1)
        self.optimizer.param_groups[0]["lr"] = plan.lr * min(1.0, left)
        loss, told = self.lesson.losses(photographs, labels)
        self.optimizer.zero_grad()
        loss.backward(inputs=self.learning)
        if plan.clip:
            nn.utils.clip_grad_norm_(self.learning, plan.clip)
        self.optimizer.step()
        self.step += 1
        for name, value in {"loss": loss, **told}.items():  # nothing is read from the device here
            self._tallies[name] = self._tallies.get(name, 0) + value.detach()

    def saved(self, path: Path, *, seconds: float) -> str:
        """Write the checkpoint; what to tell of the steps since the last.

        Raises:
            InputError: The training has diverged, or the file cannot be written.
        """
        steps = max(1, self.step - self._told)
        means = {name: float(total) / steps for name, total in self._tallies.items()}
        if not all(abs(value) < float("inf") for value in means.values()):
            raise InputError(
                f"the loss was not finite before step {self.step}; the checkpoint before is kept. "
                "Use a smaller --lr."
            )
        write_checkpoint(self.state(), path)
        self._tallies, self._told = {}, self.step
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
        rate = steps * self.plan.batch / max(seconds, 1e-9)
        return f"step {self.step}/{self.plan.steps} {numbers}, {rate:.1f} photographs/s"

    def state(self) -> dict[str, Any]:
        """All of it, as tensors, numbers, strings and dicts."""
        return {
            "net": self.lesson.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "plan": asdict(self.plan),
            "kind": type(self.plan).__name__,
            "subject": self.lesson.subject,
        }

    def restore(self, path: Path) -> None:
        """Go on from a file that holds `state`; `FREE` may be other than they were.

        Raises:
            InputError: It does not, or it is of another training.
        """
        state = read_checkpoint(path, device=torch.device(self.device))
        now = {**asdict(self.plan), "kind": type(self.plan).__name__}
        before = {**state.get("plan", {}), "kind": state.get("kind")}
        now["subject"], before["subject"] = self.lesson.subject, state.get("subject")
        for name, value in now.items():
            if name not in FREE and before.get(name) != value:
                raise InputError(
                    f"{path}: was begun with {name} {before.get(name)}, not {value}. Go on with "
                    "the same options, or begin anew."
                )
        try:
            self.lesson.net.load_state_dict(state["net"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = self._told = int(state["step"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            first = str(error).strip().split("\n")[0]
            raise InputError(f"{path}: is no checkpoint of this training ({first:.120}).") from None
        if self.step > self.plan.steps:
            raise InputError(
                f"{path}: is at step {self.step}, beyond the {self.plan.steps} asked for."
            )


def descend(descent: Descent, data: PhotographSet, *, orders: DescentOrders, report: Tell) -> None:
    """Take the steps that are left, leaving a checkpoint every so many.

    Photographs depend on the seed and the step alone: a training that was stopped and resumed ends
    in the same weights as one that was not, on a CPU to the last bit.

    Args:
        descent: Is changed.
        data: Photographs of the generator's size, labelled by its classes.
        orders: `out` and `save_every`.
        report: Receives one line per checkpoint, after it is written.

    Raises:
        InputError: `out` cannot be written, or the training has diverged.
        KeyboardInterrupt: It was stopped; the checkpoint is written.
    """
    by_class, plan, classes = ByClass(data), descent.plan, data.labels.unique()
    make_folder(orders.out)
    begun = time.monotonic()
    with Stopping() as stopping:
        while descent.step < plan.steps:
            photographs, labels = photographs_of(by_class, classes, plan, descent.step)
            descent.update(photographs.to(descent.device), labels.to(descent.device))
            asked = stopping.asked  # read once: what comes while a checkpoint is written waits
            if asked or descent.step % orders.save_every == 0 or descent.step == plan.steps:
                report(descent.saved(orders.out / CHECKPOINT, seconds=time.monotonic() - begun))
                begun = time.monotonic()
            if asked:
                raise KeyboardInterrupt


def photographs_of(
    data: ByClass, classes: Int[Tensor, " k"], plan: DescentPlan, step: int
) -> tuple[Float[Tensor, "b 3 s s"], Int[Tensor, " b"]]:
    """The photographs of a step in [0, 1], mirrored at random; each class as often as the others.

    Args:
        data: All photographs.
        classes: Those that have any.
        plan: `batch` and `seed`.
        step: Its number.
    """
    # Farther apart than a training has steps: neighbouring seeds share no draws.
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
    labels = classes[torch.randint(len(classes), (plan.batch,), generator=generator)]
    rows = data.rows_of(labels, torch.rand(plan.batch, generator=generator))
    images = data.images[rows].float() / 255
    mirrored = torch.rand(plan.batch, generator=generator) < 0.5
    images[mirrored] = images[mirrored].flip(-1)
    return images, labels
