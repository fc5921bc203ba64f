"""`invertkit train classifier` as a user meets it."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from invertkit.models.classifiers.open import open_classifier
from invertkit.models.loading.safetensors_file import metadata
from invertkit.models.loading.weights_file import sha256
from invertkit.training.loop.bar import TrainingBar
from invertkit.training.loop.history import TrainingMoment
from invertkit.training.loop.history import TrainingRow as Row
from tests.faces import invertkit
from tests.helpers import KITNET
from tests.photographs import write_photographs

FAST = ("--size", 16, "--resolution", 16, "--batch", 4, "--epochs", 2, "--lr", 0.05,
        "--attack-steps", 1, "--device", "cpu")  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("command") / "photographs", count=6)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training from trained weights, with the options of a long one, only smaller."""
    out = tmp_path_factory.mktemp("trained") / "out"
    answer = invertkit(
        "train", "classifier", "--data", data, "--test", data, "--out", out, "--init", KITNET,
        "--low-epochs", 1, "--low-size", 16, "--size", 20, "--resolution", 16, "--epochs", 2,
        "--batch", 4, "--lr", 0.2, "--rise", 0.15, "--ema", 0.995, "--eps", 0.05, "--step-size",
        0.05, "--attack-steps", 1, "--bf16", "--tensorboard", "--log-every", 2, "--radius", 0,
        "--radius", 0.5, "--measure", "pgd-3", "--measure", "pgd-2", "--device", "cpu",
    )  # fmt: skip
    assert answer.code == 0, answer
    assert answer.out.strip() == str(out / "classifier.safetensors")
    return out


def facts(out: Path) -> dict[str, Any]:
    said = metadata(out / "classifier.safetensors")
    return {key: json.loads(value) for key, value in said.items()}


def test_the_plan_is_what_was_asked_for(trained: Path) -> None:
    said = facts(trained)
    assert (said["architecture"], said["size"], said["classes"]) == ("kitnet", 20, ["blue", "red"])
    assert said["widths"] == [24, 48, 96, 192]
    assert "new last layer" in said["start"]
    wanted = {"epochs": 2, "low_epochs": 1, "low_size": 16, "size": 20, "batch": 4, "lr": 0.2,
              "rise": 0.15, "ema": 0.995, "bf16": True, "lr_schedule": "triangle"}  # fmt: skip
    assert {key: said["plan"][key] for key in wanted} == wanted
    attack = said["plan"]["attack"]
    assert (attack["eps"], attack["steps"], attack["step_size"]) == (0.05, 1, 0.05)
    assert said["mean"] == pytest.approx(open_classifier(KITNET).mean, abs=1e-6)


def test_the_folder_holds_everything(trained: Path) -> None:
    assert {path.name for path in trained.iterdir()} == {
        "checkpoint.pt", "classifier.md", "classifier.safetensors", "history.csv", "tensorboard",
    }  # fmt: skip
    assert (trained / "classifier.safetensors").stat().st_mode & 0o777 == 0o644
    with (trained / "history.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["epoch"], row["size"]) for row in rows] == [
        ("2", "1", "16"), ("3", "1", "16"), ("5", "2", "20"), ("6", "2", "20"),
    ]  # fmt: skip
    assert float(rows[0]["eps"]) == pytest.approx(0.04)


def test_the_model_card_tells_what_was_done(trained: Path) -> None:
    page = (trained / "classifier.md").read_text(encoding="utf-8")
    for part in ("Use", "Measured", "Data", "Objective", "Plan", "Command", "Hashes", "Limits"):
        assert f"\n## {part}\n" in page
    assert sha256(trained / "classifier.safetensors") in page
    assert "invertkit train classifier --data" in page
    assert "| trained, pgd-3 |" in page
    assert "| trained, pgd-2 |" in page
    assert "l2 ε = 0.5" in page
    assert "12 photographs" in page
    (plan,) = (block for block in page.split("```") if block.startswith("json"))
    assert json.loads(plan.removeprefix("json")) == facts(trained)["plan"]


def test_tensorboard_has_the_rows_and_the_measures(trained: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert {"train/loss", "train/lr", "train/eps", "test/trained, pgd-3 l2 eps 0.5"} <= set(tags)
    with (trained / "history.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    seen = [(event.step, event.value) for event in events.Scalars("train/loss")]
    wanted = [(int(row["step"]), float(row["loss"])) for row in rows]
    assert np.allclose(seen, wanted, rtol=1e-5)


def test_the_weights_open_as_a_classifier(trained: Path, data: Path) -> None:
    classifier = open_classifier(trained / "classifier.safetensors")
    assert classifier.classes == ("blue", "red")
    assert classifier(torch.rand(2, 3, 20, 20)).shape == (2, 2)


def test_an_earlier_training_is_not_overwritten_and_can_be_taken_up(
    data: Path, tmp_path: Path
) -> None:
    command = ("train", "classifier", "--data", data, "--out", tmp_path / "out", *FAST)
    assert invertkit(*command).code == 0
    path = tmp_path / "out" / "classifier.safetensors"
    kept = load_file(path)
    assert invertkit(*command).sentence == (
        f"{tmp_path / 'out' / 'checkpoint.pt'}: is of an earlier training. Go on with it by "
        "--resume, or choose another --out."
    )
    assert invertkit(*command, "--resume").code == 0  # nothing is left to do but to write
    for name, value in load_file(path).items():
        assert torch.equal(value, kept[name])
    changed = invertkit(*command, "--seed", 1, "--resume").sentence
    assert "was begun with" in changed


def test_a_timm_model_is_fine_tuned_and_opens_by_its_file(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    answer = invertkit(
        "train", "classifier", "--data", data, "--out", out, "--model", "timm:test_resnet",
        "--no-pretrained", *FAST, "--size", 32, "--norm", "linf", "--eps", 0.01, "--last",
        "--eps-schedule", "ramp:1", "--lr-schedule", "0=1,2=0.5", "--no-nesterov",
    )  # fmt: skip
    assert answer.code == 0, answer
    said = facts(out)
    assert said["architecture"] == "timm:test_resnet"
    assert "widths" not in said
    assert said["plan"]["eps_points"] == [[0, 0], [1, 1]]
    assert said["plan"]["lr_points"] == [[0, 1], [2, 0.5]]
    assert said["plan"]["attack"]["keep_best"] is False
    classifier = open_classifier(out / "classifier.safetensors")
    assert classifier.classes == ("blue", "red")
    assert classifier.mean == pytest.approx(said["mean"])
    assert classifier(torch.rand(2, 3, 32, 32)).shape == (2, 2)


def test_photographs_without_labels_are_streamed_and_enough(data: Path, tmp_path: Path) -> None:
    nested = tmp_path / "photos" / "holiday" / "2021"
    nested.mkdir(parents=True)
    for i, path in enumerate(sorted(data.rglob("*.png"))):
        Image.open(path).resize((40, 30)).save(nested / f"{i}.jpg")
    out = tmp_path / "out"
    answer = invertkit(
        "train", "classifier", "--data", tmp_path / "photos", "--test", tmp_path / "photos",
        "--out", out, "--init", KITNET, "--label-free", "--stream", "--workers", 0, *FAST,
        "--size", 24, "--lr", 0.001, "--eps", 0.5, "--measure", "pgd-2", "--radius", 0,
        "--radius", 0.5,
    )  # fmt: skip
    assert answer.code == 0, answer
    said = facts(out)
    assert said["classes"] == list(open_classifier(KITNET).classes)
    assert said["plan"]["label_free"] is True
    assert said["plan"]["attack"]["random_start"] is True
    page = (out / "classifier.md").read_text(encoding="utf-8")
    assert "Agreement with the starting network's clean predictions" in page
    assert "| starting network, pgd-2 | 100.00 ± 0.00 %" in page
    assert "| trained, pgd-2 " in page
    assert "agreement" in answer.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--norm", "l1"), "norm: expected l2 or linf, got 'l1'"),
        (("--eps", -1), "eps: expected a finite number not below 0"),
        (("--epochs", 0), "epochs: expected at least 1"),
        (("--batch", 0), "batch: expected at least 1"),
        (("--batch", 100), "has 12 photographs, fewer than a batch of 100"),
        (("--size", 8), "size: expected at least 16, got 8."),
        (("--lr-schedule", "slow"), "--lr-schedule: expected triangle, step, cyclic, constant or"),
        (("--eps-schedule", "slow"), "--eps-schedule: expected EPOCH=MULTIPLIER"),
        (("--measure", "fgsm"), "attack: expected pgd-N"),
        (("--log-every", 0), "expected --log-every at least 1"),
        (("--model", "resnet18"), "--model: expected kitnet or timm:NAME"),
        (("--init", "none.pt"), "none.pt: no such weights file"),
        (("--resolution", 1), "--resolution: expected at least 2"),
        (("--radius", -1), "eps: expected a finite number not below 0, got -1.0."),
        (("--out", "/proc/mine"), "/proc/mine: cannot be made a folder ("),
        (("--out", __file__), ": cannot be made a folder (File exists). Choose another --out."),
        (("--resume",), "no such checkpoint; there is nothing to go on from"),
        (("--restarts", 1, "--no-random-start"), "restarts: 1 further runs would all be the same"),
        (("--devices", 0), "expected --devices and --nodes of at least 1"),
        (("--label-free",), "a new network needs labelled photographs"),
        (("--model", "timm:vit_tiny_patch16_224", "--no-pretrained"), "takes 224×224 only"),
    ],
)
def test_a_mistake_is_one_sentence(
    options: tuple[object, ...], message: str, data: Path, tmp_path: Path
) -> None:
    arguments = ("train", "classifier", "--data", data, "--out", tmp_path / "out", *FAST, *options)
    assert message in invertkit(*arguments).sentence
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


def test_test_photographs_of_other_classes_are_refused_before_the_training(
    data: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    for name in ("blue", "green"):
        (other / name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(other / name / "x.png")
    arguments = ("train", "classifier", "--data", data, "--test", other, "--out", tmp_path / "out")
    for more in ((), ("--stream", "--workers", 0)):
        assert invertkit(*arguments, *FAST, *more).sentence == (
            "expected photographs of the classes trained on (blue, red), got green too."
        )
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


def test_without_tensorboard_its_option_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    arguments = ("train", "classifier", "--data", data, "--out", tmp_path / "out", *FAST)
    assert invertkit(*arguments, "--tensorboard").sentence.startswith(
        "--tensorboard needs TensorBoard: `pip install 'invertkit[train]'`"
    )


def test_the_bar_shows_the_step_and_the_last_row() -> None:
    shown = io.StringIO()
    with TrainingBar(Console(file=shown, force_terminal=True, width=120)) as bar:
        bar(TrainingMoment(1, 8, None))
        bar(TrainingMoment(2, 8, Row(2, 1, 16, 0.05, 0.1, 0.75, 0.5, 12.0)))
        bar.say("a [line] above")
        bar(TrainingMoment(8, 8, None))
    text = shown.getvalue()
    assert "epoch 1" in text
    assert "loss 0.750 accuracy 0.500 12 images/s" in text
    assert "a [line] above" in text
    assert "8/8" in text
