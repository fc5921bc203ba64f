"""Training of a class-conditional generator: hinge loss, projection, spectral norm, EMA."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from invertkit.errors import InputError
from invertkit.models.classifier import Classifier
from invertkit.models.kitgan import FeatureHead, KitDiscriminator, KitEncoder, KitGenerator
from invertkit.training.photographs import Photographs

Report = Callable[[str], None]


@final
@dataclass(frozen=True)
class GeneratorPlan:
    """Everything that decides the weights, so that it can stand in the model card.

    Args:
        steps: Updates of the generator; the discriminators take as many.
        batch: Pictures per update.
        group: Neighbouring pictures of one class; see `ClassHead`.
        lr: Adam's learning rate of the generator.
        critic_lr: Of the discriminators.
        betas: Adam's moments.
        decay: Of the exponential moving average of the generator's weights.
        cooldown: Share of the steps, at the end, over which learning rates fall linearly to 0.
        latent: Length of z.
        embedding: Length of the class embedding.
        widths: Channels of the generator at 4, 8, 16 and 32 pixels.
        guide_layers: Layers of the guiding classifier that get a discriminator of their own;
            none for a plain projection discriminator.
        guide_size: Side at which the guiding classifier sees the pictures.
        encoder_steps: Updates of the encoder afterwards.
        seed: Of weights, order and latents.
        bf16: Run convolutions in bfloat16.
    """

    steps: int = 20_000
    batch: int = 48
    group: int = 4
    lr: float = 5e-4
    critic_lr: float = 1e-3
    betas: tuple[float, float] = (0.0, 0.99)
    decay: float = 0.999
    cooldown: float = 0.25
    latent: int = 64
    embedding: int = 32
    widths: tuple[int, int, int, int] = (256, 128, 64, 32)
    guide_layers: tuple[str, ...] = ("layer1", "layer2", "layer3")
    guide_size: int = 40
    encoder_steps: int = 4_000
    seed: int = 0
    bf16: bool = False


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

    Args:
        plan: What to do.
        photographs: Training photographs, 32×32.
        out: Folder of the checkpoint.
        guide: Frozen classifier for `plan.guide_layers`.
        resume: A checkpoint of an earlier run of the same plan.
        device: Where to train.
        report: Receives one line per `every` steps.
        every: Steps between checkpoints.

    Raises:
        InputError: `resume` is no checkpoint of this training, or `out` cannot be written.
    """
    data = _ByClass(photographs)
    torch.manual_seed(plan.seed)  # PyTorch's initialisers read the global generator
    players = Players(plan, len(data.classes), guide).to(device)
    players.to(memory_format=torch.channels_last)
    mean = deepcopy(players.generator)
    critics = [*players.discriminator.parameters(), *players.heads.parameters()]
    climbing = torch.optim.Adam(players.generator.parameters(), plan.lr, plan.betas)
    judging = torch.optim.Adam(critics, plan.critic_lr, plan.betas)
    first = 0
    if resume is not None:
        try:
            state = torch.load(resume, map_location=device, weights_only=True)
            players.load_state_dict(state["players"])
            mean.load_state_dict(state["mean"])
            climbing.load_state_dict(state["climbing"])
            judging.load_state_dict(state["judging"])
            first = state["step"]
        except Exception as error:  # a damaged pickle may raise anything
            what = str(error).strip().split("\n")[0]
            raise InputError(
                f"{resume}: is not a checkpoint of this training ({what:.120}). Give the "
                "checkpoint.pt of a run with the same classes and sizes."
            ) from None
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}).") from None
    started, kind = time.monotonic(), torch.device(device).type
    tallies = {"real": 0.0, "made": 0.0}
    for step in range(first, plan.steps):
        images, labels, latent, wanted = _draws(plan, data, step, device)
        rate = min(1.0, (plan.steps - step) / max(1.0, plan.cooldown * plan.steps))
        for optimizer, lr in ((climbing, plan.lr), (judging, plan.critic_lr)):
            optimizer.param_groups[0]["lr"] = lr * rate
        with torch.autocast(kind, torch.bfloat16, enabled=plan.bf16):
            made = players.generator(latent, players.generator.embeddings.weight.T[wanted])
            both = torch.cat([images, made.detach()]).contiguous(memory_format=torch.channels_last)
            scores = players.scores(both, torch.cat([labels, wanted]))
            loss = torch.stack([_hinge(score, len(images)) for score in scores]).sum()
        judging.zero_grad()
        loss.backward()
        judging.step()
        real, fake = scores[0].detach().split(len(images))
        tallies = {"real": tallies["real"] + real.mean(), "made": tallies["made"] + fake.mean()}
        for parameter in critics:
            parameter.requires_grad_(False)
        with torch.autocast(kind, torch.bfloat16, enabled=plan.bf16):
            scores = players.scores(made, wanted)  # the same pictures, by the improved judges
            loss = -torch.stack([score.mean() for score in scores]).sum()
        climbing.zero_grad()
        loss.backward()
        climbing.step()
        for parameter in critics:
            parameter.requires_grad_(True)
        _average(mean, players.generator, min(plan.decay, (step + 1) / (step + 10)))
        if (step + 1) % every == 0 or step + 1 == plan.steps:
            seconds = time.monotonic() - started
            shown = ", ".join(f"{name} {float(v) / every:+.2f}" for name, v in tallies.items())
            tallies = dict.fromkeys(tallies, 0.0)
            rate_now = (step + 1 - first) * plan.batch / seconds
            report(f"step {step + 1}/{plan.steps} {shown}, {rate_now:.0f} pictures/s")
            torch.save(
                {
                    "players": players.state_dict(),
                    "mean": mean.state_dict(),
                    "climbing": climbing.state_dict(),
                    "judging": judging.state_dict(),
                    "step": step + 1,
                },
                out / "checkpoint.pt",
            )
    settle(mean, plan, classes=len(data.classes))
    return mean.eval(), players.discriminator.eval()


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


def _hinge(scores: Tensor, real: int) -> Tensor:
    """Mean max(0, 1 - real) + mean max(0, 1 + made)."""
    return F.relu(1 - scores[:real]).mean() + F.relu(1 + scores[real:]).mean()


@torch.no_grad()
def _average(mean: nn.Module, now: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(mean.parameters()), list(now.parameters()), 1 - decay)


@torch.no_grad()
def settle(
    generator: KitGenerator, plan: GeneratorPlan, *, classes: int, batches: int = 64
) -> None:
    """Batch-norm statistics of the averaged weights, over many batches ("standing statistics")."""
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


def train_encoder(
    plan: GeneratorPlan,
    generator: KitGenerator,
    *,
    classes: int,
    device: str = "cpu",
    report: Report = print,
) -> KitEncoder:
    """Train an encoder on the generator's own pictures: from G(z, c) and c back to z.

    Args:
        plan: `encoder_steps`, `batch`, `seed`.
        generator: In evaluation mode.
        classes: Number of classes.
        device: Where to train.
        report: Receives one line per 500 steps.
    """
    torch.manual_seed(plan.seed + 1)
    generator = generator.to(device)
    table = generator.embeddings.weight.T.detach()
    encoder = KitEncoder(latent=plan.latent, embedding=plan.embedding).to(device)
    encoder.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(encoder.parameters(), 1e-3, (0.9, 0.99))
    kind = torch.device(device).type
    for step in range(plan.encoder_steps):
        draw = torch.Generator().manual_seed(plan.seed * 1_000_003 + 500_000_000 + step)
        latent = torch.randn(plan.batch, plan.latent, generator=draw).clamp(-2, 2).to(device)
        labels = torch.randint(classes, (plan.batch,), generator=draw).to(device)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - step / plan.encoder_steps)
        with torch.autocast(kind, torch.bfloat16, enabled=plan.bf16):
            with torch.no_grad():
                pictures = generator(latent, table[labels])
            guess = encoder(pictures, table[labels])
        loss = F.mse_loss(guess.float(), latent)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 500 == 0 or step + 1 == plan.encoder_steps:
            report(f"encoder step {step + 1}/{plan.encoder_steps} squared error {loss.item():.3f}")
    return encoder.eval()


def folded(classifier: Classifier) -> Classifier:
    """A copy whose batch norms are part of the convolutions before them."""
    copy = deepcopy(classifier)
    for parent in copy.net.modules():
        if not isinstance(parent, nn.Sequential):
            continue
        for index in range(len(parent) - 1):
            conv, norm = parent[index], parent[index + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent[index], parent[index + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return copy.requires_grad_(False)
