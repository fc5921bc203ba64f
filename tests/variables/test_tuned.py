from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from invertkit.core.randomness import Randomness
from invertkit.engine.problem import Term
from invertkit.engine.run import Run
from invertkit.errors import InputError
from invertkit.models.generators.generator import Generator
from invertkit.models.generators.latents import latent_and_class
from invertkit.objectives.reference import PixelDistance, WeightDeviation
from invertkit.optimizers.torch_optim import Adam
from invertkit.variables.transformed import Transformed
from invertkit.variables.tuned import Tuned
from tests.helpers import normal
from tests.latents import (
    SEEDS,
    SMALL,
    begun,
    finished,
    generator64,
    latent_problem,
    latent_scene,
    latents,
)

INNER: list[Callable[[], Any]] = [latents, lambda: Transformed(inner=latents(), colour=("hue",))]


@pytest.mark.parametrize("make", INNER)
def test_a_change_of_nothing_changes_nothing(make: Callable[[], Any]) -> None:
    scene, randomness = latent_scene(), Randomness(SEEDS)
    inner, tuned = (each.bind(scene.models) for each in (make(), Tuned(inner=make())))
    params = begun(tuned, scene)
    assert not params["weights"].any()
    assert tuned.names == (*inner.names, "weights")
    assert tuned.frame_names == inner.frame_names
    for name, wanted in begun(inner, scene).items():
        assert torch.equal(params[name], wanted)
    for mine, wanted in (
        (tuned.image(params, scene), inner.image(params, scene)),
        (tuned.look(params, scene, randomness, 0), inner.look(params, scene, randomness, 0)),
    ):
        torch.testing.assert_close(mine, wanted, rtol=1e-12, atol=1e-12)  # one at a time
    look = tuned.look(params, scene, randomness, 0)
    assert torch.equal(tuned.still(look, params, scene), tuned.image(params, scene))
    params["latent"] *= 9
    tuned.confine(params)
    assert params["latent"].abs().max() == 2


def test_every_image_has_weights_of_its_own_and_their_gradient() -> None:
    generator: Generator = generator64()
    latent, embedding = normal(2, 5), generator.tables["embedding"][[0, 2]]
    change = (0.05 * normal(2, generator.tunable_size())).requires_grad_()
    pictures = generator.generate_with(change, latent=latent, embedding=embedding)
    pull = normal(*pictures.shape, seed=7)
    (slope,) = torch.autograd.grad((pictures * pull).sum(), change)
    for i in range(2):
        weights = {
            name: weight.clone().requires_grad_()
            for name, weight in generator.net.named_parameters()
        }
        names, offset = generator.tunable(), 0
        assert set(weights) - set(names) == {"embeddings.weight"}
        changed = dict(weights)
        for name in names:
            size = weights[name].numel()
            part = change[i, offset : offset + size].detach().reshape(weights[name].shape)
            changed[name] = (weights[name] + part).detach().requires_grad_()
            offset += size
        assert offset == generator.tunable_size()
        picture = functional_call(generator.net, changed, (latent[i : i + 1], embedding[i : i + 1]))
        picture = picture / 2 + 0.5
        torch.testing.assert_close(pictures[i : i + 1], picture, rtol=1e-12, atol=1e-12)
        slopes = torch.autograd.grad((picture * pull[i]).sum(), [changed[n] for n in names])
        wanted = torch.cat([each.flatten() for each in slopes])
        torch.testing.assert_close(slope[i], wanted, rtol=1e-10, atol=1e-12)
    assert not any(weight.requires_grad for weight in generator.parameters())


def test_stages_hand_over_what_they_share_by_name() -> None:
    moved = Transformed(inner=latents())
    problem = latent_problem(
        (2, Adam(lr=0.1), latents()),
        (2, Adam(lr=0.1, over=("latent",)), moved),
        (2, Adam(lr=0.01, over=("weights",)), Tuned(inner=moved)),
        terms=(
            Term(PixelDistance(form="l2"), name="l2"),
            Term(WeightDeviation(), name="deviation", weight=1e-3, stages=("2",)),
        ),
    )
    named = [replace(stage, name=str(i)) for i, stage in enumerate(problem.stages)]
    run, found = Run(replace(problem, stages=named)), []
    before = moved.bind(problem.models).start(
        replace(problem.scene(SMALL), models=problem.models), Randomness(problem.seeds)
    )
    for report in run.steps():
        found.append((report.stage, {n: p.detach().clone() for n, p in run.params.items()}))
    first, second, last = (found[i][1] for i in (1, 3, 5))
    assert [len(each) for each in (first, second, last)] == [2, 3, 4]
    assert torch.equal(second["embedding"], first["embedding"])  # not a new one
    assert torch.equal(second["transform"], before["transform"])
    assert not torch.equal(second["latent"], first["latent"])
    for name, param in second.items():
        assert torch.equal(param, last[name])
    assert last["weights"].any()
    assert list(run.best_tensors()) == ["latent", "embedding", "transform", "weights"]


def test_stages_of_two_generators_do_not_hand_over() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        other = generator64()
        other.net.gen_z = nn.Linear(7 + 4, 8 * 16)
        other = Generator(other.net, latents=latent_and_class(7), size=8)
    problem = latent_problem(
        (1, Adam()), (1, Adam(), latents(model="other")), other=other, seeds=(0,)
    )
    with pytest.raises(
        InputError, match=r"Stage 2 takes over 'latent' as \(1, 5\) .* wants \(1, 7\)"
    ):
        finished(problem)
