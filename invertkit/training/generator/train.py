"""Training of a class-conditional generator against projected discriminators, by hinge loss."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, final

import torch
from jaxtyping import Float
from torch import Tensor

from invertkit.core.signals import Stopping
from invertkit.errors import InputError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.training.data.photographs import PhotographSet
from invertkit.training.generator.autoencoding import sampled, unlikeness
from invertkit.training.generator.draws import ByClass, StepDraws, draws_of_step
from invertkit.training.generator.networks import GameNetworks, hinge
from invertkit.training.generator.plan import GeneratorOrders, GeneratorPlan
from invertkit.training.generator.standardizing import moments, standardize
from invertkit.training.loop.checkpoints import (
    CHECKPOINT,
    make_folder,
    read_checkpoint,
    write_checkpoint,
)
from invertkit.training.loop.ema import Average
from invertkit.training.loop.options import Tell

FREE: Final = (
    "steps",
    "encoder_steps",
    "lr",
    "warm_lr",
    "critic_lr",
    "eyes_size",
    "reconstructed",
    "warm_steps",
    "likeness",
    "kl",
)
"""What of the plan may be another when a training is gone on with."""


def train_generator(
    plan: GeneratorPlan,
    photographs: PhotographSet,
    *,
    eyes: Classifier,
    orders: GeneratorOrders,
    report: Tell = print,
    look: Callable[[GameNetworks, int], None] | None = None,
) -> GameNetworks:
    """Train, leaving a checkpoint every so many steps; the networks, with averaged weights.

    Draws and averaging depend on the step alone: a training that was stopped and resumed ends in
    the same weights as one that was not, on a CPU to the last bit.

    Args:
        plan: What to do.
        photographs: Training photographs of `plan.size`.
        eyes: Frozen classifier that has `plan.eyes_layers`.
        orders: `out`, `resume`, `device`, `save_every` and `sheet_every`.
        report: Receives what the eyes are, then one line per checkpoint, after it is written.
        look: Receives the averaged networks and the number of steps, every `sheet_every` steps.

    Raises:
        InputError: `resume` is no checkpoint of this training, `out` cannot be written, or the
            training has diverged.
        KeyboardInterrupt: It was stopped; the checkpoint is written.
    """
    data = ByClass(photographs)
    game = Game(plan, data.classes, eyes=eyes, device=orders.device)
    if orders.resume is not None:
        game.restore(orders.resume)
    make_folder(orders.out)
    report(f"eyes: {eyes.description}")
    begun = time.monotonic()
    with Stopping() as stopping:
        while game.step < plan.steps:
            if game.step == plan.warm_steps > 0:
                game.standardize(photographs)
            game.update(draws_of_step(plan, data, game.step, orders.device))
            if look is not None and orders.sheet_every and game.step % orders.sheet_every == 0:
                look(game.averaged(), game.step)
            asked = stopping.asked  # read once: what comes while a checkpoint is written waits
            if asked or game.step % orders.save_every == 0 or game.step == plan.steps:
                report(game.saved(orders.out / CHECKPOINT, seconds=time.monotonic() - begun))
                begun = time.monotonic()
            if asked:
                raise KeyboardInterrupt
    return game.averaged()


@final
class Game:
    """A training on its way: the networks, the averages and both optimizers."""

    def __init__(
        self, plan: GeneratorPlan, classes: tuple[str, ...], *, eyes: Classifier, device: str
    ) -> None:
        self.plan, self.classes, self.device, self.step = plan, classes, device, 0
        with torch.random.fork_rng(devices=[]):  # PyTorch's initialisers read the global generator
            torch.manual_seed(plan.seed)
            self.players = GameNetworks(plan, len(classes), eyes).to(device)
        self.players.to(memory_format=torch.channels_last)
        self.players.eyes.to(device).to(memory_format=torch.channels_last)
        # Batch-norm statistics of an average of weights are no average: `settle` takes them anew.
        self.average = Average(self.players.generator, plan.decay, buffers=False)
        self.average_posterior = Average(self.players.posterior, plan.decay, buffers=False)
        self.heads = list(self.players.heads.parameters())
        groups: list[dict[str, Any]] = [
            {"params": list(self.players.generator.parameters())},
            {"params": list(self.players.posterior.parameters()), "lr": plan.warm_lr},
        ]
        self.climbing = torch.optim.Adam(groups, plan.lr, plan.betas)
        self.judging = torch.optim.Adam(self.heads, plan.critic_lr, plan.betas)
        self._tallies, self._told = torch.zeros(4, device=device), 0

    def update(self, draws: StepDraws) -> None:
        """Discriminators, generator, encoder, averages: one step.

        The made pictures are made and seen once. The heads learn from what the eyes saw, detached;
        then the generator from the same, judged by the heads that have just learnt.
        """
        plan, players, kind = self.plan, self.players, torch.device(self.device).type
        warm = self.step < plan.warm_steps
        copies = plan.batch if warm else round(plan.batch * plan.reconstructed)
        with torch.autocast(kind, torch.bfloat16, enabled=plan.bf16):
            with torch.no_grad():
                real = players.seen(draws.images, draws.real_changes)
            condition = players.generator.embeddings.weight.T[draws.labels]
            latent, excess = self._latent(draws, condition, copies)
            pictures = players.generator(latent, condition)
            # What is to be like a photograph is seen under the photograph's own changes.
            changes = torch.cat([draws.real_changes[:copies], draws.made_changes[copies:]])
            made = players.seen(pictures, changes)
        loss = plan.kl * excess
        if copies:
            apart = unlikeness([m[:copies] for m in made], [r[:copies] for r in real])
            pixels = (pictures[:copies].float() - draws.images[:copies]).abs().mean()
            loss = loss + plan.likeness * (apart + pixels)
            self._tallies[2:] += torch.stack([apart.detach(), excess.detach()])
        if not warm:
            loss = loss - self._judged(real, made, draws)
        self._climb(loss, lr=plan.warm_lr if warm else plan.lr)

    def _latent(
        self, draws: StepDraws, condition: Tensor, copies: int
    ) -> tuple[Float[Tensor, "b z"], Float[Tensor, ""]]:
        """The first `copies` from photographs, the rest as drawn; and the former's excess."""
        if not copies:
            return draws.latent, draws.latent.new_zeros(())
        # The class is given to the encoder, which need not move it.
        code = self.players.posterior(draws.images[:copies], condition[:copies].detach())
        latent, excess = sampled(code, draws.latent[:copies])
        return torch.cat([latent, draws.latent[copies:]]), excess

    def _judged(
        self, real: Sequence[Tensor], made: Sequence[Tensor], draws: StepDraws
    ) -> Float[Tensor, ""]:
        """Teach the heads; then what they think of the made pictures, for the generator."""
        players, kind = self.players, torch.device(self.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=self.plan.bf16):
            # Two calls, so that batch norm in the heads cannot tell real from made by their mean.
            of_real = players.scores(real, draws.labels)
            of_made = players.scores([each.detach() for each in made], draws.labels)
        loss = torch.stack([hinge(*pair) for pair in zip(of_real, of_made, strict=True)]).sum()
        self.judging.zero_grad()
        loss.backward()
        self.judging.step()
        # Nothing is read from the device here, so that no step waits.
        self._tallies[:2] += torch.stack([mean_score(of_real), mean_score(of_made)])
        # The generator's loss runs through the heads; slopes of theirs would be thrown away.
        for parameter in self.heads:
            parameter.requires_grad_(False)
        with torch.autocast(kind, torch.bfloat16, enabled=self.plan.bf16):
            scores = players.scores(made, draws.labels)
        for parameter in self.heads:
            parameter.requires_grad_(True)
        return torch.stack([score.mean() for score in scores]).sum()

    def _climb(self, loss: Float[Tensor, ""], *, lr: float) -> None:
        self.climbing.param_groups[0]["lr"] = lr
        self.climbing.zero_grad()
        loss.backward()
        self.climbing.step()
        # While there is little to average, an average of many steps would lag behind.
        decay = min(self.plan.decay, (self.step + 1) / (self.step + 10))
        self.average.update(decay)
        self.average_posterior.update(decay)
        self.step += 1

    def standardize(self, photographs: PhotographSet) -> None:
        """Make the latents of photographs standard normal; the generator's optimizer begins anew.

        The average decides how, since it is steadier, and all of them are changed alike.
        """
        generator, posterior = self.average.model, self.average_posterior.model
        measured = moments(posterior, generator, photographs)
        standardize(generator, posterior, measured)
        standardize(self.players.generator, self.players.posterior, measured)
        self.climbing.state.clear()

    def averaged(self) -> GameNetworks:
        """The networks with the averages in place of the weights that learn: a copy."""
        copy = deepcopy(self.players)
        copy.generator.load_state_dict(self.average.model.state_dict())
        copy.posterior.load_state_dict(self.average_posterior.model.state_dict())
        return copy.eval()

    def saved(self, path: Path, *, seconds: float) -> str:
        """Write the checkpoint; what to tell of the steps since the last.

        Raises:
            InputError: The training has diverged, or the file cannot be written.
        """
        if not self._tallies.isfinite().all():
            raise InputError(
                f"the scores were not finite before step {self.step}; the checkpoint before is "
                "kept. Use a smaller --lr and --critic-lr."
            )
        write_checkpoint(self.state(), path)
        steps = max(1, self.step - self._told)
        real, made, apart, excess = (self._tallies / steps).tolist()
        self._tallies, self._told = torch.zeros_like(self._tallies), self.step
        rate = steps * self.plan.batch / max(seconds, 1e-9)
        return (
            f"step {self.step}/{self.plan.steps} real {real:+.2f}, made {made:+.2f}, "
            f"copies {apart:.2f} apart, {excess:.0f} nats, {rate:.0f} pictures/s"
        )

    def state(self) -> dict[str, Any]:
        """All of it, as tensors, numbers, strings and dicts."""
        return {
            "players": self.players.state_dict(),
            "mean": {
                "generator": self.average.model.state_dict(),
                "posterior": self.average_posterior.model.state_dict(),
            },
            "climbing": self.climbing.state_dict(),
            "judging": self.judging.state_dict(),
            "step": self.step,
            "plan": asdict(self.plan),
            "classes": list(self.classes),
            "eyes": self.players.eyes.description,
        }

    def restore(self, path: Path) -> None:
        """Go on from a file that holds `state`; `FREE` may be other than they were.

        Raises:
            InputError: It does not, or it is of another plan, other classes or other eyes.
        """
        state = read_checkpoint(path, device=torch.device(self.device))
        self._expect_same(path, state)
        try:
            self.players.load_state_dict(state["players"])
            self.average.model.load_state_dict(state["mean"]["generator"])
            self.average_posterior.model.load_state_dict(state["mean"]["posterior"])
            self.climbing.load_state_dict(state["climbing"])
            self.judging.load_state_dict(state["judging"])
            self.step = self._told = int(state["step"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            what = str(error).strip().split("\n")[0]
            raise InputError(
                f"{path}: is not a checkpoint of this training ({what:.120}). Give the "
                f"{CHECKPOINT} of a run with the same classes and sizes."
            ) from None
        # The optimizers' states brought the rates they were written with.
        for group, lr in (
            (self.climbing.param_groups[1], self.plan.warm_lr),
            (self.judging.param_groups[0], self.plan.critic_lr),
        ):
            group["lr"] = lr
        if self.step > self.plan.steps:
            raise InputError(
                f"{path}: is at step {self.step}, beyond the {self.plan.steps} asked for."
            )

    def _expect_same(self, path: Path, state: dict[str, Any]) -> None:
        now = {
            **asdict(self.plan),
            "classes": list(self.classes),
            "eyes": self.players.eyes.description,
        }
        before = {**state.get("plan", {}), **{key: state.get(key) for key in ("classes", "eyes")}}
        for name, value in now.items():
            if name not in FREE and before.get(name, value) != value:
                raise InputError(
                    f"{path}: was begun with {name} {before[name]}, not {value}. Go on with the "
                    "same options, or begin anew."
                )


def mean_score(scores: list[Float[Tensor, "b _ _"]]) -> Float[Tensor, ""]:
    """Over pictures and places, summed over the heads."""
    return torch.stack([score.detach().mean() for score in scores]).sum().float()
