"""The training of a generator: whole, stopped, taken up, refused."""

from __future__ import annotations

import math
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from invertkit.errors import InputError
from invertkit.training.data.photographs import PhotographSet
from invertkit.training.generator.plan import GeneratorPlan
from invertkit.training.generator.train import train_generator
from invertkit.training.loop.checkpoints import CHECKPOINT
from tests.helpers import global_generators_unmoved, same, tiny_classifier
from tests.training.generator.tiny import PLAN, QUIET, some_photographs


def test_a_resumed_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    data, guide = some_photographs(), tiny_classifier(torch.float32)
    before = deepcopy(guide.state_dict())
    said: list[str] = []

    def stop(line: str) -> None:
        said.append(line)
        raise KeyboardInterrupt

    with global_generators_unmoved():
        whole, judge = train_generator(
            PLAN, data, out=tmp_path / "whole", guide=guide, report=QUIET, every=3
        )
        with pytest.raises(KeyboardInterrupt):
            train_generator(PLAN, data, out=tmp_path / "half", guide=guide, report=stop, every=4)
        kept = tmp_path / "half" / CHECKPOINT
        assert torch.load(kept, weights_only=True)["step"] == 4
        rest, judge_too = train_generator(
            PLAN, data, out=tmp_path / "half", guide=guide, resume=kept, report=said.append
        )
    assert same(whole.state_dict(), rest.state_dict())
    assert same(judge.state_dict(), judge_too.state_dict())
    ends = [torch.load(tmp_path / x / CHECKPOINT, weights_only=True) for x in ("whole", "half")]
    assert same(*ends)
    assert ends[0]["step"] == 8
    assert ends[0]["climbing"]["param_groups"][0]["lr"] == pytest.approx(PLAN.lr / 2)  # cooldown
    assert [path.name for path in (tmp_path / "half").iterdir()] == [CHECKPOINT]
    assert re.fullmatch(r"step 8/8 real [+-]\d\.\d\d, made [+-]\d\.\d\d, \d+ pictures/s", said[-1])
    assert same(before, guide.state_dict())


def test_another_seed_trains_other_weights(tmp_path: Path) -> None:
    data, plan = some_photographs(), replace(PLAN, steps=1, guide_layers=())
    nets = [
        train_generator(replace(plan, seed=seed), data, out=tmp_path, report=QUIET)[0]
        for seed in (0, 0, 1)
    ]
    assert same(nets[0].state_dict(), nets[1].state_dict())
    assert not torch.equal(nets[0].to_rgb.weight, nets[2].to_rgb.weight)


def test_a_checkpoint_without_a_plan_is_taken(tmp_path: Path) -> None:
    data, plan = some_photographs(), replace(PLAN, steps=2, guide_layers=())
    done, _ = train_generator(plan, data, out=tmp_path, report=QUIET)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    del state["plan"]
    torch.save(state, tmp_path / "old.pt")
    again, _ = train_generator(plan, data, out=tmp_path, resume=tmp_path / "old.pt", report=QUIET)
    assert same(done.state_dict(), again.state_dict())
    with pytest.raises(InputError, match="is at step 2, beyond the 1 asked for"):
        train_generator(
            replace(plan, steps=1), data, out=tmp_path, resume=tmp_path / "old.pt", report=QUIET
        )


def test_wrong_checkpoints_are_told(tmp_path: Path) -> None:
    data, plan = some_photographs(), replace(PLAN, steps=1, guide_layers=())
    train_generator(plan, data, out=tmp_path, report=QUIET)
    kept = tmp_path / CHECKPOINT

    def refused(plan: GeneratorPlan, data: PhotographSet, path: Path, message: str) -> None:
        with pytest.raises(InputError, match=message):
            train_generator(plan, data, out=tmp_path / "x", resume=path, report=QUIET)
        assert not (tmp_path / "x").exists()

    refused(replace(plan, lr=1e-3), data, kept, r"was begun with lr 0\.0003, not 0\.001\. Go on")
    refused(plan, some_photographs(classes=2), kept, "is not a checkpoint of this training")
    refused(plan, data, tmp_path / "none.pt", "no such checkpoint; there is nothing to go on from")
    (tmp_path / "bad.pt").write_bytes(kept.read_bytes()[:500])
    refused(plan, data, tmp_path / "bad.pt", "is not a whole checkpoint of a training")
    longer = replace(plan, encoder_steps=9, steps=2)
    train_generator(longer, data, out=tmp_path, resume=kept, report=QUIET)
    assert torch.load(kept, weights_only=True)["plan"]["steps"] == 2


def test_a_training_that_diverges_ends_with_a_sentence(tmp_path: Path) -> None:
    plan = replace(PLAN, guide_layers=(), lr=math.inf)
    with pytest.raises(InputError, match=r"not finite before step 8; .* smaller --lr"):
        train_generator(plan, some_photographs(), out=tmp_path, report=QUIET)
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_trains_too(tmp_path: Path) -> None:
    net, _ = train_generator(
        replace(PLAN, steps=2, bf16=True), some_photographs(), out=tmp_path,
        guide=tiny_classifier(torch.float32), report=QUIET,
    )  # fmt: skip
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in net.parameters())
