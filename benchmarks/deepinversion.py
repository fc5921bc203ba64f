"""DeepInversion set up twice: the released loop, and the engine on the same problem."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from measuring import ENGINE, Contest, Given
from released_deepinversion import MEAN, STD, DeepInversion, Settings, setting
from torch import nn

from invertkit.core.scene import Scene
from invertkit.core.schedules import Cosine
from invertkit.engine.problem import Problem, Stage, Term
from invertkit.engine.run import Run
from invertkit.models.classifiers.classifier import Classifier
from invertkit.objectives.outputs import CrossEntropy
from invertkit.objectives.priors import Norm, TotalVariation
from invertkit.objectives.statistics import BatchNormStatistics
from invertkit.optimizers.base import Optimizer
from invertkit.optimizers.torch_optim import Adam
from invertkit.optimizers.wrappers import Clip
from invertkit.variables.wrappers import Jitter

PHASES = {"full": 2, "half": 0}  # and the setting that begins so
LABEL = 1


def make_released(
    net: nn.Module, size: int, settings: Settings, *, batch: int = 1
) -> DeepInversion:
    """The released loop from noise, in the precision and on the device of the classifier.

    Its weights take gradients from now on, as those of a network just loaded do.
    """
    like = next(net.requires_grad_(True).parameters())
    noise = torch.randn(batch, 3, size, size).to(like.device, like.dtype)
    labels = torch.full((batch,), LABEL, device=like.device)
    return DeepInversion(classifier=net, labels=labels, x=noise, settings=settings)


def same_problem(loop: DeepInversion, **options: Any) -> Run:
    """The engine on what `loop` is solving, from a copy of its weights and of its image.

    Its total is that of the released loop times the number of images, since the released one
    averages them: so are its gradients, which Adam's `eps` has to follow. Shifts are drawn for each
    image, where the released loop shifts the batch alike.

    Args:
        loop: Not yet begun, but `iteration` may be set.
        options: Of `Run`.
    """
    numbers, batch, size = loop.settings, len(loop.x), loop.x.shape[-1]
    stages = [
        Stage((size // stage.shrink, size // stage.shrink), stage.iterations)
        for stage in numbers.stages
    ]
    optimizer: Optimizer = Adam(
        lr=Cosine("cosine", peak=numbers.lr, warmup=numbers.warmup),
        betas=numbers.betas,
        eps=1e-8 * batch,
    )
    space = partial(TotalVariation, space="imagenet")
    run = Run(
        Problem(
            scene=Scene,
            models={"classifier": Classifier(copy.deepcopy(loop.classifier), mean=MEAN, std=STD)},
            variable=Jitter(
                inner=Given(loop.x.detach().clone()),
                pixels=numbers.jitter,
                at=size,
                flip=0.5 if numbers.flip else 0.0,
            ),
            terms=[
                Term(CrossEntropy(target=int(loop.labels[0])), name="cross_entropy"),
                Term(
                    BatchNormStatistics(first_multiplier=numbers.first_bn_multiplier, coupled=True),
                    name="statistics",
                    weight=batch * numbers.statistics,
                ),
                Term(
                    space(form="l2", coupled=True),
                    name="total_variation",
                    weight=batch * numbers.total_variation,
                ),
                Term(Norm(squared=False, space="imagenet"), name="norm", weight=numbers.norm),
            ],
            optimizer=Clip(optimizer, space="imagenet") if numbers.clip else optimizer,
            players={},
            stages=stages,
            seeds=tuple(range(batch)),
            device=loop.x.device,
        ),
        **options,
    )
    run.step = loop.iteration - 1
    return run


def contest(
    net: nn.Module,
    size: int,
    *,
    phase: str,
    batch: int,
    device: torch.device,
    options: dict[str, Any],
) -> Contest:
    """`full`: at full size without clip, as in setting 2; `half`: the first stage of setting 0."""
    numbers = setting(PHASES[phase])
    loop = make_released(net.to(device), size, numbers, batch=batch)
    timed = partial(next, same_problem(loop, **options).steps())
    counted = partial(next, same_problem(loop).steps()) if options else timed
    side = size // numbers.stages[0].shrink
    name = f"{phase}: {side}×{side}"
    return Contest("deepinversion", name, loop.step, {ENGINE: timed}, {ENGINE: counted})
