"""`invertkit train generator` as a user meets it, and the files that it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from invertkit.models.generators.kitgan import KitDiscriminator, KitEncoder, KitGenerator
from invertkit.models.generators.open import (
    embedded_discriminator,
    embedded_encoder,
    embedded_generator,
)
from invertkit.models.loading.safetensors_file import metadata
from invertkit.training.generator import command
from invertkit.training.generator.measures import GeneratorMeasure, pictures
from invertkit.training.generator.plan import GeneratorPlan
from invertkit.training.loop.checkpoints import CHECKPOINT
from tests.faces import invertkit
from tests.helpers import same
from tests.photographs import write_photographs
from tests.training.generator.tiny import PLAN, tiny_net


def stored(path: Path, classes: tuple[str, ...] = ("cat", "sheep", "dog")) -> KitGenerator:
    net = tiny_net()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        judge = KitDiscriminator(3)
        encoder = KitEncoder(latent=PLAN.latent, embedding=PLAN.embedding)
    command.save_generator(net, judge.eval(), encoder, path, plan=PLAN, classes=classes)
    return net


def test_the_file_gives_the_same_networks_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ((0.5, 0.4), (0.6, 0.7))
    monkeypatch.setattr(command, "object_statistics", lambda *_, **__: where)
    path = tmp_path / "generator.safetensors"
    net = stored(path)
    loaded = embedded_generator(weights=path)
    assert loaded.classes == ("cat", "sheep", "dog")
    assert loaded.statistics.centre == (0.5, 0.4)
    assert loaded.statistics.size == (0.6, 0.7)
    labels = torch.arange(3)
    made = pictures(net, PLAN, labels)
    latent = torch.randn(3, PLAN.latent, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    table = loaded.tables["embedding"]
    again = loaded.generate(latent=latent, embedding=table)
    assert torch.allclose(made, again, atol=4e-3)
    assert not torch.equal(made[0], made[1])
    facts = {key: json.loads(value) for key, value in metadata(path).items()}
    assert facts["plan"]["steps"] == 8
    found = embedded_encoder(weights=path).encode(made, embedding=table)
    assert found["latent"].shape == (3, PLAN.latent)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        judge = KitDiscriminator(3).eval()
    trunk = embedded_discriminator(weights=path)
    here = trunk.observe(made, ("block3",))["block3"]
    with torch.no_grad():
        there = judge.block3(judge.block2(judge.block1(made * 2 - 1)))
    assert torch.allclose(here, there, atol=5e-3 * float(there.abs().max()))


def test_objects_are_somewhere_in_the_picture() -> None:
    (row, column), size = command.object_statistics(
        tiny_net(), PLAN, classes=("cat", "sheep", "dog"), count=30
    )
    assert 0 < row < 1
    assert 0 < column < 1
    assert all(0 < side <= 1 for side in size)


def test_the_statistics_find_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that looks at a box only: its centre and size come out."""

    class Box(nn.Module):
        classes = ("a", "b")

        def forward(self, image: Tensor) -> Tensor:
            inside = image[:, :, 8:24, 32:64].sum((1, 2, 3))  # of 64×64
            return torch.stack([inside, -inside], 1)

    monkeypatch.setattr(command, "embedded", Box)
    centre, size = command.object_statistics(tiny_net(), PLAN, classes=("b", "a", "x"), count=9)
    assert centre == pytest.approx((0.25, 0.75), abs=0.01)
    assert size == pytest.approx((0.25, 0.5), abs=0.02)


def test_the_sheet_and_the_single_pictures(tmp_path: Path) -> None:
    net = tiny_net()
    sheet = command.sheet(net, PLAN, classes=3, columns=2)
    assert sheet.shape == (3, 3 * 34, 2 * 34)
    made = pictures(net, PLAN, torch.arange(3).repeat_interleave(2))
    assert torch.equal(sheet[:, 35:67, 1:33], made[2])
    command.export(net, PLAN, tmp_path / "samples", classes=("a", "b", "c"), count=4)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert names == [f"samples/{x}.png" for x in ("a/000000", "a/000003", "b/000001", "c/000002")]
    with Image.open(tmp_path / names[0]) as picture:
        assert picture.size == (32, 32)


def train(*options: object, data: Path, out: Path) -> tuple[object, ...]:
    return (
        "train", "generator", "--data", data, "--out", out, "--steps", 1, "--batch", 4,
        "--encoder-steps", 1, "--guide-size", 16, "--device", "cpu", *options,
    )  # fmt: skip


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with tiny networks and measures."""
    where = ((0.5, 0.5), (0.8, 0.8))
    monkeypatch.setattr(command, "object_statistics", lambda *_, **__: where)
    measured = [GeneratorMeasure("a measure", 1.0, 2.0)]
    monkeypatch.setattr(command, "measure_generator", lambda *_, **__: measured)


@pytest.mark.usefixtures("small")
def test_the_command_leaves_weights_and_pictures(tmp_path: Path) -> None:
    data, out = write_photographs(tmp_path / "photographs", side=32), tmp_path / "trained"
    answer = invertkit(*train("--test", data, "--samples", 3, data=data, out=out))
    assert answer.code == 0, answer
    assert answer.out == f"{out}/generator.safetensors\n"
    for line in ("step 1/1 real", "encoder step 1/1", "generator.safetensors: ", "samples: 3",
                 "a measure: 1 (as many training photographs: 2)"):  # fmt: skip
        assert line in answer.err
    names = sorted(path.name for path in out.iterdir())
    assert names == [CHECKPOINT, "generator.safetensors", "samples", "samples.png"]
    loaded = embedded_generator(weights=out / "generator.safetensors")
    assert loaded.classes == ("blue", "red")

    again = invertkit(*train(data=data, out=out))
    assert (
        f"is of an earlier training. Go on with it by --resume {out}/{CHECKPOINT}" in again.sentence
    )
    rest = invertkit(*train("--resume", out / CHECKPOINT, data=data, out=tmp_path / "second"))
    assert rest.code == 0
    second = embedded_generator(weights=tmp_path / "second" / "generator.safetensors")
    assert same(loaded.state_dict(), second.state_dict())


def test_the_options_default_to_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[GeneratorPlan] = []

    def keep(*, plan: GeneratorPlan, **_: object) -> Path:
        given.append(plan)
        return Path("x")

    monkeypatch.setattr(command, "train_and_measure_generator", keep)
    asked = ("train", "generator", "--data", "d", "--out", "o", "--device", "cpu")
    assert invertkit(*asked).out == "x\n"
    assert invertkit(*asked, "--no-guide", "--bf16", "--lr", "1e-3", "--critic-lr", "2e-3",
                     "--guide-size", 32, "--seed", 7).code == 0  # fmt: skip
    assert given == [
        GeneratorPlan(),
        GeneratorPlan(guide_layers=(), bf16=True, lr=1e-3, critic_lr=2e-3, guide_size=32, seed=7),
    ]


def test_help_does_not_import_torch() -> None:
    script = """
import sys
from invertkit.cli import main
sys.argv = ["invertkit", "train", "generator", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--critic-lr" in done.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--batch", "6"], "expected --steps at least 1 and --batch a multiple of 4, got 1 and 6."),
        (["--steps", "0"], "got 0 and 4."),
        (["--lr", "nan"], "expected --lr and --critic-lr above 0 and at most 1, got nan"),
        (["--critic-lr", "0"], "above 0 and at most 1"),
        (["--guide-size", "8"], "--guide-size at least 16"),
        (["--encoder-steps", "0"], "--encoder-steps at least 1"),
        (["--seed", "-1"], "--seed from 0 to 4294967295"),
        (["--samples", "-1"], "expected --samples not below 0, got -1."),
        (["--data", "none"], "none: no such folder or zip file."),
        (["--test", "none"], "none: no such folder or zip file."),
        (["--resume", "none.pt"], "none.pt: no such checkpoint"),
        (["--device", "tpu"], "device: expected auto, cpu, cuda"),
    ],
)
def test_wrong_options_are_told(tmp_path: Path, options: list[str], sentence: str) -> None:
    data = write_photographs(tmp_path / "photographs", side=32)
    assert sentence in invertkit(*train(*options, data=data, out=tmp_path / "out")).sentence
    assert not (tmp_path / "out").exists()


def test_a_test_set_of_other_classes_is_told_before_training(tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "photographs", side=32)
    other = write_photographs(tmp_path / "other", side=32)
    (other / "red").rename(other / "green")
    answer = invertkit(*train("--test", other, data=data, out=tmp_path / "out"))
    assert "of the classes trained on (blue, red), got blue, green." in answer.sentence


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "photographs", side=32)
    answer = invertkit(*train(data=data, out=data / "red" / "0.png" / "x"))
    assert "cannot be made a folder" in answer.sentence


def test_an_interruption_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = write_photographs(tmp_path / "photographs", side=32), tmp_path / "out"

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "train_encoder", interrupt)
    answer = invertkit(*train("--no-guide", data=data, out=out))
    assert answer.code == 130
    assert answer.out == ""
    wanted = f"Interrupted. Go on with the same options and --resume {out}/{CHECKPOINT}.\n"
    assert answer.err.endswith(wanted)
    monkeypatch.setattr(command, "train_generator", interrupt)
    answer = invertkit(*train(data=data, out=tmp_path / "other"))
    assert answer.code == 130
    assert answer.err == "Interrupted before the first checkpoint.\n"


def test_weights_of_something_else_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"architecture": '"kitnet"'})
    with pytest.raises(Exception, match="was not made by `invertkit train generator`"):
        embedded_generator(weights=path)
