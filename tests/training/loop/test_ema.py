"""Averages of weights over the steps."""

from __future__ import annotations

from copy import deepcopy

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from invertkit.training.loop.ema import Average
from tests.helpers import normal, same


@given(decay=st.floats(0.01, 0.99))
def test_the_average_is_the_sum_of_its_past(decay: float) -> None:
    net = nn.BatchNorm2d(2).double()
    average = Average(net, decay)
    states = [deepcopy(net.state_dict())]
    for step in range(4):
        with torch.no_grad():
            net.weight += step + 1.0
            net(torch.rand(3, 2, 2, 2, generator=torch.Generator().manual_seed(step)).double())
        states.append(deepcopy(net.state_dict()))
        average.update()
    for name, value in average.model.state_dict().items():
        if name == "num_batches_tracked":
            assert value == 4
            continue
        wanted = decay**4 * states[0][name] + sum(
            (1 - decay) * decay ** (4 - k) * states[k][name] for k in range(1, 5)
        )
        assert torch.allclose(value, wanted, atol=1e-12), name
    assert not average.model.training


def test_without_decay_the_average_is_the_network() -> None:
    net = nn.Linear(2, 2)
    assert Average(net, 0.0).model is net


def moved(net: nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(by)


def test_the_decay_may_change_and_buffers_may_stay() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    average = Average(net, 0.999, buffers=False)
    before, buffers = deepcopy(dict(net.named_parameters())), deepcopy(dict(net.named_buffers()))
    moved(net, 1.0)
    net(normal(4, 2).float())
    average.update(0.9)
    average.update(0.8)
    for name, parameter in average.model.named_parameters():
        assert torch.allclose(parameter, before[name] + (1 - 0.9 * 0.8), atol=1e-6), name
    assert same(buffers, dict(average.model.named_buffers()))


def test_weights_are_those_of_the_library_to_the_last_bit() -> None:
    """Once its counter says that the first update is none."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    ours = Average(net, 0.9)
    theirs = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    theirs.n_averaged.fill_(1)
    for step in range(3):
        moved(net, 0.1 * (step + 1))
        net(normal(2, 3, 5, 5).float())
        ours.update()
        theirs.update_parameters(net)
    counter = "1.num_batches_tracked"
    assert {k: v for k, v in ours.model.state_dict().items() if k != counter}.keys()
    for name, value in theirs.module.state_dict().items():
        if name != counter:
            assert torch.equal(ours.model.state_dict()[name], value), name
    assert ours.model.state_dict()[counter] == 3
    assert theirs.module.state_dict()[counter] != 3
