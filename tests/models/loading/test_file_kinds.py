from __future__ import annotations

import gzip
import json
import sys
import warnings
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import nn

from invertkit.errors import WeightsError
from invertkit.models.classifiers.convert import convert_weights
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.loading.file_kinds import kind_of, stranger
from invertkit.models.loading.weights_file import read_layout, read_weights
from tests.faces import invertkit
from tests.helpers import KITNET

STRANGERS = {
    "pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 97\n",
        "pointer that a large-file store keeps.*git lfs pull",
    ),
    "annex": (b"/annex/objects/SHA256E-s97--aa.pt\n", "pointer.*git annex get"),
    "page": (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is a web page"),
    "page without doctype": (b"<HTML><head></head>", "is a web page"),
    "refusal": (b'{"error": "Repository not found"}', "is a JSON text"),
    "store": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML document"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(600), "is an HDF5 file"),
    "gzip": (gzip.compress(b"weights" * 100), r"is compressed \(gzip\): unpack it"),
}


@pytest.mark.parametrize("ending", [".pt", ".bin", ".safetensors"])
@pytest.mark.parametrize("name", STRANGERS)
def test_a_file_that_is_no_weights_is_told_for_what_it_is(
    name: str, ending: str, tmp_path: Path
) -> None:
    data, said = STRANGERS[name]
    path = tmp_path / f"w{ending}"
    path.write_bytes(data)
    for trust in (False, True):
        with pytest.raises(WeightsError, match=rf"w{ending}: .*{said}"):
            convert_weights(path, tmp_path / "out.safetensors", trust=trust)
    with pytest.raises(WeightsError, match=said):
        read_weights(path)


def test_an_archive_of_weights_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as file:
        file.writestr("net/w.bin", b"1")
    with pytest.raises(WeightsError, match=r"is an archive \(zip\) of net/w.bin: unpack it"):
        read_layout(tmp_path / "w.pth")


@given(
    state=st.dictionaries(
        st.text("ab._", min_size=1, max_size=300), st.builds(torch.ones, st.integers(1, 3))
    )
)
def test_safetensors_are_told_whatever_their_header(
    tmp_path_factory: pytest.TempPathFactory, state: dict[str, torch.Tensor]
) -> None:
    path = tmp_path_factory.mktemp("kinds") / "w.bin"
    path.write_bytes(save(state, {"note": "x"}))
    assert kind_of(path) == "safetensors"
    assert stranger(path) == "" or kind_of(path) == "safetensors"
    if state:
        assert set(read_layout(path).state) == set(state)


def test_a_file_is_read_by_what_it_is_and_not_by_its_ending(tmp_path: Path) -> None:
    renamed = tmp_path / "pytorch_model.bin"
    renamed.write_bytes(KITNET.read_bytes())
    wanted = read_weights(KITNET)
    assert torch.equal(read_weights(renamed)["stem.0.weight"], wanted["stem.0.weight"])
    assert open_classifier(renamed).classes == open_classifier(KITNET).classes
    facts = convert_weights(renamed, tmp_path / "again.safetensors", trust=True)
    assert facts["classes"] == list(open_classifier(KITNET).classes)
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save(wanted, tmp_path / "w.safetensors", **options)
        assert read_weights(tmp_path / "w.safetensors").keys() == wanted.keys()


def test_compiled_networks_are_code_and_are_converted_on_trust(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    with warnings.catch_warnings(action="ignore"):
        traced = torch.jit.trace(net, torch.zeros(1, 3, 2, 2))  # type: ignore[no-untyped-call]
    traced.save(tmp_path / "w.pt")
    assert kind_of(tmp_path / "w.pt") == "torchscript"
    with pytest.raises(WeightsError, match=r"is a compiled network \(TorchScript\).*--trust"):
        read_layout(tmp_path / "w.pt")
    convert_weights(tmp_path / "w.pt", tmp_path / "w.safetensors", trust=True)
    back = read_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(back[key], value) for key, value in net.state_dict().items())


@pytest.fixture
def gone() -> Any:
    """A module whose classes are there while something is saved, and then no longer."""
    module = ModuleType("their_code")
    kind = type("Plan", (), {"__module__": "their_code"})
    module.Plan = kind  # type: ignore[attr-defined]
    sys.modules["their_code"] = module
    yield module
    sys.modules.pop("their_code", None)


def test_trust_asks_for_nothing_that_reading_without_does_not(tmp_path: Path, gone: Any) -> None:
    net = nn.Linear(2, 3)
    torch.save({"net": net.state_dict(), "plan": gone.Plan()}, tmp_path / "w.pt")
    del sys.modules["their_code"]
    for i, trust in enumerate((False, True)):
        convert_weights(tmp_path / "w.pt", tmp_path / f"{i}.safetensors", trust=trust)
        assert read_weights(tmp_path / f"{i}.safetensors").keys() == net.state_dict().keys()


class Calls:
    """What only code can read: made by a function of a module that is not there later."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.getenv, ("NONE",)


def test_a_class_that_is_not_there_is_named(tmp_path: Path, gone: Any) -> None:
    data = {"net": nn.Linear(2, 3).state_dict(), "plan": gone.Plan(), "calls": Calls()}
    torch.save(data, tmp_path / "w.pt")
    del sys.modules["their_code"]
    answer = invertkit(
        "models", "convert", tmp_path / "w.pt", tmp_path / "w.safetensors", "--trust"
    )
    assert answer.code == 2
    assert "class that is not to be found here (No module named 'their_code')" in answer.sentence
    assert "again" not in answer.sentence


def test_networks_pickled_whole_are_converted_wherever_they_lie(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 3))
    for i, data in enumerate((net, {"net": net, "epoch": 1}, {"a": {"model_ema": net}})):
        torch.save({"calls": Calls(), "of": data}, tmp_path / f"{i}.pt")
        convert_weights(tmp_path / f"{i}.pt", tmp_path / f"{i}.safetensors", trust=True)
        assert read_weights(tmp_path / f"{i}.safetensors").keys() == net.state_dict().keys()


def test_headers_that_lie_are_no_safetensors(tmp_path: Path) -> None:
    for data in (
        b"",
        b"12345678",
        (10**12).to_bytes(8, "little") + b"{}",
        b"\x02" + bytes(7) + b"[]",
    ):
        (tmp_path / "w").write_bytes(data)
        assert kind_of(tmp_path / "w") == "other"
    (tmp_path / "w").write_bytes(b"\x02" + bytes(7) + json.dumps({}).encode())
    assert kind_of(tmp_path / "w") == "safetensors"
    save_file({"a": torch.ones(1)}, tmp_path / "w")
    assert kind_of(tmp_path / "w") == "safetensors"
