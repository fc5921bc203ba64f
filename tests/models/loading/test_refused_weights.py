"""Weights that cannot be used: one sentence that says why, and no code is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from invertkit.models.classifiers.convert import convert_weights
from invertkit.models.classifiers.kitnet import KitNet
from invertkit.models.loading.weights_file import read_weights
from tests.faces import invertkit
from tests.faults import Refuse, write
from tests.helpers import KITNET, tiny_classifier

pytestmark = pytest.mark.usefixtures("offline")

NETWORK = "shufflenet_v2_x0_5"  # the smallest of torchvision


@pytest.fixture(scope="module")
def network() -> dict[str, Tensor]:
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        return dict(models.get_model(NETWORK, weights=None).state_dict())


@pytest.fixture
def weights_fault(refuse: Refuse) -> Callable[[Path], str]:
    return lambda path: refuse(
        "--set", f"models={{net: {{type: torchvision, name: {NETWORK}, weights: {path}}}}}"
    )


WeightsFault = Callable[[Path], str]


def test_weights_that_are_missing(weights_fault: WeightsFault, tmp_path: Path) -> None:
    said = weights_fault(tmp_path / "w.pt")
    assert said == f"models.net: {tmp_path}/w.pt: no such weights file."


@pytest.mark.parametrize("keep", [0, 5, 1000, 0.5, 0.99])
def test_truncated_safetensors(
    weights_fault: WeightsFault, tmp_path: Path, network: dict[str, Tensor], keep: float
) -> None:
    save_file(network, tmp_path / "whole.safetensors")
    data = (tmp_path / "whole.safetensors").read_bytes()
    kept = int(keep * len(data)) if isinstance(keep, float) else keep
    said = weights_fault(write(tmp_path / "w.safetensors", data[:kept]))
    assert said.startswith(f"models.net: {tmp_path}/w.safetensors: is not a whole safetensors file")
    assert said.endswith("Copy or download it again.")


@pytest.mark.parametrize("keep", [0, 5, 1000, 0.5, 0.99])
def test_truncated_pytorch_checkpoints(
    weights_fault: WeightsFault, tmp_path: Path, network: dict[str, Tensor], keep: float
) -> None:
    torch.save(network, tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    kept = int(keep * len(data)) if isinstance(keep, float) else keep
    said = weights_fault(write(tmp_path / "w.pt", data[:kept]))
    assert said.startswith(f"models.net: {tmp_path}/w.pt: is not a whole PyTorch or safetensors ")
    assert said.endswith("Copy or download it again.")


@pytest.mark.parametrize("data", [b"I am a text, not a network. " * 9, b"\x80\x02}q\x00."])
def test_a_file_that_holds_no_weights(
    weights_fault: WeightsFault, tmp_path: Path, data: bytes
) -> None:
    said = weights_fault(write(tmp_path / "w.pt", data))
    assert said.startswith(f"models.net: {tmp_path}/w.pt: ")


def test_weights_of_another_network(weights_fault: WeightsFault, tmp_path: Path) -> None:
    save_file(tiny_classifier().net.state_dict(), tmp_path / "w.safetensors")
    said = weights_fault(tmp_path / "w.safetensors")
    assert f"{tmp_path}/w.safetensors: belongs to another network than ShuffleNetV2" in said
    assert " missing (" in said
    assert " unknown (" in said
    assert said.endswith("Name the architecture these weights were trained for.")


def test_weights_of_the_same_network_with_one_entry_of_another_size(
    weights_fault: WeightsFault, tmp_path: Path, network: dict[str, Tensor]
) -> None:
    other = {**network, "fc.weight": torch.zeros(10, 1024)}
    save_file(other, tmp_path / "w.safetensors")
    said = weights_fault(tmp_path / "w.safetensors")
    assert "1 of another shape (fc.weight is (10, 1024) instead of (1000, 1024))" in said


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_weights_that_need_code_are_refused_and_the_code_does_not_run(
    weights_fault: WeightsFault, tmp_path: Path, network: dict[str, Tensor]
) -> None:
    torch.save({"state_dict": network, "extra": Payload(tmp_path / "ran")}, tmp_path / "w.pt")
    assert weights_fault(tmp_path / "w.pt") == (
        f"models.net: {tmp_path}/w.pt: holds more than tensors, and reading it would run code from "
        f"the file (posix.mkdir). If you trust where it comes from, convert it once: `invertkit "
        f"models convert {tmp_path}/w.pt w.safetensors --trust`."
    )
    assert not (tmp_path / "ran").exists()
    answer = invertkit("models", "convert", tmp_path / "w.pt", tmp_path / "w.safetensors")
    assert "would run code" in answer.sentence
    assert not (tmp_path / "ran").exists()

    answer = invertkit(
        "models", "convert", tmp_path / "w.pt", tmp_path / "w.safetensors", "--trust"
    )
    assert answer.code == 0, answer
    assert (tmp_path / "ran").exists()
    assert answer.out == f"{tmp_path}/w.safetensors: {len(network)} tensors.\n"
    back = read_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(back[key], value) for key, value in network.items())


def test_a_file_of_the_old_format_that_needs_code_is_refused(
    weights_fault: WeightsFault, tmp_path: Path
) -> None:
    import pickle

    write(tmp_path / "w.pt", pickle.dumps(Payload(tmp_path / "ran")))
    assert "w.pt: " in weights_fault(tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


def test_converting_overwrites_nothing(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "w.pt")
    write(tmp_path / "w.safetensors", "mine")
    assert invertkit(
        "models", "convert", tmp_path / "w.pt", tmp_path / "w.safetensors"
    ).sentence == (f"{tmp_path}/w.safetensors: exists already, and nothing is overwritten.")
    assert "expected a name ending in .safetensors" in (
        invertkit("models", "convert", tmp_path / "w.pt", tmp_path / "w.bin").sentence
    )
    assert "cannot be written" in (
        invertkit(
            "models", "convert", tmp_path / "w.pt", tmp_path / "no" / "w.safetensors"
        ).sentence
    )
    assert "no such weights file" in (
        invertkit(
            "models", "convert", tmp_path / "no.pt", tmp_path / "x.safetensors", "--trust"
        ).sentence
    )
    write(tmp_path / "bad.pt", b"\x80\x02garbage")
    assert "is not a whole PyTorch" in (
        invertkit(
            "models", "convert", tmp_path / "bad.pt", tmp_path / "x.safetensors", "--trust"
        ).sentence
    )


def test_tensors_that_share_memory_are_converted(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    torch.save({"a": shared, "b": shared, "c": shared[2:]}, tmp_path / "w.pt")
    made = convert_weights(tmp_path / "w.pt", tmp_path / "w.safetensors", trust=False)
    assert made["tensors"] == 3
    assert torch.equal(read_weights(tmp_path / "w.safetensors")["c"], shared[2:])


def test_the_embedded_format_is_told_from_others(refuse: Refuse, tmp_path: Path) -> None:
    save_file(KitNet(2, widths=(4, 4, 8, 8)).state_dict(), tmp_path / "w.safetensors")
    said = refuse("--set", f"models={{net: {{type: embedded, weights: {tmp_path}/w.safetensors}}}}")
    assert "w.safetensors: was not made by `invertkit train classifier`" in said
    half = KITNET.read_bytes()[:5000]
    write(tmp_path / "half.safetensors", half)
    said = refuse(
        "--set", f"models={{net: {{type: embedded, weights: {tmp_path}/half.safetensors}}}}"
    )
    assert "half.safetensors: is not a whole safetensors file" in said


def test_weights_that_cannot_be_fetched(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    said = refuse("--set", f"models={{net: {{type: torchvision, name: {NETWORK}}}}}")
    assert said.startswith(f"models.net: The weights of torchvision's {NETWORK} are not in the ca")
    assert "are not in the cache and cannot be fetched (HF_HUB_OFFLINE is set). Connect to" in said
    assert "`weights:` (or `--weights`), or use the embedded classifier" in said
    for word in ("{type: robust, name: resnet50-l2-eps1}", "resnet50-l2-eps1"):
        said = refuse("--set", f"models={{net: {word}}}")
        assert "weights of madrylab/robust-imagenet-models/resnet50_l2_eps1.ckpt are not" in said
