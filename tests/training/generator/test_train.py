"""The training of a generator: whole, stopped, taken up, refused."""

from __future__ import annotations

import math
import re
import signal
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from invertkit.errors import InputError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.training.data.photographs import PhotographSet
from invertkit.training.generator.networks import GameNetworks
from invertkit.training.generator.plan import GeneratorPlan
from invertkit.training.generator.settling import settle
from invertkit.training.generator.standardizing import moments
from invertkit.training.generator.train import train_generator
from invertkit.training.loop.checkpoints import CHECKPOINT
from tests.helpers import global_generators_unmoved, same
from tests.training.generator.tiny import PLAN, QUIET, eyes, orders, some_photographs


def trained(
    out: Path, plan: GeneratorPlan = PLAN, data: PhotographSet | None = None, **options: object
) -> GameNetworks:
    data = some_photographs() if data is None else data
    return train_generator(plan, data, eyes=eyes(), orders=orders(out, **options), report=QUIET)


def kept(out: Path) -> dict[str, object]:
    state: dict[str, object] = torch.load(out / CHECKPOINT, weights_only=True)
    return state


def test_a_resumed_training_ends_in_the_same_weights(tmp_path: Path) -> None:
    data, seeing, half = some_photographs(), eyes(), tmp_path / "half"
    before, said = deepcopy(seeing.state_dict()), list[str]()

    def interrupt(networks: GameNetworks, step: int) -> None:
        signal.raise_signal(signal.SIGINT)  # while step 4 has ended and step 5 has not begun

    with global_generators_unmoved():
        whole = trained(tmp_path / "whole", save_every=3)
        with pytest.raises(KeyboardInterrupt):
            train_generator(
                PLAN, data, eyes=seeing, orders=orders(half, sheet_every=4), report=said.append,
                look=interrupt,
            )  # fmt: skip
        assert kept(half)["step"] == 4
        rest = train_generator(
            PLAN, data, eyes=seeing, orders=orders(half, resume=half / CHECKPOINT),
            report=said.append,
        )  # fmt: skip
    assert same(whole.state_dict(), rest.state_dict())
    assert same(kept(tmp_path / "whole"), kept(half))
    assert kept(half)["step"] == 8
    assert [path.name for path in half.iterdir()] == [CHECKPOINT]
    assert re.fullmatch(
        r"step 8/8 real [+-]\d\.\d\d, made [+-]\d\.\d\d, "
        r"copies \d\.\d\d apart, \d+ nats, \d+ pictures/s", said[-1],
    )  # fmt: skip
    assert same(before, seeing.state_dict())


def test_what_is_fixed_stays_fixed_and_what_learns_moves(tmp_path: Path) -> None:
    first = trained(tmp_path / "a", replace(PLAN, steps=1)).state_dict()
    last = trained(tmp_path / "b").state_dict()
    for name, value in last.items():
        moved = not torch.equal(value, first[name])
        if name.startswith("mixer."):
            assert not moved, name
        elif name.endswith("weight") and "parametrizations" not in name:
            assert moved, name


def test_rates_may_be_others_when_a_training_goes_on(tmp_path: Path) -> None:
    plan = replace(PLAN, steps=1)
    trained(tmp_path, plan)
    longer = replace(plan, steps=3, lr=1e-4, critic_lr=2e-4, warm_lr=3e-4)
    trained(tmp_path, longer, resume=tmp_path / CHECKPOINT)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert state["plan"]["steps"] == 3
    rates = [
        [group["lr"] for group in state[key]["param_groups"]] for key in ("climbing", "judging")
    ]
    assert rates == [[1e-4, 3e-4], [2e-4]]


def test_while_it_warms_up_nobody_judges_and_the_encoder_learns(tmp_path: Path) -> None:
    start = trained(tmp_path / "start", replace(PLAN, steps=1, warm_steps=8)).state_dict()
    warm = trained(tmp_path / "warm", replace(PLAN, warm_steps=8)).state_dict()
    for name, value in warm.items():
        if name.startswith("heads."):
            assert torch.equal(value, start[name]), name
        elif name.startswith("posterior.") and name.endswith("weight"):
            assert not torch.equal(value, start[name]), name


def test_after_warming_up_the_latents_of_photographs_are_standard(tmp_path: Path) -> None:
    data, plan = some_photographs(), replace(PLAN, warm_steps=30, steps=30, batch=8, warm_lr=3e-3)

    def centre(networks: GameNetworks) -> float:
        return float(moments(networks.posterior, networks.generator, data).mean.norm())

    warm = centre(trained(tmp_path / "a", plan, data))
    # One step further it has been made standard, and learnt a step.
    assert centre(trained(tmp_path / "b", replace(plan, steps=31), data)) < 0.5 * warm


def test_without_copies_the_encoder_stays_as_it_was_drawn(tmp_path: Path) -> None:
    alone = replace(PLAN, warm_steps=0, reconstructed=0.0)
    first = trained(tmp_path / "a", replace(alone, steps=1))
    last = trained(tmp_path / "b", alone)
    assert same(first.posterior.state_dict(), last.posterior.state_dict())
    assert not same(first.generator.state_dict(), last.generator.state_dict())


def test_a_generator_learns_to_copy(tmp_path: Path) -> None:
    data, plan = some_photographs(), replace(PLAN, warm_steps=60, steps=60, batch=8, warm_lr=3e-3)

    def apart(networks: GameNetworks) -> float:
        images = data.images.float() / 127.5 - 1
        table = networks.generator.embeddings.weight.T
        settle(networks.generator, plan, classes=3, batches=4)
        with torch.no_grad():
            code = networks.posterior(images, table[data.labels])
            made = networks.generator(code[:, : plan.latent], table[data.labels])
        return (made - images).abs().mean().item()

    untrained = trained(tmp_path / "a", replace(plan, steps=1), data)
    assert apart(trained(tmp_path / "b", plan, data)) < 0.6 * apart(untrained)


def test_the_networks_that_come_back_hold_the_average(tmp_path: Path) -> None:
    done = trained(tmp_path)
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    for part in ("generator", "posterior"):
        for name, weight in done.get_submodule(part).named_parameters():
            assert torch.equal(weight, state["mean"][part][name])
        assert not same(state["mean"][part], {
            name.removeprefix(f"{part}."): value
            for name, value in state["players"].items() if name.startswith(f"{part}.")
        })  # fmt: skip
    assert not done.training


def test_another_seed_trains_other_weights(tmp_path: Path) -> None:
    nets = [trained(tmp_path, replace(PLAN, steps=1, seed=seed)).generator for seed in (0, 0, 1)]
    assert same(nets[0].state_dict(), nets[1].state_dict())
    assert not torch.equal(nets[0].to_rgb.weight, nets[2].to_rgb.weight)


def test_wrong_checkpoints_are_told(tmp_path: Path) -> None:
    data, plan = some_photographs(), replace(PLAN, steps=2)
    trained(tmp_path, plan)
    file = tmp_path / CHECKPOINT

    def refused(
        message: str, plan: GeneratorPlan = plan, data: PhotographSet = data, path: Path = file,
        seeing: Classifier | None = None,
    ) -> None:  # fmt: skip
        with pytest.raises(InputError, match=message):
            train_generator(
                plan, data, eyes=seeing or eyes(), orders=orders(tmp_path / "x", resume=path),
                report=QUIET,
            )  # fmt: skip
        assert not (tmp_path / "x").exists()

    refused(r"was begun with latent 6, not 7\. Go on", replace(plan, latent=7))
    refused("was begun with classes", data=some_photographs(classes=2))
    other = eyes()
    other.description = "another network"
    refused("was begun with eyes a tiny network, not another network", seeing=other)
    refused("no such checkpoint; there is nothing to go on from", path=tmp_path / "none.pt")
    refused("is at step 2, beyond the 1 asked for", replace(plan, steps=1))
    (tmp_path / "bad.pt").write_bytes(file.read_bytes()[:500])
    refused("is not a whole checkpoint of a training", path=tmp_path / "bad.pt")
    state = torch.load(file, weights_only=True)
    del state["mean"]
    torch.save(state, tmp_path / "less.pt")
    refused("is not a checkpoint of this training", path=tmp_path / "less.pt")


def test_a_training_that_diverges_ends_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not finite before step 8; .* smaller --lr"):
        trained(tmp_path, replace(PLAN, lr=math.inf))
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_trains_too(tmp_path: Path) -> None:
    done = trained(tmp_path, replace(PLAN, steps=2, bf16=True))
    assert all(weight.dtype == torch.float32 for weight in done.parameters())
    assert all(weight.isfinite().all() for weight in done.parameters())
