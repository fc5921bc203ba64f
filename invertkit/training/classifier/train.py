"""Adversarial training of a quasi-robust classifier (MAGIC Eq. 3): PGD inside, SGD outside."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.core.signals import Stopping
from invertkit.errors import InputError
from invertkit.models.folding.folding import Folding
from invertkit.training.classifier.normalized import Normalized as Normalized
from invertkit.training.classifier.plan import TrainingPlan as TrainingPlan
from invertkit.training.classifier.plan import as_json, difference
from invertkit.training.classifier.start import Start, behind_normalisation, starting_network
from invertkit.training.data.batches import InMemory, TrainingBatch, TrainingData, mixed
from invertkit.training.data.photographs import PhotographSet
from invertkit.training.loop.checkpoints import (
    CHECKPOINT,
    make_folder,
    read_checkpoint,
    write_checkpoint,
)
from invertkit.training.loop.ema import Average
from invertkit.training.loop.history import TrainingMoment, TrainingObserver, TrainingRow
from invertkit.training.loop.options import Tell
from invertkit.training.processes.team import Team
from invertkit.training.robustness.attack import Attack
from invertkit.training.robustness.pgd import draw_start, pgd
from invertkit.training.robustness.robustness import robust_accuracy

_STOP: Final = 3  # place of the wish to stop among the tallies: loss, right, images, stop


def train_classifier(
    plan: TrainingPlan,
    data: PhotographSet | TrainingData,
    *,
    out: Path,
    start: Start | None = None,
    resume: bool = False,
    device: str = "cpu",
    team: Team | None = None,
    report: Tell = print,
    observers: Sequence[TrainingObserver] = (),
    log_every: int = 50,
    save_every: float = 300.0,
) -> Normalized:
    """Train a network, leaving `checkpoint.pt` in `out`; the trained one, or its average.

    Order, augmentation, random starts and rates are functions of the seed and the step alone. So a
    training that was stopped at any step and resumed ends in the same weights as one that was not,
    on a CPU to the last bit, and several processes see the batches that one would.

    Args:
        plan: What to do.
        data: Training photographs.
        out: Folder of the checkpoint.
        start: The network; by default a new `KitNet`.
        resume: Go on from `out`'s checkpoint, of the same plan and start.
        device: Where to train, without a `team`.
        team: The processes that train together.
        report: Receives a line at the start and one per row.
        observers: Receive every step, on the leading process.
        log_every: Steps per row; each epoch ends one too.
        save_every: Seconds between checkpoints; one is also written after each epoch, and when
            Ctrl-C or a request to end comes.

    Raises:
        InputError: The data are too few, the checkpoint is of another training or cannot be
            written, or the training has diverged.
        KeyboardInterrupt: It was stopped; the checkpoint is written.

    Source: MAGIC Eq. 3; Madry et al. 2018; the details of MadryLab/robustness 1.2: the attack sees
    the network in evaluation mode, the update in training mode.
    """
    shown = InMemory(data) if isinstance(data, PhotographSet) else data
    training = _Training(
        plan, shown, start=start, team=team or Team(torch.device(device)), path=out / CHECKPOINT
    )
    if resume:
        training.restore()
    make_folder(out)
    where = f", from step {training.step} on" if training.step else ""
    report(f"{training.origin}; {len(shown)} photographs{where}.")
    training.run(report, observers, log_every=log_every, save_every=save_every)
    return training.result()


@final
class _Training:
    """A training on its way."""

    def __init__(
        self, plan: TrainingPlan, data: TrainingData, *, start: Start | None, team: Team, path: Path
    ) -> None:
        self.plan, self.data, self.team, self.path = plan, data, team, path
        self.per_epoch = len(data) // plan.batch
        if self.per_epoch == 0:
            raise InputError(
                f"{data.source}: has {len(data)} photographs, fewer than a batch of {plan.batch}. "
                "Use a smaller --batch."
            )
        if plan.batch % team.share.world:
            raise InputError(
                f"expected a batch that {team.share.world} processes can share evenly, got "
                f"{plan.batch}."
            )
        start = start or starting_network(classes=data.classes, widths=plan.widths, seed=plan.seed)
        self.origin = f"{start.architecture}, {start.origin}"
        self.shown = (
            f"kept at {data.data.images.shape[-1]} pixels"
            if isinstance(data, InMemory)
            else "streamed"
        )
        self.model = behind_normalisation(start, data.statistics).to(team.device)
        self.model.to(memory_format=torch.channels_last)
        self.first = deepcopy(start.net.state_dict()) if plan.start_share else {}
        # The network as it starts, whose clean predictions a label-free training holds on to.
        self.teacher = deepcopy(self.model).eval().requires_grad_(False)
        if not plan.label_free:
            del self.teacher
        self.average = Average(self.model, plan.ema)
        # Neither shared batch norms nor weights that are rounded once more can be folded.
        folds = plan.fold and team.alone and not plan.bf16
        self.folding, self.folding_of_teacher = Folding(enabled=folds), Folding(enabled=folds)
        # After the average was copied: a copy that stays here shares no norms with other processes.
        self.joined = team.join(self.model)
        self.optimizer = _optimizer(self.model, plan)
        self.step = 0
        self.tallies = torch.zeros(4, dtype=torch.float64, device=team.device)

    def run(
        self,
        report: Tell,
        observers: Sequence[TrainingObserver],
        *,
        log_every: int,
        save_every: float,
    ) -> None:
        """All the steps that are left."""
        plan, total = self.plan, self.plan.epochs * self.per_epoch
        saved = told = time.monotonic()
        images_told = float(self.tallies[2])
        with Stopping() as stopping:
            while self.step < total:
                epoch, first = divmod(self.step, self.per_epoch)
                batches = self.data.epoch(
                    epoch,
                    size=plan.size_at(epoch),
                    batch=plan.batch,
                    seed=plan.seed,
                    share=self.team.share,
                    first=first,
                )
                _learn(self.model, freeze_norms=plan.freeze_norms)
                for batch in batches:
                    self.tallies += self.update(batch, epoch=epoch, asked=stopping.asked)
                    ended = self.step % self.per_epoch == 0
                    row, now = None, time.monotonic()
                    if ended or self.step % self.per_epoch % log_every == 0:
                        rate = (float(self.tallies[2]) - images_told) / max(1e-9, now - told)
                        row, told, images_told = self.row(epoch, rate), now, 0.0
                        report(self.line(row))
                    if self.team.leads:
                        for observer in observers:
                            observer(TrainingMoment(self.step, total, row))
                    if ended or now - saved >= save_every:
                        self.save()
                        saved = time.monotonic()
                    if self.asked_to_stop(stopping):
                        self.save()
                        self.team.wait()  # until the checkpoint is whole
                        raise KeyboardInterrupt

    @torch.no_grad()
    def result(self) -> Normalized:
        """What was trained, or its average, with the wanted share of the start; in evaluation."""
        model: Normalized = self.average.model.eval()
        if self.plan.start_share:
            model = deepcopy(model)  # the checkpoint's weights stay as they are
            for name, value in model.net.state_dict().items():
                if value.is_floating_point():
                    value.lerp_(self.first[name].to(value), self.plan.start_share)
        return model

    def asked_to_stop(self, stopping: Stopping) -> bool:
        """Whether this process was asked to stop; of several, any, as all learnt in this step."""
        asked = stopping.asked if self.team.alone else bool(self.tallies[_STOP] > 0)
        self.tallies[_STOP] = 0  # the checkpoint shall not ask again
        return asked

    def update(self, batch: TrainingBatch, *, epoch: int, asked: bool) -> Float[Tensor, " 4"]:
        """Attack, descend, average: one step; its tallies over all processes."""
        plan, device = self.plan, self.team.device
        images = batch.images.to(device, memory_format=torch.channels_last, non_blocking=True)
        labels = batch.labels.to(device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"] = plan.lr_at(self.step, self.per_epoch)
        attack = plan.attack_at(epoch, self.step % self.per_epoch / self.per_epoch)
        # The attack too, in the precision of the update: it shall find what that update will see.
        with torch.autocast(device.type, torch.bfloat16, enabled=plan.bf16):
            wanted = self.predictions(images) if plan.label_free else labels
            if attack is not None:
                images = self.attacked(attack, images, wanted, batch, epoch)
            # `joined`, not the model: its backward is what averages gradients over processes.
            logits = self.joined(images).float()
        if plan.label_free:
            loss = F.kl_div(F.log_softmax(logits, 1), wanted, reduction="batchmean")
            labels = wanted.argmax(1)
        else:
            loss = F.cross_entropy(logits, labels, label_smoothing=plan.smoothing)
        self.optimizer.zero_grad()
        self.team.backward(loss)
        self.optimizer.step()
        self.average.update()
        self.step += 1
        with torch.no_grad():
            count = len(labels)
            right = (logits.argmax(1) == labels).sum()
            # The wish to stop goes along, so that all processes learn of it in the same step.
            seen, stop = torch.tensor([count, asked], dtype=torch.float64).to(device)
            return self.team.sum(torch.stack([loss.double() * count, right.double(), seen, stop]))

    @torch.no_grad()
    def predictions(self, images: Tensor) -> Float[Tensor, "b k"]:
        """What the starting network says of the clean images, as probabilities."""
        with self.folding_of_teacher.lent(self.teacher.net, images, frozenset()):
            return self.teacher(images).float().softmax(1)  # type: ignore[no-any-return]

    def attacked(
        self, attack: Attack, images: Tensor, wanted: Tensor, batch: TrainingBatch, epoch: int
    ) -> Tensor:
        """The images on which the network does worse.

        Against probabilities the attack ascends cross-entropy, which is the divergence plus a
        constant of each image.
        """
        start, generator = None, None
        if attack.random_start:
            generator = torch.Generator(self.team.device)
            # Of each photograph's own number: any number of processes draws the same.
            starts = [
                draw_start(
                    attack,
                    tuple(images[:1].shape),
                    generator.manual_seed(mixed(self.plan.seed, epoch, row, 3)),
                )
                for row in batch.rows.tolist()
            ]
            start = torch.cat(starts)
        with _frozen(self.model), self.folding.lent(self.model.net, images, frozenset()):
            return pgd(attack, self.model, images, wanted, generator=generator, start=start)

    def row(self, epoch: int, rate: float) -> TrainingRow:
        """Means since the row before, and new tallies.

        Raises:
            InputError: The loss is not finite.
        """
        lost, right, seen, _ = self.tallies.tolist()
        self.tallies[:_STOP] = 0
        if not torch.tensor(lost).isfinite():
            raise InputError(
                f"the loss was not finite before step {self.step}; the checkpoint before, if any, "
                "is kept. Use a smaller --lr."
            )
        done = (self.step - 1) % self.per_epoch / self.per_epoch
        attack = self.plan.attack_at(epoch, done)
        return TrainingRow(
            step=self.step,
            epoch=epoch + 1,
            size=self.plan.size_at(epoch),
            eps=attack.eps if attack else 0.0,
            lr=self.plan.lr_at(self.step - 1, self.per_epoch),
            loss=lost / seen,
            accuracy=right / seen,
            images_per_second=rate,
        )

    def line(self, row: TrainingRow) -> str:
        """A row in words."""
        kind = "agreement" if self.plan.label_free else "train accuracy"
        return (
            f"epoch {row.epoch}/{self.plan.epochs} "
            f"step {(row.step - 1) % self.per_epoch + 1}/{self.per_epoch} "
            f"loss {row.loss:.3f} {kind} {row.accuracy:.3f} {row.images_per_second:.0f} images/s"
        )

    def save(self) -> None:
        """Write the checkpoint, unless the training has diverged."""
        if not self.team.leads:
            return
        weights = torch.stack([p.detach().abs().sum() for p in self.model.parameters()])
        # What has diverged must not replace the last checkpoint that has not.
        if not (self.tallies.isfinite().all() and weights.isfinite().all()):
            return
        state = {
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict() if self.plan.ema else {},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "tallies": self.tallies,
            "plan": as_json(self.plan),
            "start": self.origin,
            "photographs": len(self.data),
            "shown": self.shown,
        }
        write_checkpoint(state, self.path)

    def restore(self) -> None:
        """Go on from the checkpoint.

        Raises:
            InputError: There is none, or it is of another training.
        """
        state = read_checkpoint(self.path, device=self.team.device)
        changed = difference(self.plan, state["plan"])
        if not changed and state["start"] != self.origin:
            changed = f"{state['start']}, not {self.origin}"
        if not changed and state["photographs"] != len(self.data):
            changed = f"{state['photographs']} photographs, not {len(self.data)}"
        if not changed and state.get("shown", self.shown) != self.shown:
            changed = f"photographs {state['shown']}, not {self.shown}"
        if changed:
            raise InputError(
                f"{self.path}: was begun with {changed}. Go on with the same options, or begin "
                "anew in another --out."
            )
        try:
            self.model.load_state_dict(state["model"])
            if self.plan.ema:
                self.average.model.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            what = str(error).strip().split("\n")[0]
            raise InputError(
                f"{self.path}: is not a checkpoint of this training ({what:.120})."
            ) from None
        self.step, self.tallies = int(state["step"]), state["tallies"]


def _optimizer(model: nn.Module, plan: TrainingPlan) -> torch.optim.Optimizer:
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]  # of norms, and biases
    groups = [
        {"params": weights, "weight_decay": plan.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if plan.optimizer == "adam":
        return torch.optim.AdamW(groups, lr=plan.lr)
    return torch.optim.SGD(groups, lr=plan.lr, momentum=plan.momentum, nesterov=plan.nesterov)


def _learn(model: nn.Module, *, freeze_norms: bool) -> None:
    """Training mode; of batch norms only where their statistics may move."""
    model.train()
    for part in model.modules():
        if freeze_norms and isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no weight gradients while the block runs; then as it was."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        model.requires_grad_(True)
        for part, mode in modes:  # `train` would set those within as well
            part.training = mode


def accuracy(model: nn.Module, data: PhotographSet, *, size: int) -> float:
    """Share of photographs that `model` labels rightly, resized to `size`."""
    (clean,) = robust_accuracy(model, data, radii=[0.0], size=size)
    return clean.share


def steps_done(out: Path) -> int:
    """Steps of the checkpoint in `out`; 0 where there is none.

    Raises:
        InputError: It is damaged.
    """
    path = out / CHECKPOINT
    return int(read_checkpoint(path, device=torch.device("cpu"))["step"]) if path.is_file() else 0
