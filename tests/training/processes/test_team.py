"""Two CPU processes train as one."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from invertkit.errors import InputError
from invertkit.training.processes.batch_norm import share_batch_norms
from invertkit.training.processes.team import team_of
from tests.faces import invertkit
from tests.photographs import write_photographs
from tests.training.processes.two_processes import compare_batch_norms

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONPATH": str(ROOT),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("team") / "photographs", count=8)


def as_told_by_torchrun(folder: Path) -> dict[str, str]:
    """What `torchrun` tells both processes; they meet at a port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": folder.name,
    }  # fmt: skip


def options(data: Path, out: Path) -> list[str]:
    return ["train", "classifier", "--data", str(data), "--out", str(out), "--size", "16",
            "--resolution", "16", "--batch", "4", "--epochs", "3", "--clean-epochs", "1",
            "--lr", "0.05", "--eps", "0.5", "--attack-steps", "2", "--random-start", "--ema",
            "0.9", "--log-every", "1", "--device", "cpu"]  # fmt: skip


def curve(out: Path) -> list[dict[str, float]]:
    with (out / "history.csv").open(newline="", encoding="utf-8") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


def alike(out: Path, other: Path) -> None:
    """The same losses and weights, up to what rounding in another order of sums makes of them."""
    here, there = curve(out), curve(other)
    assert len(here) == len(there) == 12
    for one, two in zip(here, there, strict=True):
        assert one == pytest.approx(two, rel=2e-4)
    assert here[0]["loss"] == pytest.approx(there[0]["loss"], rel=1e-6)
    weights, others = (load_file(path / "classifier.safetensors") for path in (out, other))
    for name, value in weights.items():
        assert torch.allclose(value.float(), others[name].float(), rtol=0.01, atol=2e-3), name


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "out"
    answer = invertkit(*options(data, out))
    assert answer.code == 0, answer
    return out


def test_two_processes_have_the_loss_curve_of_one(data: Path, alone: Path, tmp_path: Path) -> None:
    """This process is the first of them; the other is what `torchrun` would have started."""
    out = tmp_path / "out"
    told = as_told_by_torchrun(tmp_path)
    other = subprocess.Popen(
        [sys.executable, "-m", "tests.training.processes.two_processes", str(tmp_path),
         "invertkit", *options(data, out)],
        env={**ENVIRONMENT, **told, "RANK": "1", "LOCAL_RANK": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with mock.patch.dict(os.environ, {**told, "RANK": "0", "LOCAL_RANK": "0"}):
        compare_batch_norms(tmp_path)
        answer = invertkit(*options(data, out))
    printed, complaints = other.communicate(timeout=200)
    assert (answer.code, other.returncode) == (0, 0), (answer, complaints)
    for rank in (0, 1):
        differences = json.loads((tmp_path / f"{rank}.json").read_text())
        assert set(differences) == {"plain", "cumulative", "bare", "activated", "deep"}
        assert max(differences.values()) < 1e-12, differences
    assert answer.out.strip() == str(out / "classifier.safetensors")
    assert answer.err.count("epoch 1/3 step 1/4") == 1
    assert (printed, complaints) == ("", "")  # one process speaks
    alike(out, alone)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_starts_the_others_and_stops_them_together(
    data: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "invertkit", *options(data, out), "--devices", "2"]
    running = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    history = out / "history.csv"
    deadline = time.monotonic() + 200
    while not (history.exists() and history.read_text().count("\n") > 3):
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=200)
    assert running.returncode == 130, said
    assert "Interrupted. Go on with the same options and --resume." in said
    assert "Traceback" not in said
    assert not (out / "classifier.safetensors").exists()
    refused = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    sentences = [line for line in refused.stderr.splitlines() if line.startswith("invertkit: ")]
    assert len(sentences) == 1
    assert "is of an earlier training" in sentences[0]
    assert "Traceback" not in refused.stderr
    done = subprocess.run(
        [*command, "--resume"], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    alike(out, alone)


# ---------------------------------------------------------------------- what cannot be


def test_another_batch_norm_is_refused_without_cuda() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3))
    with pytest.raises(InputError, match="BatchNorm1d: cannot be shared among processes"):
        share_batch_norms(net, device=torch.device("cpu"))


@pytest.mark.parametrize("wrong", [{"devices": 0}, {"nodes": -1}])
def test_fewer_than_one_process_is_a_sentence(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected --devices and --nodes of at least 1"):
        team_of(torch.device("cpu"), **wrong)


def test_without_the_extra_several_processes_are_a_sentence(
    monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    arguments = [*options(data, tmp_path / "out"), "--devices", "2"]
    assert invertkit(*arguments).sentence == (
        "training on several processes needs Lightning Fabric: `pip install 'invertkit[train]'`, "
        "or train with --devices 1."
    )


def test_a_batch_that_cannot_be_shared_is_a_sentence(data: Path, tmp_path: Path) -> None:
    from invertkit.training.classifier.train import TrainingPlan, train_classifier
    from invertkit.training.data.batches import Share
    from invertkit.training.data.photographs import load_photographs
    from invertkit.training.processes.team import Team

    team = Team(torch.device("cpu"))
    team.share = Share(0, 3)
    with pytest.raises(InputError, match="a batch that 3 processes can share evenly, got 4"):
        train_classifier(
            TrainingPlan(batch=4, size=16), load_photographs(data, resolution=16),
            out=tmp_path, team=team,
        )  # fmt: skip
