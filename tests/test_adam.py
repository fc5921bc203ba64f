"""Fused Adam: torch's own numbers, whatever the strides of the gradients, and through a file."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from invertkit.adam import descend, fused_adam, load_state, saved_state, set_rate
from tests.helpers import normal, same, through_a_file

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
    adam = fused_adam([x], lr=1.0)
    back = [order.index(i) for i in range(4)]
    for slope, rate in zip(slopes, RATES, strict=True):
        x.grad = slope.permute(order).contiguous().permute(back)  # the same numbers, other memory
        assert torch.equal(x.grad, slope)
        set_rate(adam, rate)
        descend(adam)
    torch.testing.assert_close(x, plain(start, slopes), rtol=1e-12, atol=1e-12)


def test_groups_have_rates_of_their_own() -> None:
    a, b = torch.zeros(2), torch.zeros(2)
    adam = fused_adam([{"params": [a]}, {"params": [b], "rate": 0.5}], lr=1.0)
    a.grad = b.grad = torch.ones(2)
    set_rate(adam, 0.2)
    descend(adam)
    torch.testing.assert_close(a, torch.full((2,), -0.2))
    torch.testing.assert_close(b, torch.full((2,), -0.1))


def test_a_state_goes_on_after_a_file_as_if_nothing_had_been() -> None:
    slopes = [normal(6, seed=i, dtype=torch.float32) for i in range(4)]

    def stepped(x: Tensor, adam: torch.optim.Adam, part: list[Tensor]) -> None:
        for slope in part:
            x.grad = slope.clone()
            descend(adam)

    x = torch.zeros(6)
    adam = fused_adam([x], lr=0.1)
    stepped(x, adam, slopes[:2])
    y, held = x.clone(), through_a_file(saved_state(adam))
    stepped(x, adam, slopes[2:])
    other = fused_adam([y], lr=7.0)
    load_state(other, held)
    stepped(y, other, slopes[2:])
    assert same(x, y)
    assert same(held, through_a_file(held)), "loading has not changed what was saved"
