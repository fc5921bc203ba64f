"""Training of a class-conditional generator: hinge loss, projection, spectral norm, EMA."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from invertkit.errors import InputError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.generators.kitgan import (
    ClassHead,
    FeatureHead,
    KitDiscriminator,
    KitGenerator,
)
from invertkit.training.data.photographs import Photographs
from invertkit.training.generator.plan import GeneratorPlan

Report = Callable[[str], None]
CHECKPOINT: Final = "checkpoint.pt"


@final
class Players(nn.Module):
    """The networks of the game.

    Args:
        plan: Their sizes.
        classes: Number of classes.
        guide: Frozen classifier whose layers are judged too, or None.
    """

    def __init__(self, plan: GeneratorPlan, classes: int, guide: Classifier | None) -> None:
        super().__init__()
        self.generator = KitGenerator(
            classes, latent=plan.latent, embedding=plan.embedding, widths=plan.widths
        )
        self.discriminator = KitDiscriminator(classes)
        self.heads = nn.ModuleDict()
        self.plan = plan
        self.guide: tuple[Classifier | None] = (None,)  # in a tuple: not a part of the state
        if guide is not None:
            guide = folded(guide)
            self.guide = (guide,)
            layers = guide.resolve(plan.guide_layers)
            probe = torch.zeros(1, 3, plan.guide_size, plan.guide_size)
            for name, features in guide.observe(probe, layers).items():
                self.heads[name] = FeatureHead(features.shape[1], classes)
        for module in self.modules():
            if isinstance(module, ClassHead):
                module.group = plan.group

    def scores(
        self, image: Float[Tensor, "b 3 h w"], labels: Int[Tensor, " b"]
    ) -> list[Float[Tensor, " b"]]:
        """What every discriminator thinks of pictures in [-1, 1]."""
        scores = [self.discriminator(image, labels)]
        (guide,) = self.guide
        if guide is not None and len(self.heads):
            size = (self.plan.guide_size,) * 2
            seen = F.interpolate(image / 2 + 0.5, size, mode="bilinear", align_corners=False)
            seen = seen.contiguous(memory_format=torch.channels_last)
            taps = guide.observe(seen, tuple(self.heads))
            scores += [head(taps[name], labels) for name, head in self.heads.items()]
        return scores


def train_generator(
    plan: GeneratorPlan,
    photographs: Photographs,
    *,
    out: Path,
    guide: Classifier | None = None,
    resume: Path | None = None,
    device: str = "cpu",
    report: Report = print,
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
    data = _ByClass(photographs)
    game = _Game(plan, classes=len(data.classes), guide=guide, device=device)
    if resume is not None:
        game.restore(resume)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}).") from None
    started, first, told = time.monotonic(), game.step, game.step
    tallies = torch.zeros(2, device=device)
    while game.step < plan.steps:
        tallies = tallies + game.update(*_draws(plan, data, game.step, device))
        if game.step % every and game.step < plan.steps:
            continue
        if not tallies.isfinite().all():
            raise InputError(
                f"the scores were not finite before step {game.step}; the checkpoint before is "
                "kept. Use a smaller --lr and --critic-lr."
            )
        _write(game.state(), out / CHECKPOINT)
        real, made = (tallies / (game.step - told)).tolist()
        rate = (game.step - first) * plan.batch / (time.monotonic() - started)
        report(
            f"step {game.step}/{plan.steps} real {real:+.2f}, made {made:+.2f}, "
            f"{rate:.0f} pictures/s"
        )
        tallies, told = torch.zeros_like(tallies), game.step
    settle(game.mean, plan, classes=len(data.classes))
    return game.mean.eval(), game.players.discriminator.eval()


@final
class _Game:
    """A training on its way: the networks, the averaged generator and both optimizers."""

    def __init__(
        self, plan: GeneratorPlan, *, classes: int, guide: Classifier | None, device: str
    ) -> None:
        self.plan, self.device, self.step = plan, device, 0
        with torch.random.fork_rng(devices=[]):  # PyTorch's initialisers read the global generator
            torch.manual_seed(plan.seed)
            self.players = Players(plan, classes, guide).to(device)
        self.players.to(memory_format=torch.channels_last)
        for frozen in self.players.guide:
            if frozen is not None:
                frozen.to(device).to(memory_format=torch.channels_last)
        self.mean = deepcopy(self.players.generator)
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
            made = players.generator(latent, players.generator.embeddings.weight.T[wanted])
            both = torch.cat([images, made.detach()]).contiguous(memory_format=torch.channels_last)
            scores = players.scores(both, torch.cat([labels, wanted]))
            loss = torch.stack([hinge(score, len(images)) for score in scores]).sum()
        self.judging.zero_grad()
        loss.backward()
        self.judging.step()
        real, fake = scores[0].detach().split(len(images))
        for parameter in self.critics:
            parameter.requires_grad_(False)
        with torch.autocast(kind, torch.bfloat16, enabled=plan.bf16):
            scores = players.scores(made, wanted)  # the same pictures, by the improved judges
            loss = -torch.stack([score.mean() for score in scores]).sum()
        self.climbing.zero_grad()
        loss.backward()
        self.climbing.step()
        for parameter in self.critics:
            parameter.requires_grad_(True)
        average(self.mean, players.generator, min(plan.decay, (self.step + 1) / (self.step + 10)))
        self.step += 1
        return torch.stack([real.mean(), fake.mean()]).float()

    def state(self) -> dict[str, Any]:
        """All of it, as tensors, numbers, strings and dicts."""
        return {
            "players": self.players.state_dict(),
            "mean": self.mean.state_dict(),
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
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.players.load_state_dict(state["players"])
            self.mean.load_state_dict(state["mean"])
            self.climbing.load_state_dict(state["climbing"])
            self.judging.load_state_dict(state["judging"])
            self.step = int(state["step"])
            before = dict(state.get("plan", {}))
        except Exception as error:  # a damaged pickle may raise anything
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


def _write(state: Mapping[str, Any], path: Path) -> None:
    """To a file beside it first, forced to the disk, then renamed: never half a file."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{path}: the checkpoint cannot be written ({error}). The one before, if any, is whole."
        ) from None
    finally:
        partial.unlink(missing_ok=True)


@final
class _ByClass:
    """Photographs with the rows of each class together."""

    def __init__(self, data: Photographs) -> None:
        self.images, self.labels, self.classes = data.images, data.labels, data.classes
        self._order = data.labels.argsort(stable=True)
        self._counts = torch.bincount(data.labels, minlength=len(data.classes))
        self._starts = self._counts.cumsum(0) - self._counts

    def rows_of(
        self, classes: Int[Tensor, " g"], draws: Float[Tensor, "g k"]
    ) -> Int[Tensor, "g k"]:
        """Rows of photographs of those classes; draws are uniform in [0, 1)."""
        places = (draws * self._counts[classes, None]).long()
        return self._order[self._starts[classes, None] + places]


def _draws(
    plan: GeneratorPlan, data: _ByClass, step: int, device: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Photographs in [-1, 1] with labels, latents and wanted classes; all from the step alone."""
    generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
    groups, classes = plan.batch // plan.group, len(data.classes)

    def classes_of_groups() -> Tensor:
        return torch.randint(classes, (groups,), generator=generator)

    shown = classes_of_groups()
    draws = torch.rand(groups, plan.group, generator=generator)
    rows = data.rows_of(shown, draws).flatten()
    images = data.images[rows].float() / 127.5 - 1
    mirrored = torch.rand(len(rows), generator=generator) < 0.5
    images[mirrored] = images[mirrored].flip(-1)
    latent = torch.randn(len(rows), plan.latent, generator=generator)
    wanted = classes_of_groups().repeat_interleave(plan.group)
    return images.to(device), data.labels[rows].to(device), latent.to(device), wanted.to(device)


def hinge(scores: Float[Tensor, " b"], real: int) -> Float[Tensor, ""]:
    """Mean `max(0, 1 - s)` of the first `real` scores plus mean `max(0, 1 + s)` of the rest.

    Source: Lim & Ye 2017.
    """
    return F.relu(1 - scores[:real]).mean() + F.relu(1 + scores[real:]).mean()


@torch.no_grad()
def average(mean: nn.Module, now: nn.Module, decay: float) -> None:
    """Move the weights of `mean` to `decay · mean + (1 - decay) · now`; buffers stay.

    Source: exponential moving average of a generator's weights, Yazıcı et al. 2019.
    """
    torch._foreach_lerp_(list(mean.parameters()), list(now.parameters()), 1 - decay)


@torch.no_grad()
def settle(
    generator: KitGenerator, plan: GeneratorPlan, *, classes: int, batches: int = 64
) -> None:
    """Batch-norm statistics of the averaged weights, over many batches.

    Args:
        generator: Left in evaluation mode.
        plan: `latent` and `seed`.
        classes: Number of classes.
        batches: Of 128 pictures.

    Source: "standing statistics", Brock et al. 2019.
    """
    norms = [m for m in generator.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    generator.train()
    device = generator.gen_z.weight.device
    for index in range(batches):
        draw = torch.Generator().manual_seed(plan.seed * 1_000_003 - 1 - index)
        latent = torch.randn(128, plan.latent, generator=draw).to(device)
        labels = torch.randint(classes, (128,), generator=draw).to(device)
        generator(latent, generator.embeddings.weight.T[labels])
    generator.eval()


def folded(classifier: Classifier) -> Classifier:
    """A copy whose batch norms are part of the convolutions before them.

    Only where both follow each other in an `nn.Sequential`. What comes after a norm is unchanged to
    rounding; the convolutions themselves now put out what the norm did.
    """
    copy = deepcopy(classifier)
    for parent in copy.net.modules():
        if not isinstance(parent, nn.Sequential):
            continue
        for index in range(len(parent) - 1):
            conv, norm = parent[index], parent[index + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent[index], parent[index + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return copy.requires_grad_(False)
