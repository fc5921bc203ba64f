from __future__ import annotations

import copy
import json
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError, WeightsError
from invertkit.models.generators.biggan.config import BigGANConfig
from invertkit.models.generators.biggan.files import load_biggan, without_spectral_norm
from invertkit.models.generators.biggan.network import BigGANDeep, statistics_at
from tests.helpers import global_generators_unmoved, normal, uniform

# Every kind of block: keeping and halving, at one side and doubling it; 16 pixels.
SMALL = BigGANConfig(
    layers=((False, 4, 4), (True, 4, 2), (True, 2, 2), (False, 2, 1)),
    attention=2,
    latent=6,
    embedding=5,
    channel_width=8,
    classes=7,
    n_stats=51,
)
# As the published files list them: doubling?, channels in, channels out.
COMMON = "F16,16 T16,16 F16,16 T16,8"
PUBLISHED = {
    128: f"{COMMON} F8,8 T8,4 F4,4 T4,2 F2,2 T2,1",
    256: f"{COMMON} F8,8 T8,8 F8,8 T8,4 F4,4 T4,2 F2,2 T2,1",
    512: f"{COMMON} F8,8 T8,8 F8,8 T8,4 F4,4 T4,2 F2,2 T2,1 F1,1 T1,1",
}

State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def port_shapes(config: BigGANConfig) -> dict[str, tuple[int, ...]]:
    """The entries of a published file: their names and shapes."""
    shapes: dict[str, tuple[int, ...]] = {}
    condition, unit = config.latent + config.embedding, config.channel_width

    def normed(name: str, *shape: int, bias: bool = False) -> None:
        shapes[f"{name}.weight_orig"] = shape
        shapes[f"{name}.weight_u"] = shape[:1]
        shapes[f"{name}.weight_v"] = (math.prod(shape[1:]),)
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    def statistics(name: str, channels: int) -> None:
        shapes[f"{name}.running_means"] = shapes[f"{name}.running_vars"] = (
            config.n_stats,
            channels,
        )

    def attention(name: str, wide: int) -> None:
        normed(f"{name}.snconv1x1_theta", wide // 8, wide, 1, 1)
        normed(f"{name}.snconv1x1_phi", wide // 8, wide, 1, 1)
        normed(f"{name}.snconv1x1_g", wide // 2, wide, 1, 1)
        normed(f"{name}.snconv1x1_o_conv", wide, wide // 2, 1, 1)
        shapes[f"{name}.gamma"] = (1,)

    def block(name: str, before: int, after: int) -> None:
        middle = before // 4
        steps = ((before, middle, 1), (middle, middle, 3), (middle, middle, 3), (middle, after, 1))
        for j, (a, b, side) in enumerate(steps):
            statistics(f"{name}.bn_{j}", a)
            normed(f"{name}.bn_{j}.scale", a, condition)
            normed(f"{name}.bn_{j}.offset", a, condition)
            normed(f"{name}.conv_{j}", b, a, side, side, bias=True)

    shapes["embeddings.weight"] = (config.embedding, config.classes)
    normed("generator.gen_z", 16 * unit * config.layers[0][1], condition, bias=True)
    index = 0
    for number, (_, before, after) in enumerate(config.layers):
        if number == config.attention:
            attention(f"generator.layers.{index}", before * unit)
            index += 1
        block(f"generator.layers.{index}", before * unit, after * unit)
        index += 1
    last = config.layers[-1][2] * unit
    statistics("generator.bn", last)
    shapes["generator.bn.weight"] = shapes["generator.bn.bias"] = (last,)
    normed("generator.conv_to_rgb", last, last, 3, 3, bias=True)
    return shapes


def port_state(config: BigGANConfig, *, seed: int = 0) -> State:
    """A published file of random weights; its singular vectors are, as there, one step good."""
    drawing = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, shape in port_shapes(config).items():
        drawn = torch.randn(shape, generator=drawing)
        state[name] = {
            "running_means": 0.3 * drawn,
            "running_vars": 0.5 + drawn.square(),
            "gamma": 0.7 + drawn.abs(),
            "bias": 0.2 * drawn,
        }.get(name.rpartition(".")[2], 0.4 * drawn)
    for name in [name for name in state if name.endswith("weight_orig")]:
        matrix = state[name].flatten(1)
        stem = name.removesuffix("orig")
        state[f"{stem}v"] = F.normalize(matrix.T @ state[f"{stem}u"], dim=0)
        state[f"{stem}u"] = F.normalize(matrix @ state[f"{stem}v"], dim=0)
    return state


small_state = partial(port_state, SMALL)


def small_net(**changes: Any) -> BigGANDeep:
    net = BigGANDeep(SMALL, **changes)
    net.load_state_dict(without_spectral_norm(small_state(), name="small"))
    return net


def inputs(batch: int = 2) -> tuple[Tensor, Tensor]:
    return normal(batch, SMALL.latent), normal(batch, SMALL.embedding, seed=1)


def write_json(path: Path, config: BigGANConfig = SMALL, **changes: Any) -> None:
    facts = {
        "output_dim": config.resolution,
        "z_dim": config.latent,
        "class_embed_dim": config.embedding,
        "channel_width": config.channel_width,
        "num_classes": config.classes,
        "layers": [list(layer) for layer in config.layers],
        "attention_layer_position": config.attention,
        "eps": config.eps,
        "n_stats": config.n_stats,
    } | changes
    path.write_text(json.dumps({k: v for k, v in facts.items() if v is not None}))


def plain(state: State, name: str) -> Tensor:
    weight = state[f"{name}.weight_orig"]
    matrix = weight.reshape(weight.shape[0], -1)
    return weight / (state[f"{name}.weight_u"] @ matrix @ state[f"{name}.weight_v"])


def restated(state: State, latent: Tensor, embedding: Tensor, *, truncation: float) -> Tensor:
    """SMALL's forward, one operation after the other, from the entries of the file."""
    condition = torch.cat([latent, embedding], 1)

    def at(name: str) -> Tensor:
        grid = np.linspace(0, 1, SMALL.n_stats)
        columns = [np.interp(truncation, grid, column) for column in state[name].T.numpy()]
        return torch.tensor(columns)[None, :, None, None]

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = at(f"{name}.running_means"), at(f"{name}.running_vars")
        if f"{name}.weight" in state:
            scale, offset = state[f"{name}.weight"][None], state[f"{name}.bias"][None]
        else:
            scale = 1 + condition @ plain(state, f"{name}.scale").T
            offset = condition @ plain(state, f"{name}.offset").T
        normalised = (x - mean) / torch.sqrt(variance + SMALL.eps)
        return torch.relu(normalised * scale[:, :, None, None] + offset[:, :, None, None])

    def conv(x: Tensor, name: str) -> Tensor:
        weight = plain(state, name)
        return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=weight.shape[-1] // 2)

    def twice(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def attention(x: Tensor, name: str) -> Tensor:
        query, key, value = (conv(x, f"{name}.snconv1x1_{p}") for p in ("theta", "phi", "g"))
        seen = torch.zeros_like(value)
        key, value = (
            y.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).amax((3, 5)).flatten(2)
            for y in (key, value)
        )
        for b in range(len(x)):
            for row in range(x.shape[2]):
                for column in range(x.shape[3]):
                    match = torch.softmax(query[b, :, row, column] @ key[b], 0)
                    seen[b, :, row, column] = value[b] @ match
        return x + state[f"{name}.gamma"] * conv(seen, f"{name}.snconv1x1_o_conv")

    start = condition @ plain(state, "generator.gen_z").T + state["generator.gen_z.bias"]
    x = start.reshape(len(latent), 4, 4, -1).permute(0, 3, 1, 2)
    index = 0
    for number, (upsample, before, after) in enumerate(SMALL.layers):
        if number == SMALL.attention:
            x = attention(x, f"generator.layers.{index}")
            index += 1
        name = f"generator.layers.{index}"
        y = norm(conv(norm(x, f"{name}.bn_0"), f"{name}.conv_0"), f"{name}.bn_1")
        y = conv(twice(y) if upsample else y, f"{name}.conv_1")
        y = conv(norm(y, f"{name}.bn_2"), f"{name}.conv_2")
        y = conv(norm(y, f"{name}.bn_3"), f"{name}.conv_3")
        skip = x if before == after else x[:, : x.shape[1] // 2]
        x = y + (twice(skip) if upsample else skip)
        index += 1
    return torch.tanh(conv(norm(x, "generator.bn"), "generator.conv_to_rgb")[:, :3])


@pytest.mark.parametrize("resolution", [128, 256, 512])
def test_the_published_configurations(resolution: int) -> None:
    config = BigGANConfig.of(resolution)
    listed = PUBLISHED[resolution].split()
    assert [f"{'FT'[up]}{a},{b}" for up, a, b in config.layers] == listed
    assert config.resolution == resolution
    assert (config.latent, config.embedding, config.channel_width) == (128, 128, 128)
    assert (config.attention, config.classes, config.eps, config.n_stats) == (8, 1000, 1e-4, 51)


@pytest.mark.parametrize(
    ("resolution", "parameters", "entries"),
    [(128, 50_388_609, 506), (256, 55_880_833, 602), (512, 56_163_905, 698)],
)
def test_the_published_networks_have_the_entries_of_the_published_files(
    resolution: int, parameters: int, entries: int
) -> None:
    config = BigGANConfig.of(resolution)
    with torch.device("meta"):
        net = BigGANDeep(config)
    file = port_shapes(config)
    assert len(file) == entries
    assert sum(value.numel() for value in net.parameters()) == parameters
    shapes = {
        key.removesuffix("_orig"): shape
        for key, shape in file.items()
        if not key.endswith(("weight_u", "weight_v"))
    }
    assert {key: value.shape for key, value in net.state_dict().items()} == shapes


def test_layers_that_do_not_fit_and_sizes_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="published for 128, 256 and 512 pixels, not for 64"):
        BigGANConfig.of(64)
    for layers in [
        ((False, 4, 3),),
        ((False, 3, 1),),
        ((True, 1, 0),),
        ((True, 1, 2),),
        ((False, 4, 4), (True, 2, 1)),
    ]:
        with pytest.raises(InputError, match=f"layers: block {len(layers) - 1} goes from"):
            replace(SMALL, layers=layers, attention=0)
    with pytest.raises(InputError, match="attention: expected the index of one of the 4 layers"):
        replace(SMALL, attention=4)
    changes: list[dict[str, Any]] = [
        {"channel_width": 7},
        {"latent": 0},
        {"n_stats": 0},
        {"eps": 0},
    ]
    for change in changes:
        with pytest.raises(InputError, match="channel width of at least 8"):
            replace(SMALL, **change)


@pytest.mark.parametrize("truncation", [1.0, 0.58, 0.5, 0.4321, 0.005])
def test_the_forward_is_its_plain_restatement(truncation: float) -> None:
    latent, embedding = inputs()
    net = small_net(truncation=truncation)
    expected = restated(small_state(), latent, embedding, truncation=truncation)
    made = net(latent, embedding)
    assert made.shape == (2, 3, 16, 16)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-10)
    assert expected.std() > 0.1  # and it is a picture, not a constant
    assert made.abs().max() <= 1


def test_a_picture_does_not_depend_on_its_neighbours() -> None:
    net, (latent, embedding) = small_net(), inputs(3)
    alone = [net(latent[i : i + 1], embedding[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(net(latent, embedding), torch.cat(alone), rtol=0, atol=1e-12)


@given(index=st.integers(0, 50))
def test_statistics_at_a_stored_truncation_are_the_stored_ones(index: int) -> None:
    table = normal(51, 3)
    assert torch.equal(statistics_at(table, index / 50), table[index])
    assert torch.equal(statistics_at(table, index * 0.02), table[index])


@given(truncation=st.floats(0, 1), rows=st.integers(1, 60))
def test_statistics_between_are_linear_in_the_truncation(truncation: float, rows: int) -> None:
    table = normal(rows, 3)
    grid = np.linspace(0, 1, rows) if rows > 1 else np.zeros(1)
    expected = [np.interp(truncation, grid, column) for column in table.T.numpy()]
    torch.testing.assert_close(
        statistics_at(table, truncation), torch.tensor(expected), rtol=0, atol=1e-7
    )


def test_each_neighbour_weighs_the_more_the_nearer_it_is() -> None:
    table = torch.arange(51.0)[:, None]
    assert 0.58 / 0.02 < 29  # where the lower neighbour is row 28 in floating point
    assert statistics_at(table, 0.58) == 29
    assert statistics_at(table, 0.585) == pytest.approx(29.25)
    assert statistics_at(table, 0.595) == pytest.approx(29.75)


def test_setting_the_truncation_selects_the_statistics_of_every_norm() -> None:
    latent, embedding = inputs()
    net = small_net(truncation=0.3)
    before = net(latent, embedding)
    net.truncation = 0.7
    assert net.truncation == 0.7
    assert torch.equal(net(latent, embedding), small_net(truncation=0.7)(latent, embedding))
    net.truncation = 0.3
    assert torch.equal(net(latent, embedding), before)
    for wrong in (0.0, -0.5, 1.01, float("nan")):
        with pytest.raises(InputError, match=r"truncation: expected a number in \(0, 1\]"):
            net.truncation = wrong
    assert net.truncation == 0.3


def test_loading_other_statistics_selects_among_those() -> None:
    latent, embedding = inputs()
    net = small_net(truncation=0.3)
    net.load_state_dict(without_spectral_norm(small_state(seed=1), name="other"))
    expected = restated(small_state(seed=1), latent, embedding, truncation=0.3)
    torch.testing.assert_close(net(latent, embedding), expected, rtol=0, atol=1e-10)


def test_gradients_reach_the_latent_and_the_embedding() -> None:
    net = small_net().requires_grad_(False)
    variables = [value.requires_grad_() for value in inputs(1)]
    directions = [normal(*value.shape, seed=5 + i) for i, value in enumerate(variables)]
    looked_at = normal(1, 3, 16, 16, seed=9)

    def loss(step: float) -> Tensor:
        moved = [v + step * d for v, d in zip(variables, directions, strict=True)]
        made: Tensor = net(*moved)
        return (made * looked_at).sum()

    gradients = torch.autograd.grad(loss(0.0), variables)
    assert all(bool((gradient != 0).all()) for gradient in gradients)
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    with torch.no_grad():
        difference = (loss(1e-6) - loss(-1e-6)) / 2e-6
    torch.testing.assert_close(slope, difference, rtol=1e-5, atol=0)


def test_gradients_reach_every_parameter() -> None:
    net, (latent, embedding) = small_net(), inputs()
    (net(latent, embedding) * normal(2, 3, 16, 16, seed=9)).sum().backward()
    without = {name for name, value in net.named_parameters() if value.grad is None}
    assert without == {"embeddings.weight"}  # which the caller applies


def test_what_a_tap_holds_is_not_changed_later() -> None:
    net, seen = small_net(), {}

    def keep(module: nn.Module, _: Any, output: Tensor, *, name: str) -> None:
        seen[name] = (output, output.detach().clone())

    for name, module in net.named_modules():
        if name and not isinstance(module, nn.ModuleList):
            module.register_forward_hook(partial(keep, name=name))
    net(*inputs())
    assert seen["generator.gen_z"][0].shape == (2, 16 * 32)
    assert [tuple(seen[f"generator.layers.{i}"][0].shape[1:]) for i in range(5)] == [
        (32, 4, 4),
        (16, 8, 8),
        (16, 8, 8),  # the attention
        (16, 16, 16),
        (8, 16, 16),
    ]
    assert all(torch.equal(*pair) for pair in seen.values())


def test_a_copy_in_single_precision_agrees() -> None:
    net, (latent, embedding) = small_net(truncation=0.43), inputs()
    single = copy.deepcopy(net).float()
    made = single(latent.float(), embedding.float())
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.double(), net(latent, embedding), rtol=0, atol=1e-4)


@given(shape=st.sampled_from([(4, 7), (6, 2), (3, 5, 1, 1), (4, 2, 3, 3)]), seed=st.integers(0, 99))
def test_a_weight_divided_by_its_norm_has_norm_one(shape: tuple[int, ...], seed: int) -> None:
    weight = normal(*shape, seed=seed)
    left, _, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    state = {"a.weight_orig": weight, "a.weight_u": left[:, 0], "a.weight_v": right[0]}
    baked = without_spectral_norm(state | {"a.num_batches_tracked": torch.ones(())}, name="a")
    assert list(baked) == ["a.weight"]
    assert torch.linalg.matrix_norm(baked["a.weight"].flatten(1), 2) == pytest.approx(1)


def as_binary(folder: Path) -> Path:
    state: Any = OrderedDict(small_state())
    state._metadata = OrderedDict({"": {"version": 1}})  # as module.state_dict() leaves it
    path = folder / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=False)  # as PyTorch of 2019 did
    return path


def as_safetensors(folder: Path) -> Path:
    save_file(small_state(), folder / "model.safetensors")
    return folder / "model.safetensors"


@pytest.mark.parametrize("write", [as_binary, as_safetensors])
def test_a_network_is_loaded_from_a_folder_or_a_file(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    file = write(tmp_path)
    write_json(tmp_path / "config.json", architecture="passed over")
    latent, embedding = inputs()
    expected = restated(small_state(), latent, embedding, truncation=0.58)
    for path in (tmp_path, file):
        with global_generators_unmoved():
            net = load_biggan(path, truncation=0.58)
        assert net.config == SMALL
        assert not net.training
        assert not any(value.requires_grad for value in net.parameters())
        torch.testing.assert_close(net(latent, embedding), expected, rtol=0, atol=1e-10)
    (tmp_path / "config.json").unlink()
    given_config = load_biggan(file, config=SMALL, truncation=0.58)
    assert torch.equal(given_config(latent, embedding), net(latent, embedding))


def test_what_is_loaded_can_be_saved_and_loaded_again(tmp_path: Path) -> None:
    net = small_net()
    save_file(net.state_dict(), tmp_path / "plain.safetensors")
    again = load_biggan(tmp_path / "plain.safetensors", config=SMALL)
    assert torch.equal(again(*inputs()), net(*inputs()))


@pytest.mark.parametrize("resolution", [128, 256, 512])
def test_without_a_configuration_the_number_of_layers_tells_the_resolution(
    resolution: int, tmp_path: Path
) -> None:
    layers = BigGANConfig.of(resolution).layers
    narrow = BigGANConfig(layers=layers, channel_width=8, latent=2, embedding=1, classes=1)
    save_file(port_state(narrow), tmp_path / "narrow.safetensors")
    entries = {128: 254, 256: 302, 512: 350}[resolution]
    with pytest.raises(WeightsError, match=f"another network than BigGANDeep: of {entries} entr"):
        load_biggan(tmp_path / "narrow.safetensors")
    net = load_biggan(tmp_path / "narrow.safetensors", config=narrow)
    assert net.config.resolution == resolution


STEM = "generator.layers.1.conv_2"
ORIGINAL, LEFT = f"{STEM}.weight_orig", f"{STEM}.weight_u"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator.bn.bias": None}, r"1 missing \(generator\.bn\.bias\)"),
        ({"generator.extra": torch.ones(2)}, r"1 unknown \(generator\.extra\)"),
        ({"embeddings.weight": torch.ones(5, 8)}, r"embeddings\.weight is \(5, 8\) instead of"),
        ({LEFT: None}, r"norm, as generator\.layers\.1\.conv_2\.weight_u is missing"),
        ({LEFT: torch.ones(3)}, r"conv_2\.weight_u \(3,\) and .* do not fit"),
        ({ORIGINAL: torch.ones(8)}, r"conv_2\.weight_orig is \(8,\), which"),
        ({LEFT: torch.zeros(8)}, r"the spectral norm of .*conv_2\.weight_orig is 0 by"),
        ({LEFT: torch.full((8,), torch.nan)}, r"the spectral norm of .* is nan by"),
        (
            {ORIGINAL: None, LEFT: None, f"{STEM}.weight_v": None},
            r"1 missing \(generator\.layers\.1\.conv_2\.weight\)",
        ),
    ],
)
def test_entries_that_are_not_this_networks_are_told(
    change: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    state = {k: v for k, v in (small_state() | change).items() if v is not None}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=rf"w\.safetensors: .*{message}"):
        load_biggan(tmp_path / "w.safetensors", config=SMALL)


def test_missing_and_damaged_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds neither pytorch_model\.bin nor model\.safe"):
        load_biggan(tmp_path)
    with pytest.raises(WeightsError, match=r"gone\.bin: no such weights file"):
        load_biggan(tmp_path / "gone.bin")
    path = as_binary(tmp_path)
    with pytest.raises(WeightsError, match=r"has 5 entries `generator\.layers\.\*`; BigGAN-deep"):
        load_biggan(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin: is not a whole PyTorch"):
        load_biggan(tmp_path, config=SMALL)
    torch.save({"generator.gen_z": partial(print)}, path)
    with pytest.raises(WeightsError, match="would run code from the file"):
        load_biggan(tmp_path, config=SMALL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps": None}, "it has no 'eps'"),
        ({"layers": None}, "it has no 'layers'"),
        ({"layers": [[False, 4]]}, "not enough values"),
        ({"layers": [[False, 4, 3]]}, "block 0 goes from 4 to 3|expected the index of one"),
        ({"z_dim": [1]}, "not the configuration of a BigGAN-deep"),
        ({"output_dim": 32}, "says output_dim 32, but its layers make pictures of 16 pixels"),
    ],
)
def test_a_configuration_that_is_not_of_a_biggan_is_told(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    as_binary(tmp_path)
    write_json(tmp_path / "config.json", **changes)
    with pytest.raises(WeightsError, match=rf"config\.json: .*({message})"):
        load_biggan(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_a_configuration_that_is_not_json_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(WeightsError, match=r"c\.json: is not the configuration"):
        BigGANConfig.from_json(tmp_path / "c.json")
    with pytest.raises(WeightsError, match=r"gone\.json: cannot be read \(No such file"):
        BigGANConfig.from_json(tmp_path / "gone.json")


def test_the_published_configuration_is_read_from_its_json(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", BigGANConfig.of(256))
    assert BigGANConfig.from_json(tmp_path / "config.json") == BigGANConfig.of(256)


def test_random_weights_give_finite_pictures() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = BigGANDeep(SMALL)
    latent = 4 * uniform(2, SMALL.latent) - 2
    made = net(latent, net.embeddings(torch.eye(SMALL.classes)[:2]))
    assert made.isfinite().all()
    assert made.std() > 0
