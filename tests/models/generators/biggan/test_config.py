from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from invertkit.errors import InputError, WeightsError
from invertkit.models.generators.biggan.config import BigGANConfig
from invertkit.models.generators.biggan.files import load_biggan
from tests.models.generators.biggan.port import (
    PUBLISHED,
    SMALL,
    as_binary,
    write_json,
)


@pytest.fixture(autouse=True)
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("resolution", [128, 256, 512])
def test_the_published_configurations(resolution: int) -> None:
    config = BigGANConfig.of(resolution)
    listed = PUBLISHED[resolution].split()
    assert [f"{'FT'[up]}{a},{b}" for up, a, b in config.layers] == listed
    assert config.resolution == resolution
    assert (config.latent, config.embedding, config.channel_width) == (128, 128, 128)
    assert (config.attention, config.classes, config.eps, config.n_stats) == (8, 1000, 1e-4, 51)


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
