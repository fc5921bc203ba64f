"""A training that may be stopped anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invertkit.errors import InputError
from invertkit.training.generator.draws import ByClass
from invertkit.training.loop.checkpoints import CHECKPOINT
from invertkit.training.projection.descent import Descent, descend, photographs_of
from invertkit.training.projection.plan import DescentPlan, EncoderPlan, ZetaOrders, ZetaPlan
from invertkit.training.projection.zeta import ZetaLesson
from tests.helpers import global_generators_unmoved, same
from tests.training.projection.tiny import photographs, tiny_encoder, tiny_subject

PLAN = ZetaPlan(steps=9, batch=2, zeta=6, hidden=5, lr=1e-3)


def descent(plan: ZetaPlan = PLAN) -> Descent:
    subject = tiny_subject()
    subject.generator.float()
    subject.discriminator.float()
    subject.to("cpu")
    return Descent(plan, ZetaLesson(plan, subject, tiny_encoder().float()), device="cpu")


def orders(out: Path, **more: Any) -> ZetaOrders:
    return ZetaOrders(data=out, out=out, save_every=3, **more)


@given(seed=st.integers(0, 100), step=st.integers(0, 1000), batch=st.integers(1, 9))
def test_photographs_depend_on_the_step_alone_and_have_their_class(
    seed: int, step: int, batch: int
) -> None:
    data, plan = photographs(), DescentPlan(batch=batch, seed=seed)
    by_class, classes = ByClass(data), data.labels.unique()
    images, labels = photographs_of(by_class, classes, plan, step)
    again, same_labels = photographs_of(by_class, classes, plan, step)
    assert torch.equal(images, again)
    assert torch.equal(labels, same_labels)
    for image, label in zip(images, labels, strict=True):
        of_class = data.images[data.labels == label].float() / 255
        either = torch.cat([of_class, of_class.flip(-1)])
        assert (either == image).flatten(1).all(1).any()


@pytest.mark.parametrize("stop", [3, 6])
def test_a_resumed_training_ends_in_the_same_weights(stop: int, tmp_path: Path) -> None:
    with global_generators_unmoved():
        whole = descent()
        lines: list[str] = []
        descend(whole, photographs(), orders=orders(tmp_path / "whole"), report=lines.append)
        assert [line.split()[1] for line in lines] == ["3/9", "6/9", "9/9"]
        part = descent()
        begun = orders(tmp_path / "part")

        def halt(_: str) -> None:
            if part.step == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            descend(part, photographs(), orders=begun, report=halt)
        rest = descent()
        rest.restore(begun.out / CHECKPOINT)
        assert rest.step == stop
        descend(rest, photographs(), orders=begun, report=lines.append)
    assert same(rest.lesson.net.state_dict(), whole.lesson.net.state_dict())
    assert same(rest.optimizer.state_dict(), whole.optimizer.state_dict())


def test_the_rate_falls_over_the_last_ninth() -> None:
    plan = replace(PLAN, steps=18)
    going = descent(plan)
    rates = []
    by_class, classes = ByClass(photographs()), torch.tensor([0, 2])
    for step in range(18):
        going.update(*photographs_of(by_class, classes, plan, step))
        rates.append(going.optimizer.param_groups[0]["lr"] / plan.lr)
    assert rates[:17] == [1.0] * 17
    assert rates[17] == pytest.approx(0.5)


def test_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    going = descent()
    descend(going, photographs(), orders=orders(tmp_path), report=lambda _: None)
    path = tmp_path / CHECKPOINT
    with pytest.raises(InputError, match="was begun with zeta 6, not 7"):
        descent(replace(PLAN, zeta=7)).restore(path)
    with pytest.raises(InputError, match="is at step 9, beyond the 8 asked for"):
        descent(replace(PLAN, steps=8)).restore(path)
    other = descent()
    other.lesson.subject = "another generator"
    with pytest.raises(InputError, match="was begun with subject a tiny generator"):
        other.restore(path)
    other = descent()
    other.plan = EncoderPlan()
    with pytest.raises(InputError, match="was begun with"):
        other.restore(path)
    longer = descent(replace(PLAN, steps=12, lr=0.5))
    longer.restore(path)
    assert longer.step == 9


def test_a_training_that_diverges_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    going = descent(replace(PLAN, steps=6))
    ready = orders(tmp_path)

    def spoil(_: str) -> None:
        going.lesson.net.b2.weight.data.fill_(float("nan"))  # type: ignore[union-attr]

    with pytest.raises(InputError, match="the loss was not finite before step 6"):
        descend(going, photographs(), orders=ready, report=spoil)
    fresh = descent()
    fresh.restore(tmp_path / CHECKPOINT)
    assert fresh.step == 3
