"""`invertkit train encoder` and `invertkit train zeta` as a user meets them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from invertkit.models.generators.encoder_file import encoder
from invertkit.models.generators.open import embedded_generator
from invertkit.models.generators.zeta_file import zeta
from invertkit.training.loop.checkpoints import CHECKPOINT
from tests.faces import invertkit
from tests.generators import write_tiny
from tests.helpers import uniform


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator's file, and photographs of some of its classes and of others."""
    folder = tmp_path_factory.mktemp("projection")
    write_tiny(folder / "generator.safetensors")
    for name in ("n01000001_cat", "n01000002_Dog", "n01000003_house"):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(3):
            pixels = uniform(32, 32, 3, seed=number) * 255
            image = Image.fromarray(pixels.to(torch.uint8).numpy())
            image.save(folder / "data" / name / f"{number}.png")
    return folder


def train(what: str, folder: Path, out: Path, *more: object) -> tuple[object, ...]:
    return (
        "train", what, "--data", folder / "data", "--out", out, "--steps", 2, "--batch", 2,
        "--generator", folder / "generator.safetensors", "--device", "cpu", *more,
    )  # fmt: skip


def test_an_encoder_is_trained_and_taken_by_a_recipe(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoder"
    answer = invertkit(*train("encoder", folder, out))
    assert answer.code == 0, answer
    assert answer.out == f"{out}/encoder.safetensors\n"
    for line in ("generator: generator.safetensors's", "step 2/2 loss", "encoder.safetensors: "):
        assert line in answer.err
    assert sorted(path.name for path in out.iterdir()) == [CHECKPOINT, "encoder.safetensors"]
    made, generator = (
        encoder(weights=out / "encoder.safetensors"),
        embedded_generator(weights=folder / "generator.safetensors"),
    )
    assert (made.gives, made.takes, made.size) == (("latent",), ("embedding",), 32)
    picture = uniform(2, 3, 32, 32, dtype=torch.float32)
    guess = made.encode(picture, embedding=generator.tables["embedding"][:2])
    assert guess["latent"].shape == (2, *generator.latents["latent"].shape)


def test_an_auxiliary_space_is_trained_for_an_encoder_and_gone_on_with(
    folder: Path, tmp_path: Path
) -> None:
    enc, out, small = tmp_path / "encoder", tmp_path / "zeta", ("--zeta", 12, "--hidden", 8)
    assert invertkit(*train("encoder", folder, enc)).code == 0
    more = (*small, "--encoder", enc / "encoder.safetensors", "--rate", "learned")
    answer = invertkit(*train("zeta", folder, out, *more))
    assert answer.code == 0, answer
    assert "z there and back" in answer.err
    space = zeta(weights=out / "zeta.safetensors")
    assert (space.shape.zeta, space.shape.hidden) == (12, 8)
    again = invertkit(*train("zeta", folder, out, *more))
    assert again.code == 2
    assert "is of an earlier training. Go on with it by --resume" in again.err
    answer = invertkit(
        *train("zeta", folder, out, *more, "--steps", 3, "--resume", out / CHECKPOINT)
    )
    assert answer.code == 0, answer
    assert "step 3/3" in answer.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--batch", 0), "expected --batch at least 1."),
        (("--zeta", 0), "expected --zeta and --hidden at least 1."),
        (("--rate", "learnt"), "expected --rate frozen or learned, got 'learnt'."),
        (("--generator", "none.npz"), "--discriminator: none.npz holds a generator alone"),
        (("--generator", "none.safetensors"), "none.safetensors: no such weights file."),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(
    options: tuple[object, ...], sentence: str, folder: Path, tmp_path: Path
) -> None:
    answer = invertkit(*train("zeta", folder, tmp_path / "out", *options))
    assert answer.code == 2
    assert sentence in answer.err
    assert "Traceback" not in answer.err


def test_photographs_of_other_classes_alone_are_refused(folder: Path, tmp_path: Path) -> None:
    for name in ("house", "tree"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "data" / name / "a.png")
    options = train("encoder", folder, tmp_path / "out", "--data", tmp_path / "data")
    answer = invertkit(*options)
    assert answer.code == 2
    assert "holds no class of generator.safetensors's" in answer.err
