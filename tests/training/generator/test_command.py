"""`invertkit train generator` as a user meets it, and the files that it leaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from invertkit.models.classifiers.architectures import build
from invertkit.models.generators.open import embedded_generator
from invertkit.training.generator import command, release
from invertkit.training.generator.plan import GeneratorPlan
from invertkit.training.loop.checkpoints import CHECKPOINT
from tests.faces import invertkit
from tests.helpers import same
from tests.photographs import write_photographs

EYES = "timm:test_efficientnet"


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network that a file can name."""
    path = tmp_path_factory.mktemp("eyes") / "eyes.pt"
    torch.save(build(EYES, 1000).state_dict(), path)
    return path


def train(*options: object, data: Path, out: Path, seeing: Path) -> tuple[object, ...]:
    return (
        "train", "generator", "--data", data, "--out", out, "--steps", 1, "--batch", 4,
        "--size", 16, "--widths", "8,8,8", "--latent", 6, "--embedding", 4, "--encoder-steps", 1,
        "--eyes", EYES, "--eyes-weights", seeing, "--eyes-layers", "blocks.0,blocks.2",
        "--eyes-size", 32, "--device", "cpu", *options,
    )  # fmt: skip


@pytest.fixture
def placed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects need not be looked for in a thousand pictures."""
    where = ((0.5, 0.5), (0.8, 0.8))
    monkeypatch.setattr(release, "object_statistics", lambda *_, **__: where)


@pytest.mark.usefixtures("placed")
def test_the_command_leaves_weights_and_pictures(tmp_path: Path, seeing: Path) -> None:
    data, out = write_photographs(tmp_path / "photographs", side=16), tmp_path / "trained"
    more = ("--test", data, "--samples", 3, "--sheet-every", 1, "--judge", EYES,
            "--judge-weights", seeing)  # fmt: skip
    answer = invertkit(*train(*more, data=data, out=out, seeing=seeing))
    assert answer.code == 0, answer
    assert answer.out == f"{out}/generator.safetensors\n"
    for line in ("eyes: timm's test_efficientnet (eyes.pt, ", "the judge: timm's test_",
                 "step 1/1 real", "generator.safetensors: ", "samples: 3",
                 "recall in them ↑, the judge: ", "Fréchet distance"):  # fmt: skip
        assert line in answer.err
    names = sorted(path.name for path in out.iterdir())
    assert names == [CHECKPOINT, "generator.safetensors", "samples", "samples.png", "sheets"]
    assert [path.name for path in (out / "sheets").iterdir()] == ["000001.png"]
    loaded = embedded_generator(weights=out / "generator.safetensors")
    assert loaded.classes == ("blue", "red")
    assert loaded.size == 16

    again = invertkit(*train(data=data, out=out, seeing=seeing))
    assert (
        f"is of an earlier training. Go on with it by --resume {out}/{CHECKPOINT}" in again.sentence
    )
    rest = invertkit(*train(
        "--resume", out / CHECKPOINT, data=data, out=tmp_path / "second", seeing=seeing
    ))  # fmt: skip
    assert rest.code == 0
    second = embedded_generator(weights=tmp_path / "second" / "generator.safetensors")
    assert same(loaded.state_dict(), second.state_dict())


@pytest.mark.usefixtures("placed")
@pytest.mark.parametrize(
    ("options", "afterwards"),
    [
        (("--reconstructed", 0, "--warm-steps", 0), True),
        # An encoder that stopped with the warm-up does not know what the generator became.
        (("--reconstructed", 0, "--warm-steps", 1, "--steps", 2), True),
        (("--reconstructed", 0, "--warm-steps", 1), False),
        (("--warm-steps", 0), False),
    ],
)
def test_the_encoder_is_trained_afterwards_unless_it_learnt_to_the_end(
    options: tuple[object, ...],
    afterwards: bool,  # noqa: FBT001
    tmp_path: Path,
    seeing: Path,
) -> None:
    data = write_photographs(tmp_path / "photographs", side=16)
    answer = invertkit(*train(*options, data=data, out=tmp_path / "out", seeing=seeing))
    assert answer.code == 0, answer
    assert ("encoder step 1/1" in answer.err) == afterwards


def test_classes_are_chosen_by_name_or_by_a_file(tmp_path: Path) -> None:
    data = write_photographs(tmp_path / "photographs", side=16)
    (data / "blue").rename(data / "n01443537_blue")
    (data / "green").mkdir()
    next((data / "red").iterdir()).rename(data / "green" / "0.png")
    (tmp_path / "classes.txt").write_text("Blue\n\nred\n")
    for classes in ("n01443537_blue, red", str(tmp_path / "classes.txt")):
        orders = command.GeneratorOrders(data=data, out=tmp_path, classes=classes)
        found = command._photographs(data, orders, GeneratorPlan(size=16))
        assert found.classes == ("blue", "red")
        assert torch.bincount(found.labels).tolist() == [6, 5]


def test_the_options_default_to_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[GeneratorPlan] = []

    def keep(*, plan: GeneratorPlan, **_: object) -> Path:
        given.append(plan)
        return Path("x")

    monkeypatch.setattr(command, "train_and_measure_generator", keep)
    asked = ("train", "generator", "--data", "d", "--out", "o", "--device", "cpu")
    assert invertkit(*asked).out == "x\n"
    more = ("--bf16", "--lr", "1e-3", "--critic-lr", "2e-3", "--eyes-size", 64, "--seed", 7)
    listed = ("--widths", "8, 4,x", "--eyes-layers", "a,b")
    assert invertkit(*asked, *more, *listed).code == 0
    assert given == [
        GeneratorPlan(),
        GeneratorPlan(
            bf16=True, lr=1e-3, critic_lr=2e-3, eyes_size=64, widths=(8, 4, 0),
            eyes_layers=("a", "b"), seed=7,
        ),
    ]  # fmt: skip


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
        (["--batch", "1"], "expected --batch at least 2."),
        (["--steps", "0"], "expected --steps at least 1."),
        (["--lr", "nan"], "expected --lr above 0 and at most 1."),
        (["--critic-lr", "0"], "expected --critic-lr above 0 and at most 1."),
        (["--size", "8"], "expected --size from 16 to 256."),
        (["--size", "64"], "one for each of 4, 8, … pixels up to --size"),
        (["--widths", "8,none,8"], "expected --widths of at least 1"),
        (["--widths", ""], "expected --widths of at least 1"),
        (["--latent", "0"], "expected --latent and --embedding at least 1."),
        (["--eyes-size", "8"], "expected --eyes-size at least 32."),
        (["--eyes-layers", ","], "expected --eyes-layers to name a layer."),
        (["--eyes-layers", "blocks.9"], "has no layer 'blocks.9'"),
        (["--eyes-layers", "classifier"], "shows no map"),
        (["--eyes", "none.safetensors"], "none.safetensors"),
        (["--judge", "timm:none"], "timm has no classifier 'none'"),
        (["--encoder-steps", "0"], "expected --encoder-steps at least 1."),
        (["--seed", "-1"], "expected --seed from 0 to 4294967295."),
        (["--samples", "-1"], "expected --samples not below 0."),
        (["--save-every", "0"], "expected --save-every at least 1."),
        (["--sheet-every", "-1"], "expected --sheet-every not below 0."),
        (["--classes", "red,blu"], "has no class 'blu'. Did you mean"),
        (["--classes", "red"], "expected at least two classes"),
        (["--data", "none"], "none: no such folder or zip file."),
        (["--test", "none"], "none: no such folder or zip file."),
        (["--resume", "none.pt"], "none.pt: no such checkpoint"),
        (["--device", "tpu"], "device: expected auto, cpu, cuda"),
    ],
)
def test_wrong_options_are_told(
    tmp_path: Path, seeing: Path, options: list[str], sentence: str
) -> None:
    data = write_photographs(tmp_path / "photographs", side=16)
    asked = train(*options, data=data, out=tmp_path / "out", seeing=seeing)
    if options[:1] == ["--eyes"]:
        asked = tuple(each for each in asked if each not in ("--eyes-weights", seeing))
    assert sentence in invertkit(*asked).sentence
    assert not (tmp_path / "out").exists()


def test_a_test_set_of_other_classes_is_told_before_training(tmp_path: Path, seeing: Path) -> None:
    data = write_photographs(tmp_path / "photographs", side=16)
    other = write_photographs(tmp_path / "other", side=16)
    (other / "red").rename(other / "green")
    answer = invertkit(*train("--test", other, data=data, out=tmp_path / "out", seeing=seeing))
    assert "of the classes trained on (blue, red), got blue, green." in answer.sentence


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, seeing: Path) -> None:
    data = write_photographs(tmp_path / "photographs", side=16)
    answer = invertkit(*train(data=data, out=data / "red" / "0.png" / "x", seeing=seeing))
    assert "cannot be made a folder" in answer.sentence


def test_an_interruption_says_how_to_go_on(
    tmp_path: Path, seeing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = write_photographs(tmp_path / "photographs", side=16), tmp_path / "out"

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "mean_encoder", interrupt)
    answer = invertkit(*train(data=data, out=out, seeing=seeing))
    assert answer.code == 130
    assert answer.out == ""
    wanted = f"Interrupted. Go on with the same options and --resume {out}/{CHECKPOINT}.\n"
    assert answer.err.endswith(wanted)
    monkeypatch.setattr(command, "train_generator", interrupt)
    answer = invertkit(*train(data=data, out=tmp_path / "other", seeing=seeing))
    assert answer.code == 130
    assert answer.err.endswith("Interrupted before the first checkpoint.\n")


def test_weights_of_something_else_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"architecture": '"kitnet"'})
    with pytest.raises(Exception, match="was not made by `invertkit train generator`"):
        embedded_generator(weights=path)
