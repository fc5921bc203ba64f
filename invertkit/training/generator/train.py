"""Training of a class-conditional generator: hinge loss, projection, spectral norm, EMA."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from invertkit.errors import InputError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.generators.kitgan import KitDiscriminator, KitGenerator
from invertkit.training.data.photographs import PhotographSet
from invertkit.training.generator.draws import ByClass, draws_of_step
from invertkit.training.generator.networks import GameNetworks, hinge
from invertkit.training.generator.plan import GeneratorPlan
from invertkit.training.generator.settling import settle
from invertkit.training.loop.checkpoints import (
    CHECKPOINT,
    make_folder,
    read_checkpoint,
    write_checkpoint,
)
from invertkit.training.loop.ema import Average
from invertkit.training.loop.options import Tell


def train_generator(
    plan: GeneratorPlan,
    photographs: PhotographSet,
    *,
    out: Path,
    guide: Classifier | None = None,
    resume: Path | None = None,
    device: str = "cpu",
    report: Tell = print,
    every: int = 500,
) -> tuple[KitGenerator, KitDiscriminator]:
    """Train, leaving `checkpoint.pt` in `out` every `every` steps; the averaged generator.

    Draws, learning rates and averaging depend on the step alone: a training that was resumed ends
    in the same weights as one that was not, on a CPU to the last bit.

    Args:
        plan: What to do.
        photographs: Training photographs, 32×32.
        out: Folder of the checkpoint.
        guide: Frozen classifier for `plan.guide_layers`.
        resume: A checkpoint of an earlier run of the same plan; `steps` may differ, learning rates
            follow the new number from there on.
        device: Where to train.
        report: Receives one line per `every` steps, after the checkpoint is written.
        every: Steps between checkpoints.

    Raises:
        InputError: `resume` is no checkpoint of this training, `out` cannot be written, or the
            training has diverged.
    """
    data = ByClass(photographs)
    game = _Game(plan, classes=len(data.classes), guide=guide, device=device)
    if resume is not None:
        game.restore(resume)
    make_folder(out)
    started, first, told = time.monotonic(), game.step, game.step
    tallies = torch.zeros(2, device=device)
    while game.step < plan.steps:
        tallies = tallies + game.update(*draws_of_step(plan, data, game.step, device))
        # Nothing is read from the device in between, so that no step waits.
        if game.step % every and game.step < plan.steps:
            continue
        if not tallies.isfinite().all():
            raise InputError(
                f"the scores were not finite before step {game.step}; the checkpoint before is "
                "kept. Use a smaller --lr and --critic-lr."
            )
        write_checkpoint(game.state(), out / CHECKPOINT)
        real, fake = (tallies / (game.step - told)).tolist()
        rate = (game.step - first) * plan.batch / (time.monotonic() - started)
        report(
            f"step {game.step}/{plan.steps} real {real:+.2f}, made {fake:+.2f}, "
            f"{rate:.0f} pictures/s"
        )
        tallies, told = torch.zeros_like(tallies), game.step
    generator: KitGenerator = game.average.model  # type: ignore[assignment]
    settle(generator, plan, classes=len(data.classes))
    return generator.eval(), game.players.discriminator.eval()


@final
class _Game:
    """A training on its way: the networks, the averaged generator and both optimizers."""

    def __init__(
        self, plan: GeneratorPlan, *, classes: int, guide: Classifier | None, device: str
    ) -> None:
        self.plan, self.device, self.step = plan, device, 0
        with torch.random.fork_rng(devices=[]):  # PyTorch's initialisers read the global generator
            torch.manual_seed(plan.seed)
            self.players = GameNetworks(plan, classes, guide).to(device)
        self.players.to(memory_format=torch.channels_last)
        for frozen in self.players.guide:
            if frozen is not None:
                frozen.to(device).to(memory_format=torch.channels_last)
        # Batch-norm statistics of an average of weights are no average: `settle` takes them anew.
        self.average = Average(self.players.generator, plan.decay, buffers=False)
        self.critics = [
            *self.players.discriminator.parameters(),
            *self.players.heads.parameters(),
        ]
        self.climbing = torch.optim.Adam(self.players.generator.parameters(), plan.lr, plan.betas)
        self.judging = torch.optim.Adam(self.critics, plan.critic_lr, plan.betas)

    def update(
        self,
        images: Float[Tensor, "b 3 32 32"],
        labels: Int[Tensor, " b"],
        latent: Float[Tensor, "b z"],
        wanted: Int[Tensor, " b"],
    ) -> Float[Tensor, " 2"]:
        """Discriminators, generator, average: one step; the mean scores of real and made."""
        plan, players, kind = self.plan, self.players, torch.device(self.device).type
        rate = min(1.0, (plan.steps - self.step) / max(1.0, plan.cooldown * plan.steps))
        for optimizer, lr in ((self.climbing, plan.lr), (self.judging, plan.critic_lr)):
            optimizer.param_groups[0]["lr"] = lr * rate
        with torch.autocast(kind, torch.bfloat16, enabled=plan.bf16):
            pictures = players.generator(latent, players.generator.embeddings.weight.T[wanted])
            both = torch.cat([images, pictures.detach()]).contiguous(
                memory_format=torch.channels_last
            )
            scores = players.scores(both, torch.cat([labels, wanted]))
            loss = torch.stack([hinge(score, len(images)) for score in scores]).sum()
        self.judging.zero_grad()
        loss.backward()
        self.judging.step()
        real, fake = scores[0].detach().split(len(images))
        # The generator's loss runs through the critics; slopes of theirs would be thrown away.
        for parameter in self.critics:
            parameter.requires_grad_(False)
        with torch.autocast(kind, torch.bfloat16, enabled=plan.bf16):
            scores = players.scores(pictures, wanted)  # the same pictures, by the improved judges
            loss = -torch.stack([score.mean() for score in scores]).sum()
        self.climbing.zero_grad()
        loss.backward()
        self.climbing.step()
        for parameter in self.critics:
            parameter.requires_grad_(True)
        # While there is little to average, an average of many steps would lag behind.
        self.average.update(min(plan.decay, (self.step + 1) / (self.step + 10)))
        self.step += 1
        return torch.stack([real.mean(), fake.mean()]).float()

    def state(self) -> dict[str, Any]:
        """All of it, as tensors, numbers, strings and dicts."""
        return {
            "players": self.players.state_dict(),
            "mean": self.average.model.state_dict(),
            "climbing": self.climbing.state_dict(),
            "judging": self.judging.state_dict(),
            "step": self.step,
            "plan": asdict(self.plan),
        }

    def restore(self, path: Path) -> None:
        """Go on from a file that holds `state`; `steps` may be another number than it was.

        Raises:
            InputError: It does not, or it is of another plan.
        """
        state = read_checkpoint(path, device=torch.device(self.device))
        try:
            self.players.load_state_dict(state["players"])
            self.average.model.load_state_dict(state["mean"])
            self.climbing.load_state_dict(state["climbing"])
            self.judging.load_state_dict(state["judging"])
            self.step = int(state["step"])
            before = dict(state.get("plan", {}))
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            what = str(error).strip().split("\n")[0]
            raise InputError(
                f"{path}: is not a checkpoint of this training ({what:.120}). Give the "
                f"{CHECKPOINT} of a run with the same classes and sizes."
            ) from None
        for name, now in asdict(self.plan).items():
            if name not in ("steps", "encoder_steps") and before.get(name, now) != now:
                raise InputError(
                    f"{path}: was begun with {name} {before[name]}, not {now}. Go on with the "
                    "same options, or begin anew."
                )
        if self.step > self.plan.steps:
            raise InputError(
                f"{path}: is at step {self.step}, beyond the {self.plan.steps} asked for."
            )
