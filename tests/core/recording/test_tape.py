"""Recorded code does again what it did: on the numbers of now, in the places of then."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.core.recording.fused_adam import FusedAdam
from invertkit.core.recording.recorder import refuse, speaking_of, unrecorded
from invertkit.core.recording.tape import UnrecordableError, record
from tests.helpers import normal

PIECES: dict[str, Callable[[Tensor], Tensor]] = {
    "pointwise": lambda x: (x.sin() * 2 + x.abs()).exp(),
    "views": lambda x: x.reshape(-1, 4).T.contiguous().view(4, -1).flip(1),
    "in place": lambda x: x.clone().mul_(3).add_(x),
    "slices": lambda x: torch.cat([x[:, :2], x[:, 2:] * 2], 1),
    "scatter": lambda x: torch.zeros_like(x).scatter_(1, x.argsort(1), x),
    "max": lambda x: x.max(1, keepdim=True).values + x,
    "fft": lambda x: torch.fft.rfft(x).abs(),
    "arange": lambda x: x * torch.arange(x.shape[1]) + torch.full((1,), 3.0),
}


@given(
    names=st.lists(st.sampled_from(sorted(PIECES)), min_size=1, max_size=4),
    seed=st.integers(0, 50),
)
def test_a_replay_is_the_code_on_the_numbers_of_now(names: list[str], seed: int) -> None:
    x = normal(8, 4, seed=seed)

    def wanted() -> Tensor:
        return torch.stack([PIECES[name](x).sum() for name in names])

    out = torch.zeros(len(names), dtype=torch.float64)
    tape = record(lambda: out.copy_(wanted()), volatile=[x])
    for again in range(3):
        x.copy_(normal(8, 4, seed=seed + 100 + again))
        tape.replay()
        assert torch.equal(out, wanted())


class Descent:
    """A small network looks at an image, and Adam changes the image and the network."""

    def __init__(self, *, learns: bool) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(
                nn.Conv2d(3, 4, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(4, 2, 3, stride=2)
            ).double()
        self.net.requires_grad_(learns)
        self.x = normal(2, 3, 8, 8).requires_grad_()
        self.weight = torch.tensor(1.0)
        self.loss = torch.zeros((), dtype=torch.float64)
        weights = list(self.net.parameters()) if learns else []
        self.adam = FusedAdam([self.x, *weights], lr=0.1)

    def step(self) -> None:
        self.adam.zero_grad()
        mask = F.max_pool2d(
            (torch.arange(64.0).double().reshape(1, 1, 8, 8) % 7 > 4).double(), 3, 1, 1
        )
        features = self.net(self.x * mask)
        (slope,) = torch.autograd.grad(features.sum(), self.x, create_graph=True)
        loss = self.weight * features.square().sum() + slope.norm()
        loss.backward()
        self.adam.step()
        self.loss.copy_(loss.detach())

    @property
    def state(self) -> list[Tensor]:
        held = [self.loss, *self.adam.state]
        return [t.detach().clone() for t in (self.x, *self.net.parameters(), *held)]


@pytest.mark.parametrize("learns", [False, True])
def test_replayed_descent_is_the_descent_bit_for_bit(*, learns: bool) -> None:
    plain, taped = Descent(learns=learns), Descent(learns=learns)
    plain.step()
    taped.step()  # makes Adam's moments
    plain.step()
    tape = record(taped.step, volatile=[taped.weight])
    for step in range(4):
        for each in (plain, taped):
            each.weight.fill_(step + 0.5)
            each.adam.set_rate(0.1 * (step + 1))
        plain.step()
        tape.replay()
        assert all(map(torch.equal, plain.state, taped.state)), step


def test_what_nothing_changes_is_done_once_and_again_when_it_is_written_to() -> None:
    mask, x = torch.ones(1, 1, 8, 8), torch.ones(1, 1, 4, 4)
    out = torch.zeros(1, 1, 4, 4)
    tape = record(lambda: out.copy_(x * F.avg_pool2d(mask, 2)), volatile=[x])
    assert tape.hoisted == 1
    tape.replay()
    assert torch.equal(out, torch.ones_like(out))
    mask.fill_(3)
    tape.replay()
    assert torch.equal(out, torch.full_like(out, 3))


def test_what_the_tape_itself_writes_to_is_never_held_for_steady() -> None:
    count, out = torch.zeros(1), torch.zeros(1)

    def code() -> None:
        out.copy_(count.view(1) * 2)
        count[:].add_(1)

    tape = record(code)
    assert {id(t) for t in tape.written} == {id(count), id(out)}
    for step in range(1, 4):
        tape.replay()
        assert out.item() == 2 * step


def test_unused_work_is_left_out() -> None:
    x, out = normal(4), torch.zeros(4, dtype=torch.float64)

    def code() -> None:
        (x.exp() @ x.exp()).sqrt()
        out.copy_(x + 1)

    assert record(code, volatile=[x]).operations == 2


NORM = nn.BatchNorm1d(1).double()

UNRECORDABLE: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "item": (lambda x: x.sum().item(), "reads a number back"),
    "branch": (lambda x: 1 if x.sum() > 0 else 2, "reads a number back"),
    "tolist": (lambda x: x.tolist(), "reads numbers back"),
    "numpy": (lambda x: np.asarray(x), "reads numbers back"),
    "nonzero": (lambda x: x.nonzero(), "must know a value"),
    "mask": (lambda x: x[x > 0], "must know|by a mask"),
    "random": (lambda x: torch.rand(3) + x[:3], "global generator"),
    "dropout": (lambda x: F.dropout(x), "global generator"),
    "batch norm": (lambda x: NORM(x[:, None]), "statistics of a batch norm"),
    "said so": (lambda x: refuse("it is shy"), "it is shy"),
}


@pytest.mark.parametrize("name", UNRECORDABLE)
def test_what_a_replay_could_not_do_again_is_refused_with_its_reason(name: str) -> None:
    code, reason = UNRECORDABLE[name]
    x = normal(6)
    with torch.random.fork_rng(devices=[]), pytest.raises(UnrecordableError, match=reason):
        record(lambda: code(x))


def test_a_refused_recording_has_done_its_work_to_the_end() -> None:
    x = torch.ones(1)

    def code() -> None:
        x.mul_(2)
        x.item()
        x.add_(1)

    def named() -> None:
        with speaking_of("objective.red"):
            code()

    with pytest.raises(UnrecordableError, match=r"objective\.red: it reads"):
        record(named)
    assert x.item() == 3


def test_what_is_unrecorded_is_done_but_not_again() -> None:
    x, y = torch.zeros(1), torch.zeros(1)

    def code() -> None:
        with unrecorded():
            x.add_(1)
        y.add_(x)

    tape = record(code)
    tape.replay()
    assert (x.item(), y.item()) == (1, 2)


def test_an_error_in_the_code_comes_through_and_ends_the_recording() -> None:
    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record(broken)
    refuse("nothing is being recorded")
    out = torch.zeros(1)
    record(lambda: out.add_(1)).replay()
    assert out.item() == 2
