from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from invertkit.errors import WeightsError
from invertkit.models.generators.biggan.config import BigGANConfig
from invertkit.models.generators.biggan.files import load_biggan, without_spectral_norm
from invertkit.models.generators.biggan.network import BigGANDeep
from tests.helpers import global_generators_unmoved, normal
from tests.models.generators.biggan.port import (
    SMALL,
    as_binary,
    as_safetensors,
    inputs,
    port_shapes,
    port_state,
    restated,
    small_net,
    small_state,
    write_json,
)


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@given(shape=st.sampled_from([(4, 7), (6, 2), (3, 5, 1, 1), (4, 2, 3, 3)]), seed=st.integers(0, 99))
def test_a_weight_divided_by_its_norm_has_norm_one(shape: tuple[int, ...], seed: int) -> None:
    weight = normal(*shape, seed=seed)
    left, _, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    state = {"a.weight_orig": weight, "a.weight_u": left[:, 0], "a.weight_v": right[0]}
    baked = without_spectral_norm(state | {"a.num_batches_tracked": torch.ones(())}, name="a")
    assert list(baked) == ["a.weight"]
    assert torch.linalg.matrix_norm(baked["a.weight"].flatten(1), 2) == pytest.approx(1)


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
