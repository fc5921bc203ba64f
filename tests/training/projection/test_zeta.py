"""Auxiliary networks that learn to be descended in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.training.projection.descent import Descent
from invertkit.training.projection.plan import ZetaPlan
from invertkit.training.projection.zeta import ZetaLesson
from tests.helpers import global_generators_unmoved, normal, uniform
from tests.latents import encoder64
from tests.training.projection.tiny import SIDE, tiny_encoder, tiny_subject

SMALL: dict[str, Any] = {"zeta": 9, "hidden": 7}


def lesson(**options: Any) -> ZetaLesson:
    made = ZetaLesson(ZetaPlan(**SMALL | options), tiny_subject(), tiny_encoder())
    made.net.double()
    return made


def batch() -> tuple[Tensor, Tensor]:
    return uniform(2, 3, SIDE, SIDE), torch.tensor([2, 0])


def restated(learning: ZetaLesson, photographs: Tensor, labels: Tensor) -> Tensor:
    """The loss written out, one photograph after the other."""
    total, plan, net, subject = torch.zeros(()).double(), learning.plan, learning.net, learning.of
    for photograph, label in zip(photographs.split(1), labels.split(1), strict=True):
        latent = learning.begun(photograph, label)
        goal = subject.directions(photograph)

        def loss_of(zeta: Tensor, label: Tensor = label, at: Any = (photograph, goal)) -> Tensor:
            made = subject.pictures(net.collapse(zeta), label)
            return subject.distance(made, *at, pixels=plan.pixels).sum()

        zeta = net.expand(latent)
        total = total + 100 * F.mse_loss(net.collapse(zeta), latent)
        squares = torch.full_like(zeta, 1e-8)
        for weight in (20.0, 2.0, 1.0):
            loss = loss_of(zeta)
            total = total + weight * loss
            (slope,) = torch.autograd.grad(loss, zeta, create_graph=True)
            squares = squares + slope**2
            zeta = zeta - net.rates * slope / squares.sqrt()
    return total


def test_the_loss_is_the_one_written_out() -> None:
    learning = lesson(rate="learned")
    loss, told = learning.losses(*batch())
    wanted = restated(learning, *batch())
    torch.testing.assert_close(loss, wanted)
    assert list(told) == ["L0", "L1", "L2", "z there and back"]
    weights = list(learning.net.parameters())
    ours = torch.autograd.grad(loss, weights)
    theirs = torch.autograd.grad(wanted, weights)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_slopes_are_those_of_finite_differences_through_the_inner_steps() -> None:
    learning = lesson(rate="learned", inner_weights=(0.0, 0.0, 1.0), reconstruction=0.0)
    weight = learning.net.b2.weight
    loss, _ = learning.losses(*batch())
    (slope,) = torch.autograd.grad(loss, weight)
    for place in ((0, 0), (3, 5)):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[place] += sign * 1e-6
            ends.append(float(learning.losses(*batch())[0].detach()))
            with torch.no_grad():
                weight[place] -= sign * 1e-6
        torch.testing.assert_close(
            float(slope[place]), (ends[0] - ends[1]) / 2e-6, rtol=1e-4, atol=1e-7
        )


@pytest.mark.parametrize("rate", ["frozen", "learned"])
def test_the_inner_rate_is_frozen_as_released_or_learned_as_the_text_has_it(rate: str) -> None:
    learning = lesson(rate=rate)
    descent = Descent(ZetaPlan(steps=9, **SMALL, rate=rate), learning, device="cpu")  # type: ignore[arg-type]
    first = learning.losses(*batch())[0].detach()
    before = learning.net.rates.detach().clone()
    slopes = learning.net.a_slopes.weight.detach().clone()
    for _ in range(5):
        descent.update(*batch())
    assert torch.equal(learning.net.rates, before) == (rate == "frozen")
    assert not torch.equal(learning.net.a_slopes.weight, slopes)
    assert learning.losses(*batch())[0].detach() < first


def test_warmed_networks_bring_z_back() -> None:
    learning, latent = lesson(warm_steps=250, zeta=40, hidden=30), normal(50, 5)
    before = F.mse_loss(learning.net(latent), latent)
    with global_generators_unmoved():
        learning.warm()
    assert F.mse_loss(learning.net(latent), latent) < before / 2
    again = lesson(warm_steps=250, zeta=40, hidden=30)
    again.warm()
    assert torch.equal(again.net(latent), learning.net(latent))
    assert (learning.net.rates == learning.net.rates[0]).all()


def test_an_encoder_of_another_generator_is_refused() -> None:
    other = ZetaLesson(ZetaPlan(**SMALL), tiny_subject(), encoder64(latent=6))
    with pytest.raises(InputError, match="--encoder: a tiny encoder gives 6 numbers"):
        other.losses(*batch())
    encoder = encoder64()
    encoder.gives = ("w",)
    with pytest.raises(InputError, match="--encoder: a tiny encoder is none for a tiny generator"):
        ZetaLesson(ZetaPlan(**SMALL), tiny_subject(), encoder)
