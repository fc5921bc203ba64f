from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import dill
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from invertkit.models.classifiers.catalogue import ENTRIES
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.loading.safetensors_file import read_facts
from invertkit.models.loading.weights_file import read_weights
from tests.faces import invertkit
from tests.helpers import KITNET
from tests.models.loading.checkpoints import (
    SMALL,
    Payload,
    checkpoint_of_training,
    robustness_layout,
    state_of,
)


@pytest.fixture(scope="module")
def network() -> dict[str, Tensor]:
    return state_of("shufflenet_v2_x1_0")


def test_the_table_and_its_filters() -> None:
    answer = invertkit("models")
    assert answer.code == 0
    lines = answer.out.strip().split("\n")
    assert len(lines) == 1 + len(ENTRIES)
    assert lines[0].split() == ["name", "trained", "against", "accuracy", "data", "from"]
    assert "timm:NAME" in answer.err
    few = invertkit("models", "--architecture", "resnet50", "--norm", "l2", "--max-eps", "0.05",
                    "--source", "salman2020", "--dataset", "imagenet")  # fmt: skip
    assert [line.split()[0] for line in few.out.strip().split("\n")[1:]] == [
        f"resnet50-l2-eps{eps}" for eps in ("0", "0.01", "0.03", "0.05")
    ]
    one = invertkit("models", "--search", "magic's aaai", "--eps", "0.05", "--json")
    (found,) = json.loads(one.out)
    assert found["name"] == "resnet50-l2-eps0.05"
    assert found["accuracy"] == 75.59


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--norm", "l3"], "--norm l3: expected one of l2, linf, none."),
        (["--dataset", "mnist"], "--dataset mnist: expected one of cifar10, imagenet."),
        (["--source", "me"], "--source me: expected one of invertkit, robustness, salman2020."),
        (["--eps", "77"], "No classifier of the catalogue fits these filters; leave one out."),
        (["show", "resnet50-l2-eps0.06"], "Did you mean 'resnet50-l2-eps0.05'"),
        (["fetch", "qqq"], "qqq: no such name in the catalogue. `invertkit models` lists it."),
        (["fetch", "timm:resnet18"], "timm:resnet18: has no line in the catalogue; it is fetched"),
        (["verify", "qqq"], "qqq: neither a name of the catalogue nor a file."),
        (["verify", "./qqq.pt"], "qqq.pt: no such weights file."),
    ],
)
def test_mistakes_are_one_sentence(options: list[str], said: str) -> None:
    assert said in invertkit("models", *options).sentence


def test_one_is_explained() -> None:
    out = invertkit("models", "show", "resnet50-linf-eps4.0").out
    for fact in ("204,818,947 bytes", "9e62216975c111b8", "MIT", "arXiv:2007.08489", "63.86 %",
                 "224×224", "0.485 0.456 0.406", "linf 4/255"):  # fmt: skip
        assert fact in out
    assert "not published" in invertkit("models", "show", "resnet18-l2-eps0").out
    facts = json.loads(invertkit("models", "show", "embedded", "--json").out)
    assert facts["architecture"] == "timm:tf_efficientnet_lite0"


def test_classes_are_listed_and_searched() -> None:
    lines = invertkit("models", "classes").out.rstrip("\n").split("\n")
    assert len(lines) == 1000
    assert lines[1] == "  1  goldfish"
    assert invertkit("models", "classes", "embedded", "--search", "Tabby").out == "281  tabby\n"
    found = json.loads(invertkit("models", "classes", "--search", "fox terrier", "--json").out)
    assert "wire-haired fox terrier" in found.values()
    assert invertkit("models", "classes", KITNET).out.startswith("0  airplane\n")
    assert "none of its 1000 classes holds 'unicorn'" in invertkit(
        "models", "classes", "--search", "unicorn"
    ).sentence  # fmt: skip


def test_a_file_is_verified(tmp_path: Path, network: dict[str, Tensor]) -> None:
    path = tmp_path / "shufflenet_l2_eps3.ckpt"
    torch.save(checkpoint_of_training(robustness_layout(network)), path)
    for arguments in ([path], ["shufflenet-l2-eps3", "--weights", tmp_path]):
        out = invertkit("models", "verify", *arguments).out
        assert f"{2 * len(network) + 4}, {len(network)} of them repeated; every one is acc" in out
        assert "the robustness library's, a state dict under `model`" in out
        assert "shufflenet_v2_x1_0" in out
        assert "2,278,604" in out, "torchvision's own count of parameters"
        assert "optimizer, schedule, epoch, nat_prec1, amp" in out
        assert "mean 0.485 0.456 0.406, std 0.229 0.224 0.225, in the file's entries" in out
    facts = json.loads(invertkit("models", "verify", path, "--json").out)
    assert facts["classes"] == 1000
    other = robustness_layout(network, mean=(0.1, 0.2, 0.3))
    torch.save({"model": other}, path)
    answer = invertkit("models", "verify", "shufflenet-l2-eps3", "--weights", path)
    assert "the catalogue says mean 0.485" in answer.out


def test_the_embedded_classifier_verifies() -> None:
    out = invertkit("models", "verify", "embedded").out
    assert "timm:tf_efficientnet_lite0" in out
    assert "4,652,008" in out, "parameters as published"
    assert "safetensors" in out


def test_what_verify_finds_wrong_is_one_sentence(
    tmp_path: Path, network: dict[str, Tensor]
) -> None:
    path = tmp_path / "w.pt"

    def said(**data: object) -> str:
        torch.save(data["data"], path)
        return invertkit("models", "verify", path).sentence

    assert "are those of no network" in said(data={"a": torch.zeros(3)})
    assert "not finite (fc.bias)" in said(data={**network, "fc.bias": torch.full((1000,), 1 / 0.7) *
                                                float("inf")})  # fmt: skip
    assert "would run code" in said(data={"model": network, "x": Payload(tmp_path / "ran")})
    assert not (tmp_path / "ran").exists()
    torch.save(network, path)
    answer = invertkit("models", "verify", path, "--architecture", f"torchvision:{SMALL}")
    assert "belongs to another network than ShuffleNetV2" in answer.sentence
    path.write_bytes(path.read_bytes()[:-1000])
    assert "is not a whole PyTorch" in invertkit("models", "verify", path).sentence


@pytest.mark.parametrize("how", ["zip", "older", "dill"])
def test_a_converted_file_loads_by_itself(
    tmp_path: Path, network: dict[str, Tensor], how: str
) -> None:
    data = checkpoint_of_training(robustness_layout(network, mean=(0.1, 0.2, 0.3)))
    options: dict[str, object] = {"_use_new_zipfile_serialization": how != "older"}
    if how == "dill":
        data |= {"schedule_of": lambda epoch: epoch}
        options |= {"pickle_module": dill}
    torch.save(data, tmp_path / "w.ckpt", **options)
    answer = invertkit("models", "convert", tmp_path / "w.ckpt")
    made = tmp_path / "w.safetensors"
    assert answer.out == f"{made}: {len(network)} tensors.\n"
    assert "It is shufflenet_v2_x1_0 and loads by itself" in answer.err
    before = open_classifier("shufflenet-l2-eps0", weights=tmp_path / "w.ckpt")
    after = open_classifier(made)
    assert after.mean == before.mean == pytest.approx((0.1, 0.2, 0.3))
    assert after.classes == before.classes
    assert all(torch.equal(after.net.state_dict()[k], v) for k, v in network.items())
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []
    assert made.stat().st_mode & 0o777 == 0o644
    assert read_facts(made)["converted_from"] == "w.ckpt"


def test_the_same_network_with_other_names_is_converted_in_order(tmp_path: Path) -> None:
    """As of EfficientNet-Lite0 in a package that names every tensor its own way."""
    state = state_of("timm:lcnet_035", classes=4)
    other = {f"_{i}.{key.split(chr(46))[-1]}": v for i, (key, v) in enumerate(state.items())}
    torch.save(other, tmp_path / "w.pt")
    made = tmp_path / "w.safetensors"
    command = ("models", "convert", tmp_path / "w.pt", "--architecture", "timm:lcnet_035", "--half")
    assert invertkit(*command).code == 0
    read = read_weights(made)
    assert set(read) == set(state)
    for name, value in state.items():
        if value.is_floating_point():
            assert read[name].dtype == torch.float16
        assert torch.equal(read[name].to(value.dtype), value.half().to(value.dtype)), name
    facts = read_facts(made)
    assert (facts["mean"], facts["size"]) == ([0.485, 0.456, 0.406], 224)
    assert open_classifier(made).classes == tuple(f"class {i}" for i in range(4))
    made.unlink()
    # What a training that was told no names has written keeps its plan, not its numbers.
    numbered = {"architecture": "timm:lcnet_035", "classes": list("0123"), "plan": {"seed": 3}}
    texts = {key: json.dumps(value) for key, value in numbered.items()}
    save_file(state, tmp_path / "t.safetensors", metadata=texts)
    assert invertkit("models", "convert", tmp_path / "t.safetensors", made).code == 0
    facts = read_facts(made)
    assert (facts["classes"], facts["plan"]) == ([f"class {i}" for i in range(4)], {"seed": 3})
    made.unlink()
    swapped = list(other.items())
    swapped[0], swapped[-2] = swapped[-2], swapped[0]
    torch.save(dict(swapped), tmp_path / "w.pt")
    assert "belongs to another network than" in invertkit(*command).sentence
    assert not made.exists()


def test_converting_with_the_architecture_named(tmp_path: Path) -> None:
    state = state_of("timm:lcnet_035", classes=4)
    torch.save(state, tmp_path / "w.pt")
    made = tmp_path / "w.safetensors"
    wrong = invertkit("models", "convert", tmp_path / "w.pt", "--architecture", "timm:resnet10t")
    assert "belongs to another network than ResNet" in wrong.sentence
    assert not made.exists()
    assert invertkit(
        "models", "convert", tmp_path / "w.pt", "--architecture", "timm:lcnet_035"
    ).code == 0  # fmt: skip
    assert open_classifier(made).classes == ("class 0", "class 1", "class 2", "class 3")


def test_a_disk_that_is_full_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(300_000)}, tmp_path / "w.pt")

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    # The file of a coverage measurement would not fit on such a disk either.
    uncovered = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-m", "invertkit", "models", "convert", "w.pt"],
        cwd=tmp_path, capture_output=True, text=True, preexec_fn=small, check=False,
        env=uncovered | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().split("\n")
    assert line.startswith("invertkit: w.safetensors: cannot be written (")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pt"]


def test_what_only_code_can_read_needs_trust(tmp_path: Path) -> None:
    """A sparse tensor is rebuilt by code that only torch has."""
    net = torch.nn.Linear(3, 2)
    torch.save({"model": net.state_dict(), "extra": Payload(tmp_path / "ran")}, tmp_path / "w.pt")
    refused = invertkit("models", "convert", tmp_path / "w.pt")
    assert "would run code" in refused.sentence
    assert not (tmp_path / "ran").exists()
    assert invertkit("models", "convert", tmp_path / "w.pt", "--trust").code == 0
    assert (tmp_path / "ran").exists()
    assert torch.equal(read_weights(tmp_path / "w.safetensors")["weight"], net.weight)
