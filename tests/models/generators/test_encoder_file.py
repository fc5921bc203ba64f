"""Files of encoders by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from invertkit.errors import WeightsError
from invertkit.models.generators.conditional import ConditionalEncoder
from invertkit.models.generators.encoder_file import encoder, save_encoder
from tests.helpers import uniform
from tests.latents import encoder64

FACTS: dict[str, Any] = {
    "latent": 5, "embedding": 4, "channels": (8, 8, 8), "size": 32, "gives": "z", "takes": "kind",
    "generator": "a tiny generator",
}  # fmt: skip


def test_what_a_training_leaves_is_read_again(tmp_path: Path) -> None:
    net = encoder64().float().net
    assert isinstance(net, ConditionalEncoder)
    save_encoder(net, tmp_path / "e.safetensors", facts=FACTS)
    read = encoder(weights=tmp_path / "e.safetensors")
    assert (read.gives, read.takes, read.size) == (("z",), ("kind",), 32)
    assert read.description.endswith("for a tiny generator")
    picture, kind = uniform(2, 3, 32, 32, dtype=torch.float32), torch.zeros(2, 4)
    guess, wanted = read.encode(picture, kind=kind)["z"], net(picture * 2 - 1, kind)
    torch.testing.assert_close(guess, wanted, rtol=5e-3, atol=5e-3)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file of `invertkit train encoder`"):
        encoder(weights=tmp_path / "none.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="was not made by `invertkit train encoder`"):
        encoder(weights=tmp_path / "other.safetensors")
    texts = {"architecture": '"conditional-encoder"', "latent": "5"}
    save_file({"a": torch.zeros(1)}, tmp_path / "half.safetensors", texts)
    with pytest.raises(WeightsError, match="its metadata are not those of an encoder"):
        encoder(weights=tmp_path / "half.safetensors")
    net = encoder64().float().net
    assert isinstance(net, ConditionalEncoder)
    save_encoder(net, tmp_path / "wide.safetensors", facts={**FACTS, "latent": 6})
    with pytest.raises(WeightsError, match="belongs to another network"):
        encoder(weights=tmp_path / "wide.safetensors")
