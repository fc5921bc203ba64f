from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from invertkit.errors import WeightsError
from invertkit.models.loading.layouts import find_layout

names = st.sampled_from(["conv1.weight", "bn1.bias", "layer1.0.conv.weight", "fc.weight", "a.b"])
networks = st.sets(names, min_size=2).map(
    lambda keys: {key: torch.full((2,), float(i)) for i, key in enumerate(sorted(keys))}
)
KNOWN = (
    "model", "state_dict", "model_state_dict", "net", "params", "weights", "classifier",
    "state_dict_ema", "model_ema", "my_network",
)  # fmt: skip
BESIDE: dict[str, Any] = {
    "epoch": 3,
    "best_acc": torch.tensor(0.7),
    "args": None,
    "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
    "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
    "lr_schedulers": [{"last": torch.ones(1)}],
    "callbacks": {"Checkpoint": {"best_model_score": torch.ones(1)}},
    "loss_fn": {"weight": torch.ones(5)},
    "hyper_parameters": {"lr": 0.1},
    "names": ["ant", "bee"],
}
WRAPPERS = ("", "module.", "model.", "net.", "_orig_mod.", "backbone.", "module.model.", "network.")
LOSSES = ("criterion.weight", "loss_fn.weight", "train_acc.total", "val_metrics.n", "n_averaged")


def same(found: Any, network: dict[str, Tensor]) -> bool:
    return list(found) == list(network) and all(torch.equal(found[k], network[k]) for k in network)


@given(
    network=networks,
    path=st.lists(st.sampled_from(KNOWN), min_size=1, max_size=3),
    beside=st.sets(st.sampled_from(sorted(BESIDE))),
    wrapper=st.sampled_from(WRAPPERS),
    losses=st.sets(st.sampled_from(LOSSES)),
)
def test_the_one_network_is_found_however_a_training_nests_it(
    network: dict[str, Tensor], path: list[str], beside: set[str], wrapper: str, losses: set[str]
) -> None:
    data: Any = {f"{wrapper}{key}": value for key, value in network.items()}
    if wrapper:  # what stands beside a network without a wrapper would be a part of it
        data |= {key: torch.ones(1) for key in losses}
    for key in reversed(path):
        data = {key: data}
    layout = find_layout(data | {key: BESIDE[key] for key in beside}, name="x")
    assert same(layout.state, network)
    assert layout.name.startswith(f"a state dict under `{'.'.join(path)}`")
    assert set(layout.beside) == beside
    told = any("belong to the training" in note for note in layout.notes)
    assert told == bool(wrapper and losses)


@given(first=networks, other=networks)
def test_of_two_networks_the_one_with_the_usual_name_is_taken_and_it_is_told(
    first: dict[str, Tensor], other: dict[str, Tensor]
) -> None:
    layout = find_layout({"model_ema": other, "state_dict": first, "epoch": 1}, name="x")
    assert same(layout.state, first)
    assert layout.notes == ("It also holds `model_ema`; `state_dict` is used.",)
    assert same(find_layout({"model_ema": other, "epoch": 1}, name="x").state, other)


def test_several_networks_without_usual_names_are_listed() -> None:
    a = {"conv.weight": torch.ones(1), "conv.bias": torch.ones(1)}
    with pytest.raises(WeightsError, match=r"several state dicts \(`G`, 2 entries, `D.0`, 2 entr"):
        find_layout({"G": a, "D": [a], "epoch": 1}, name="x")


def test_what_is_inside_is_listed_where_there_are_no_tensors_by_name() -> None:
    for data, inside in (
        ({"epoch": 3, "names": ["ant"]}, r"it holds epoch: int, names: list"),
        ({}, "it is empty"),
        ([torch.ones(1)], "it holds a list"),
        (torch.ones(1), "it holds a Tensor"),
    ):
        with pytest.raises(WeightsError, match=rf"x: holds no tensors by name \({inside}\)"):
            find_layout(data, name="x")


def test_a_network_that_has_such_names_itself_is_left_as_it_is() -> None:
    one = torch.ones(1)
    for keys in (
        ["classifier.weight", "classifier.bias"],
        ["criterion.weight", "conv.weight"],
        ["backbone.conv.weight", "head.weight"],
        ["encoder.weight"],
    ):
        assert list(find_layout(dict.fromkeys(keys, one), name="x").state) == keys


def test_the_average_of_a_training_is_a_network() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    average = torch.optim.swa_utils.AveragedModel(net)
    layout = find_layout({"model": average.state_dict()}, name="x")
    assert list(layout.state) == list(net.state_dict())
