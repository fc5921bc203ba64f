"""Fused Adam: torch's own numbers, whatever the strides of the gradients, and through a file."""

from __future__ import annotations

import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from invertkit.core.recording.fused_adam import FusedAdam
from tests.helpers import KITNET, normal, same, through_a_file

RATES = (0.1, 0.3, 0.05)


def plain(start: Tensor, slopes: list[Tensor], **options: float) -> Tensor:
    """torch's loop over tensors, with a number for a rate."""
    x = start.clone()
    adam = torch.optim.Adam([x], lr=1.0, foreach=False, fused=False, **options)
    for slope, rate in zip(slopes, RATES, strict=True):
        x.grad = slope.clone()
        adam.param_groups[0]["lr"] = rate
        adam.step()
    return x


@given(seed=st.integers(0, 99), order=st.permutations(range(4)))
def test_fused_steps_are_those_of_the_loop_whatever_the_strides(
    seed: int, order: list[int]
) -> None:
    start = normal(2, 3, 4, 5, seed=seed, dtype=torch.float64)
    slopes = [normal(2, 3, 4, 5, seed=seed + 100 * i) for i in (1, 2, 3)]
    x = start.clone()
    adam = FusedAdam([x], lr=1.0)
    back = [order.index(i) for i in range(4)]
    for slope, rate in zip(slopes, RATES, strict=True):
        x.grad = slope.permute(order).contiguous().permute(back)  # the same numbers, other memory
        assert torch.equal(x.grad, slope)
        adam.set_rate(rate)
        adam.step()
    torch.testing.assert_close(x, plain(start, slopes), rtol=1e-12, atol=1e-12)


def test_groups_have_rates_of_their_own() -> None:
    a, b = torch.zeros(2), torch.zeros(2)
    adam = FusedAdam([a, b], lr=1.0, factors=[1.0, 0.5])
    a.grad = b.grad = torch.ones(2)
    adam.set_rate(0.2)
    adam.step()
    torch.testing.assert_close(a, torch.full((2,), -0.2))
    torch.testing.assert_close(b, torch.full((2,), -0.1))


def test_a_state_goes_on_after_a_file_as_if_nothing_had_been() -> None:
    slopes = [normal(6, seed=i, dtype=torch.float32) for i in range(4)]

    def stepped(x: Tensor, adam: FusedAdam, part: list[Tensor]) -> None:
        for slope in part:
            x.grad = slope.clone()
            adam.step()

    x = torch.zeros(6)
    adam = FusedAdam([x], lr=0.1)
    stepped(x, adam, slopes[:2])
    y, held = x.clone(), through_a_file(adam.save())
    stepped(x, adam, slopes[2:])
    other = FusedAdam([y], lr=7.0)
    other.load(held)
    stepped(y, other, slopes[2:])
    assert same(x, y)
    assert same(held, through_a_file(held)), "loading has not changed what was saved"


@given(
    seed=st.integers(0, 99),
    skipped=st.sets(st.integers(0, 3), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    betas=st.sampled_from([(0.9, 0.999), (0.5, 0.999), (0.0, 0.9)]),
)
def test_steps_are_those_of_torch_bit_for_bit(
    seed: int, skipped: set[int], dtype: torch.dtype, betas: tuple[float, float]
) -> None:
    """Also where a tensor has no gradient on some steps, and stays."""
    ours = [normal(3, 5, seed=seed + i, dtype=dtype) for i in range(3)]
    theirs = [tensor.clone() for tensor in ours]
    adam = FusedAdam(ours, lr=0.1, betas=betas, eps=1e-6)
    other = torch.optim.Adam(theirs, lr=0.1, betas=betas, eps=1e-6, fused=True)
    for step in range(4):
        for i, (x, y) in enumerate(zip(ours, theirs, strict=True)):
            slope = normal(3, 5, seed=seed + 10 * step + i, dtype=dtype)
            x.grad, y.grad = (None, None) if i == 1 and step in skipped else (slope, slope.clone())
        adam.step()
        other.step()
        assert same(ours, theirs)


def test_what_was_reset_is_as_new() -> None:
    slope = normal(4, seed=1)
    x, y = torch.zeros(4, dtype=slope.dtype), torch.zeros(4, dtype=slope.dtype)
    adam = FusedAdam([x], lr=0.1)
    x.grad = slope * 3
    adam.step()
    places = [tensor.data_ptr() for tensor in adam.state]
    adam.reset()
    assert places == [tensor.data_ptr() for tensor in adam.state]
    assert len(places) == 3
    assert x.grad is None
    x.zero_()
    fresh = FusedAdam([y], lr=0.1)
    for _ in range(2):
        x.grad, y.grad = slope.clone(), slope.clone()
        adam.step()
        fresh.step()
    assert torch.equal(x, y)


def test_no_run_waits_for_the_compiler_to_be_imported() -> None:
    """PyTorch's compiler takes seconds to import, and `torch.optim` does so at its first step."""
    code = (
        f"import sys, invertkit; invertkit.run('magic', device='cpu', budget='full', overrides="
        f"['models.classifier={KITNET}', 'stages=[{{size: 32, steps: 16}}]', "
        "'players.critic.start=0', 'players.critic.widths=[4, 4, 4, 4]', "
        "'players.segmenter.width=4']); print('torch._dynamo' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert said.stdout == "False\n", said.stderr
