"""An encoder that learns from a generator and its discriminator."""

from __future__ import annotations

import pytest
import torch

from invertkit.errors import InputError
from invertkit.training.projection.descent import Descent
from invertkit.training.projection.encoder import EncoderLesson
from invertkit.training.projection.plan import EncoderPlan
from invertkit.training.projection.subject import Subject
from tests.helpers import tiny_classifier, uniform
from tests.latents import generator64
from tests.training.projection.tiny import SIDE, tiny_subject


def lesson(**options: float) -> EncoderLesson:
    made = EncoderLesson(EncoderPlan(**options), tiny_subject())  # type: ignore[arg-type]
    made.net.double()
    return made


def test_the_loss_is_the_distance_of_what_is_made_of_the_photographs() -> None:
    learning, labels = lesson(pixels=0.3), torch.tensor([2, 0])
    photographs, subject = uniform(2, 3, SIDE, SIDE), learning.of
    latent = learning.net(photographs * 2 - 1, subject.table[labels])
    made = subject.generator.generate(latent=latent, embedding=subject.table[labels])
    goal = subject.directions(photographs)
    wanted = subject.distance(made, photographs, goal, pixels=0.3)
    loss, told = learning.losses(photographs, labels)
    torch.testing.assert_close(loss, wanted.sum())
    torch.testing.assert_close(told["distance"], wanted.mean())


def test_it_learns_and_nothing_else_does() -> None:
    learning = lesson()
    before = [p.clone() for p in learning.of.generator.parameters()]
    descent = Descent(EncoderPlan(steps=40, lr=3e-3), learning, device="cpu")
    photographs, labels = uniform(4, 3, SIDE, SIDE), torch.tensor([0, 1, 2, 0])
    first = float(learning.losses(photographs, labels)[0].detach())
    for _ in range(20):
        descent.update(photographs, labels)
    assert float(learning.losses(photographs, labels)[0].detach()) < 0.9 * first
    after = list(learning.of.generator.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_pictures_of_another_shape_are_refused() -> None:
    subject = Subject(generator64(size=8), tiny_classifier(torch.float64))
    with pytest.raises(InputError, match=r"makes pictures of 8×8; an encoder is trained for"):
        EncoderLesson(EncoderPlan(), subject)
