from __future__ import annotations

import pickle
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dill
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from invertkit.errors import WeightsError
from invertkit.models.classifiers import architectures
from invertkit.models.loading.layouts import find_layout
from invertkit.models.loading.safetensors_file import metadata, save_in_order
from invertkit.models.loading.weights_file import load_into, read_layout, read_weights
from tests.models.loading.checkpoints import (
    MEAN,
    SMALL,
    STD,
    checkpoint_of_training,
    robustness_layout,
    state_of,
)

HOW = {
    "zip": {},
    "older": {"_use_new_zipfile_serialization": False},
    "dill": {"pickle_module": dill},
    "dill, older": {"pickle_module": dill, "_use_new_zipfile_serialization": False},
}


@pytest.fixture(scope="module")
def network() -> dict[str, Tensor]:
    return state_of(SMALL)


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[k], second[k]) for k in first)


def test_the_file_of_salman_et_al_has_644_entries_and_fits_torchvision(tmp_path: Path) -> None:
    """Seed facts 8.1: two normalisers and twice the 320 entries of a ResNet-50."""
    with torch.device("meta"):
        own = architectures.build("resnet50", 1000).state_dict()
    one = torch.tensor(0.5)  # a network of 102 MB, whose numbers are one and the same
    state = {
        key: one.expand(value.shape) if value.is_floating_point() else torch.tensor(3)
        for key, value in own.items()
    }
    data = robustness_layout(state)
    assert len(data) == 644
    assert len(state) == 320
    layout = find_layout({"model": data, "optimizer": {}, "schedule": {}, "epoch": 1}, name="x")
    assert (layout.entries, layout.duplicates) == (644, 320)
    assert layout.beside == ("optimizer", "schedule", "epoch")
    assert layout.notes == ()
    assert list(layout.state) == list(own)
    assert layout.mean == pytest.approx(MEAN)
    assert layout.std == pytest.approx(STD)
    assert architectures.recognise(layout.state) == "resnet50"


@pytest.mark.parametrize("key", ["model", "state_dict"])
@pytest.mark.parametrize("how", HOW)
def test_the_robustness_library_s_files_in_every_container(
    tmp_path: Path, network: dict[str, Tensor], how: str, key: str
) -> None:
    data = checkpoint_of_training(robustness_layout(network), key)
    if "dill" in how:
        data |= {"args": Namespace(eps=0.05), "schedule_of": lambda epoch: 0.1 ** (epoch // 30)}
    torch.save(data, tmp_path / "w.ckpt", **HOW[how])
    layout = read_layout(tmp_path / "w.ckpt")
    assert same(layout.state, network)
    assert layout.mean == pytest.approx(MEAN)
    assert layout.std == pytest.approx(STD)
    assert layout.name == f"the robustness library's, a state dict under `{key}`"
    assert set(layout.beside) == set(data) - {key}
    assert (layout.entries, layout.duplicates) == (2 * len(network) + 4, len(network))


@pytest.mark.parametrize("wrapper", ["", "model."])
def test_networks_that_the_library_wrapped_once_more(
    network: dict[str, Tensor], wrapper: str
) -> None:
    layout = find_layout({"model": robustness_layout(network, wrapper=wrapper)}, name="x")
    assert same(layout.state, network)


@pytest.mark.parametrize("depth", [18, 50])
def test_the_library_s_networks_for_cifar(tmp_path: Path, depth: int) -> None:
    state = state_of(f"cifar_resnet{depth}", classes=10)
    assert "linear.bias" in state
    assert any(".shortcut.0.weight" in key for key in state)
    torch.save(
        {"state_dict": robustness_layout(state), "epoch": 1},
        tmp_path / "w.pt",
        _use_new_zipfile_serialization=False,
    )
    layout = read_layout(tmp_path / "w.pt")
    assert architectures.recognise(layout.state) == f"cifar_resnet{depth}"
    net = architectures.build(f"cifar_resnet{depth}", 10)
    load_into(net, layout.state, name="x")
    assert same(net.state_dict(), state)
    image = torch.rand(1, 3, 32, 32)
    assert net.eval()(image).shape == (1, 10)


def test_the_cifar_network_is_the_published_function() -> None:
    """Block by block by hand, for a ResNet-18: what the library computes at 32×32."""
    net = architectures.build("cifar_resnet18", 10).eval().double()
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(2, 3, 32, 32, generator=generator, dtype=torch.float64)
    functions = torch.nn.functional
    w = {key: value.double() for key, value in net.state_dict().items()}

    def norm(x: Tensor, name: str) -> Tensor:
        return functions.batch_norm(
            x, w[f"{name}.running_mean"], w[f"{name}.running_var"], w[f"{name}.weight"],
            w[f"{name}.bias"],
        )  # fmt: skip

    x = norm(functions.conv2d(image, w["conv1.weight"], padding=1), "bn1").relu()
    for layer in range(1, 5):
        for block in range(2):
            at, stride = f"layer{layer}.{block}", 2 if layer > 1 and block == 0 else 1
            y = functions.conv2d(x, w[f"{at}.conv1.weight"], stride=stride, padding=1)
            y = norm(y, f"{at}.bn1").relu()
            y = norm(functions.conv2d(y, w[f"{at}.conv2.weight"], padding=1), f"{at}.bn2")
            if f"{at}.shortcut.0.weight" in w:
                x = functions.conv2d(x, w[f"{at}.shortcut.0.weight"], stride=stride)
                x = norm(x, f"{at}.shortcut.1")
            x = (x + y).relu()
    pooled = functions.avg_pool2d(x, 4).flatten(1)
    expected = functions.linear(pooled, w["linear.weight"], w["linear.bias"])
    assert torch.allclose(net(image), expected, rtol=1e-12, atol=1e-12)


def test_copies_that_differ_are_told_and_the_first_is_used(network: dict[str, Tensor]) -> None:
    again = dict(network) | {"fc.bias": network["fc.bias"] + 1e-6}
    layout = find_layout({"model": robustness_layout(network, again=again)}, name="x")
    assert same(layout.state, network)
    assert "copies of the network in the file differ" in layout.notes[0]
    equal = {key: value.clone() for key, value in network.items()}
    assert find_layout({"model": robustness_layout(network, again=equal)}, name="x").notes == ()
    lacking = {key: value for key, value in network.items() if key != "fc.bias"}
    layout = find_layout({"model": robustness_layout(network, again=lacking)}, name="x")
    assert layout.notes


def test_copies_are_compared_bit_by_bit(network: dict[str, Tensor]) -> None:
    zero = {"fc.bias": torch.zeros_like(network["fc.bias"])}
    layout = find_layout(
        {"model": robustness_layout(network | zero, again=network | {"fc.bias": -zero["fc.bias"]})},
        name="x",
    )
    assert layout.notes, "0 and -0 are equal but not the same bits"


def test_the_attacker_s_copy_alone_is_enough(network: dict[str, Tensor]) -> None:
    data = {k: v for k, v in robustness_layout(network).items() if ".attacker." in k}
    layout = find_layout(data, name="x")
    assert same(layout.state, network)
    assert layout.mean == pytest.approx(MEAN)


def test_a_key_that_belongs_to_neither_is_reported_when_loading(
    network: dict[str, Tensor],
) -> None:
    data = robustness_layout(network)
    data["module.attacker.noise"] = torch.ones(1)
    layout = find_layout({"model": data}, name="x")
    with pytest.raises(WeightsError, match=r"1 unknown \(attacker.noise\)"):
        load_into(architectures.build(SMALL, 1000), layout.state, name="x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"module.normalizer.new_std": torch.zeros(3, 1, 1)}, "three finite means and three pos"),
        ({"module.normalizer.new_mean": torch.full((3, 1, 1), torch.nan)}, "three finite means"),
        ({"module.normalizer.new_mean": torch.zeros(1, 1, 1)}, "of shape"),
        ({"module.normalizer.new_mean": None}, "expected new_mean and new_std"),
        ({"module.normalizer.more": torch.zeros(1)}, "expected new_mean and new_std"),
    ],
)
def test_a_malformed_normaliser_is_an_error(
    network: dict[str, Tensor], change: dict[str, Any], said: str
) -> None:
    data = {k: v for k, v in {**robustness_layout(network), **change}.items() if v is not None}
    with pytest.raises(WeightsError, match=said):
        find_layout({"model": data}, name="x")


def test_normalisers_that_differ_are_told(network: dict[str, Tensor]) -> None:
    data = robustness_layout(network)
    data["module.attacker.normalize.new_mean"] = torch.zeros(3, 1, 1)
    layout = find_layout({"model": data}, name="x")
    assert layout.mean == pytest.approx(MEAN)
    assert "normalisers in the file differ" in layout.notes[0]


def test_state_dicts_are_found_where_training_scripts_put_them() -> None:
    tensor = torch.zeros(2)
    for data in (
        {"a.b": tensor},
        {"module.a.b": tensor},
        {"_orig_mod.module.a.b": tensor},
        {"state_dict": {"module.a.b": tensor}},
        {"model_state_dict": {"net.a.b": tensor}, "epoch": 3},
    ):
        assert list(find_layout(data, name="x").state) == ["a.b"]
    for nothing in ({"a": 3}, [tensor], tensor, {}, None):
        with pytest.raises(WeightsError, match="x: holds no tensors by name"):
            find_layout(nothing, name="x")


def test_a_prefix_that_not_every_key_has_belongs_to_the_network() -> None:
    data = {"model.a": torch.zeros(2), "head": torch.zeros(1)}
    assert list(find_layout(data, name="x").state) == ["model.a", "head"]


def test_entries_that_are_no_tensors_are_told() -> None:
    layout = find_layout({"model": {"a": torch.zeros(2), "b": 3, "c": None}}, name="x")
    assert layout.notes == ("2 entries that are no tensors are left out (b, c).",)


def test_tensors_that_are_not_ordinary_are_refused() -> None:
    a = torch.ones(3)
    for odd in (a.to_sparse(), a.to("meta")):
        with pytest.raises(WeightsError, match=r"x: 1 entries are sparse, .* data \(b\)"):
            find_layout({"a": a, "b": odd}, name="x")


def test_names_that_cannot_be_printed_are_refused() -> None:
    for data in ({"a\x1b[31m": torch.ones(1)}, {"model": {"a": torch.ones(1)}, "b\ud800": 1}):
        with pytest.raises(WeightsError, match="cannot be printed"):
            find_layout(data, name="x")


def test_attributes_of_a_parameter_in_a_file_hide_no_method(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    weight.isfinite = weight.view = weight.detach = 3  # type: ignore[assignment,method-assign]
    torch.save({"a": weight}, tmp_path / "w.pt")
    (value,) = read_layout(tmp_path / "w.pt").state.values()
    assert value.isfinite().all()


# ---------------------------------------------------------------------- every key


def test_every_entry_is_accounted_for(network: dict[str, Tensor]) -> None:
    net = architectures.build(SMALL, 1000)
    own = net.state_dict()
    for key in own:
        if key.endswith("num_batches_tracked"):
            continue
        lacking = {k: v for k, v in network.items() if k != key}
        with pytest.raises(WeightsError, match="1 missing"):
            load_into(net, lacking, name="x")
        break
    wrong = {**network, "fc.weight": torch.zeros(10, 1024), "more": torch.zeros(1)}
    del wrong["conv1.0.weight"]
    wrong["fc.bias"] = torch.zeros(1000, dtype=torch.int64)
    with pytest.raises(WeightsError) as caught:
        load_into(net, wrong, name="f.pt")
    said = str(caught.value)
    assert said.startswith(f"f.pt: belongs to another network than ShuffleNetV2: of {len(own)} ")
    assert "1 missing (conv1.0.weight)" in said
    assert "1 unknown (more)" in said
    assert "1 of another shape (fc.weight is (10, 1024) instead of (1000, 1024))" in said
    assert "1 of another type (fc.bias is torch.int64 instead of torch.float32)" in said
    assert not same(net.state_dict(), network), "nothing is loaded when something does not fit"


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_are_an_error(network: dict[str, Tensor], bad: float) -> None:
    wild = {**network, "fc.bias": network["fc.bias"].clone()}
    wild["fc.bias"][17] = bad
    with pytest.raises(WeightsError, match=r"1 entries hold values that are not finite \(fc.bias"):
        load_into(architectures.build(SMALL, 1000), wild, name="x")


def test_files_from_before_batch_counters_load(network: dict[str, Tensor]) -> None:
    old = {k: v for k, v in network.items() if not k.endswith("num_batches_tracked")}
    net = architectures.build(SMALL, 1000)
    load_into(net, old, name="x")
    assert torch.equal(net.state_dict()["fc.bias"], network["fc.bias"])


@pytest.mark.parametrize("architecture", ["mnasnet1_0", "mobilenet_v2"])
def test_networks_that_read_their_version_from_the_file_load(architecture: str) -> None:
    state = state_of(architecture)
    net = architectures.build(architecture, 1000)
    load_into(net, state, name="x")
    assert same(net.state_dict(), state)


def test_half_precision_is_cast(network: dict[str, Tensor]) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in network.items()}
    net = architectures.build(SMALL, 1000)
    load_into(net, half, name="x")
    assert torch.equal(net.state_dict()["fc.bias"], half["fc.bias"].float())


def test_safetensors_are_read_as_they_are_and_in_every_layout(
    tmp_path: Path, network: dict[str, Tensor]
) -> None:
    data = {key: value.clone() for key, value in robustness_layout(network).items()}
    save_file(data, tmp_path / "w.safetensors")
    assert len(read_weights(tmp_path / "w.safetensors")) == len(data)
    assert same(dict(sorted(read_layout(tmp_path / "w.safetensors").state.items())),
                dict(sorted(network.items())))  # fmt: skip


def test_equal_weights_with_equal_metadata_are_equal_files(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(3).half()}
    said = {key: f'"ε\n\x01\x7f\u2028 {key}"' for key in "zyxwvutsrq"}
    files = [tmp_path / f"{i}.safetensors" for i in range(4)]
    for i, path in enumerate(files):
        save_in_order(tensors, path, dict(sorted(said.items(), reverse=bool(i % 2))))
    assert len({path.read_bytes() for path in files}) == 1
    save_file(tensors, tmp_path / "plain.safetensors", metadata=said)
    assert files[0].stat().st_size == (tmp_path / "plain.safetensors").stat().st_size
    assert metadata(files[0]) == said
    assert same(dict(sorted(read_weights(files[0]).items())), dict(sorted(tensors.items())))


# ---------------------------------------------------------------------- which network


@pytest.mark.parametrize(
    ("architecture", "classes"),
    [
        ("resnet18", 1000), ("resnet34", 5), ("wide_resnet50_2", 1000), ("wide_resnet50_4", 1000),
        ("resnext50_32x4d", 1000), ("densenet161", 1000), ("mnasnet1_0", 1000),
        ("mobilenet_v2", 1000), ("shufflenet_v2_x1_0", 1000), ("vgg16_bn", 1000),
        ("cifar_resnet34", 10),
    ],
)  # fmt: skip
def test_a_network_is_told_by_names_and_shapes(architecture: str, classes: int) -> None:
    with torch.device("meta"):
        state = architectures.build(architecture, classes).state_dict()
    assert architectures.recognise(state) == architecture
    assert architectures.class_count(state) == classes
    lacking = dict(state)
    del lacking[next(iter(lacking))]
    assert architectures.recognise(lacking) is None
    assert architectures.recognise({**state, "more": torch.zeros(1)}) is None


def test_what_has_no_matrix_is_no_known_network() -> None:
    assert architectures.recognise({"a": torch.zeros(2)}) is None
    assert architectures.class_count({"a": torch.zeros(2)}) == 0


def test_the_wide_network_is_four_times_as_wide_inside() -> None:
    with torch.device("meta"):
        wide = architectures.build("wide_resnet50_4", 1000)
        plain = architectures.build("resnet50", 1000)
    for key, value in plain.state_dict().items():
        other = wide.state_dict()[key].shape
        if key.endswith("conv2.weight"):
            assert other == (4 * value.shape[0], 4 * value.shape[1], *value.shape[2:])
        if key.endswith("conv3.weight"):
            assert other == (value.shape[0], 4 * value.shape[1], 1, 1)


@pytest.mark.parametrize(
    ("architecture", "classes", "parameters"),
    [
        ("cifar_resnet18", 10, 11_173_962),
        ("cifar_resnet50", 10, 23_520_842),
        ("wide_resnet50_2", 1000, 68_883_240),
        ("wide_resnet50_4", 1000, 223_439_144),
    ],
)
def test_the_networks_are_as_large_as_the_published_ones(
    architecture: str, classes: int, parameters: int
) -> None:
    with torch.device("meta"):
        net = architectures.build(architecture, classes)
    assert sum(p.numel() for p in net.parameters()) == parameters


@pytest.mark.parametrize(
    "architecture",
    ["resnet18", "densenet161", "mnasnet1_0", "mobilenet_v2", "shufflenet_v2_x1_0", "vgg16_bn",
     "cifar_resnet18", "kitnet"],
)  # fmt: skip
def test_the_default_layers_grow_coarser(architecture: str) -> None:
    with torch.device("meta"):  # sizes only
        net = architectures.build(architecture, 10).eval()
    layers = architectures.default_layers(net, architecture)
    assert len(layers) == 4
    sides: dict[str, int] = {}

    def note(output: Tensor, name: str) -> None:
        sides.setdefault(name, output.shape[-1])

    for name in layers:
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: note(output, name)
        )
    with torch.no_grad():
        net(torch.zeros(1, 3, 64, 64, device="meta"))
    assert list(sides) == list(layers), "in the order of the forward"
    assert all(a >= b for a, b in zip(sides.values(), list(sides.values())[1:], strict=False))
    assert 64 >= sides[layers[0]] > sides[layers[-1]] >= 4


def test_a_pickle_of_a_whole_network_is_loaded_as_its_state_dict(tmp_path: Path) -> None:
    net = architectures.build(SMALL, 7)
    torch.save(net, tmp_path / "w.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "w.pt", weights_only=True)
    assert same(read_weights(tmp_path / "w.pt"), net.state_dict())
