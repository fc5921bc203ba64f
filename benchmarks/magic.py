"""MAGIC set up twice: the released loop, and the engine on the same problem.

Phase A is the first 5,000 iterations; B adds the critic; in C the segmenter has stopped learning.
`frozen` has a segmenter that learnt before the first step, as in the paper.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from measuring import Call, Contest, Given
from released import TAPS, Released, make_critic, make_segmenter, normalised
from torch import nn
from torch.nn import functional as F

from invertkit.core.images.inputs import Inputs
from invertkit.core.scene import Scene
from invertkit.core.schedules import Cosine
from invertkit.engine.problem import Problem, Stage, Term
from invertkit.engine.run import Run
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.critics.patch_critic import PatchCriticNet
from invertkit.models.segmenters.encoder_decoder import EncoderDecoder
from invertkit.objectives.asked_players import CriticScore, MaskBCE
from invertkit.objectives.outputs import CrossEntropy
from invertkit.objectives.priors import Norm, TotalVariation
from invertkit.objectives.statistics import FeatureStatistics
from invertkit.optimizers.torch_optim import Adam
from invertkit.players.critic import PatchCritic
from invertkit.players.segmenter import Segmenter
from invertkit.variables.pixels import Pixels

PHASES = {"A": 1, "B": 5_001, "C": 10_001}  # and their first iteration
CYCLE = 5  # iterations from one critic update to the next


def make_released(
    net: nn.Module, size: int, dtype: torch.dtype = torch.float32, *, batch: int = 1
) -> Released:
    """The released loop on a smooth image with a square object that shall move to the right.

    All is in `dtype`; the classifier has to be already, and all goes where it is. A batch has as
    many copies of the image and its masks.
    """
    device = next(net.parameters()).device
    image = F.interpolate(torch.rand(1, 3, 8, 8), (size, size), mode="bicubic").clamp(0, 1)
    image = image.to(device, dtype).repeat(batch, 1, 1, 1)
    mask = torch.zeros(batch, 1, size, size, dtype=dtype, device=device)
    mask[..., size // 3 : 2 * size // 3, size // 8 : size // 2] = 1
    return Released(
        classifier=net,
        segmenter=make_segmenter().to(device, dtype),
        critic=make_critic().to(device, dtype),
        reference=normalised(image),
        mask=mask,
        target=mask.roll(size // 3, dims=3),
        x=torch.randn(batch, 3, size, size).to(device, dtype),
    )


def same_problem(loop: Released, *, frozen: bool = False, **options: Any) -> Run:
    """The engine on what `loop` is solving, from copies of its weights and of its image.

    Of a batch every image has a critic and statistics of its own, where the released loop couples
    them all: that is the same task, but not the same numbers.

    Args:
        loop: Not yet begun, but `iteration` may be set.
        frozen: The segmenter has learnt before the first step. How long does not matter to the
            time of a step, so here it has not at all.
        options: Of `Run`.
    """
    numbers, device, dtype = loop.settings, loop.x.device, loop.x.dtype
    segmenter = Segmenter(
        when="before" if frozen else "during",
        updates=0 if frozen else numbers.segmenter_until - 1,
        space="imagenet",
        lr=numbers.player_lr,
        betas=numbers.player_betas,
    )
    critic = PatchCritic(
        space="imagenet",
        start=numbers.critic_after,
        every=numbers.critic_every,
        lr=numbers.player_lr,
        betas=numbers.player_betas,
        penalty=numbers.penalty,
    )
    batch = len(loop.x)
    segmenter.net = EncoderDecoder().to(device, dtype)
    critic.net = PatchCriticNet(generators=(None,) * batch).to(device, dtype)
    _copy_weights(loop.segmenter, segmenter.net)
    _copy_weights(loop.critic, critic.net)
    size = (loop.x.shape[-2], loop.x.shape[-1])
    reference = Pixels(space="imagenet").image({"pixels": loop.reference[:1]}, Scene(size))
    scene = Scene(
        size,
        Inputs.of({"image": reference, "mask": loop.mask[:1], "target": loop.target[:1]}),
    )
    smooth = partial(TotalVariation, space="imagenet")
    run = Run(
        Problem(
            scene=lambda _size: scene,
            models={"classifier": Classifier(copy.deepcopy(loop.classifier))},
            variable=Given(loop.x.detach().clone()),
            terms=[
                Term(CrossEntropy(), name="cross_entropy"),
                Term(FeatureStatistics(layers=TAPS), name="statistics", weight=numbers.statistics),
                Term(
                    smooth(form="l1"), name="total_variation_l1", weight=numbers.total_variation_l1
                ),
                Term(
                    smooth(form="l2"), name="total_variation_l2", weight=numbers.total_variation_l2
                ),
                Term(Norm(squared=False, space="imagenet"), name="norm", weight=numbers.norm),
                Term(MaskBCE(), name="mask", weight=numbers.mask),
                Term(
                    CriticScore(), name="critic", weight=numbers.critic, start=numbers.critic_after
                ),
            ],
            optimizer=Adam(
                lr=Cosine("cosine", peak=numbers.lr, warmup=numbers.warmup), betas=numbers.betas
            ),
            players={"segmenter": segmenter, "critic": critic},
            stages=[Stage(scene.size, numbers.total)],
            seeds=tuple(range(batch)),
            device=device,
        ),
        **options,
    )
    run.step = loop.iteration - 1
    return run


def _copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Into every network of a stack."""
    with torch.no_grad():
        for theirs, ours in zip(source.parameters(), target.parameters(), strict=True):
            ours.copy_(theirs)


def contest(
    net: nn.Module,
    size: int,
    *,
    phase: str,
    batch: int,
    device: torch.device,
    options: dict[str, Any],
) -> Contest:
    """A phase; in B and C every fifth step updates the critic."""
    loop = make_released(net.to(device), size, batch=batch)
    loop.iteration = PHASES[phase]
    # In C the segmenter has stopped learning in any case.
    kinds = {"frozen": False} if phase == "C" else {"learning": False, "frozen": True}
    runs: list[Run] = []

    def engines(**options: Any) -> dict[str, Call]:
        mine = {name: same_problem(loop, frozen=f, **options) for name, f in kinds.items()}
        runs.extend(mine.values())
        return {name: partial(next, run.steps()) for name, run in mine.items()}

    timed = engines(**options)
    return Contest(
        "magic",
        phase,
        loop.step,
        timed,
        engines() if options else timed,
        kinds={"plain": 1.0} if phase == "A" else {"plain": 0.8, "update": 0.2},
        go_to=partial(_go_to, loop, runs, critic=phase != "A"),
    )


def _go_to(loop: Released, runs: list[Run], kind: str, *, critic: bool) -> None:
    """Pass over the iterations of other kinds."""
    if not critic:
        return
    while (loop.iteration % CYCLE == 0) != (kind == "update"):
        loop.iteration += 1
    for run in runs:
        while ((run.step + 1) % CYCLE == 0) != (kind == "update"):
            run.step += 1
