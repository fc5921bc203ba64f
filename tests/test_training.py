from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.errors import InputError
from invertkit.models.catalogue import embedded
from invertkit.models.weights_file import metadata
from invertkit.training.attack import Attack
from invertkit.training.classifier import TrainingPlan, accuracy, train_classifier
from invertkit.training.command import every, measure, save_classifier
from invertkit.training.photographs import (
    Photographs,
    augmented_batches,
    load_photographs,
    plain_batches,
)
from tests.helpers import tiny_classifier, uniform

Norm = Literal["l2", "linf"]
norms = st.sampled_from(["l2", "linf"])
WIDTHS = (4, 4, 8, 8)


def losses(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return F.cross_entropy(model(images), labels, reduction="none")


def lengths(difference: Tensor, norm: str) -> Tensor:
    flat = difference.flatten(1)
    return flat.abs().max(1).values if norm == "linf" else flat.norm(dim=1)


# ---------------------------------------------------------------------- PGD


@given(norm=norms, eps=st.floats(0.01, 2.0), steps=st.integers(1, 4), keep=st.booleans())
def test_an_attack_stays_in_its_ball_and_in_the_box(
    *, norm: Norm, eps: float, steps: int, keep: bool
) -> None:
    model, images = tiny_classifier(), uniform(3, 3, 16, 16)
    attack = Attack(norm, eps, steps, keep_best=keep)
    moved = attack(model, images, torch.tensor([0, 1, 2]))
    assert (lengths(moved - images, norm) <= eps * (1 + 1e-9)).all()
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert not moved.requires_grad


@given(norm=norms, eps=st.floats(0.01, 3.0), size=st.floats(0.1, 5.0), steps=st.integers(2, 4))
def test_the_best_iterate_never_lowers_the_loss(
    norm: Norm, eps: float, size: float, steps: int
) -> None:
    model, images, labels = tiny_classifier(), uniform(3, 3, 16, 16), torch.tensor([0, 1, 2])
    moved = Attack(norm, eps, steps, step_size=size)(model, images, labels)
    before, after = losses(model, images, labels), losses(model, moved, labels)
    assert (after >= before.float() - 1e-6).all()


class _Linear(nn.Module):
    """Two logits: w·x and 0."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weights).flatten(1).sum(1)
        return torch.stack([score, torch.zeros_like(score)], 1)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("steps", [1, 5])
def test_a_linear_model_is_attacked_optimally(norm: Norm, steps: int) -> None:
    weights = uniform(3, 8, 8, seed=1) - 0.5
    images = torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)  # away from the box
    attack = Attack(norm, 0.1, steps, step_size=0.1)
    moved = attack(_Linear(weights), images, torch.tensor([0]))
    direction = weights.sign() if norm == "linf" else weights / weights.norm()
    assert torch.allclose(moved - images, -0.1 * direction[None], atol=1e-8)


@pytest.mark.parametrize("attack", [Attack(steps=0), Attack(eps=0.0)])
def test_an_attack_without_steps_or_radius_changes_nothing(attack: Attack) -> None:
    images = uniform(1, 3, 16, 16)
    assert attack(tiny_classifier(), images, torch.tensor([0])) is images


def test_images_of_a_batch_are_attacked_alone() -> None:
    model, images, labels = tiny_classifier(), uniform(3, 3, 16, 16), torch.tensor([0, 1, 2])
    attack = Attack("l2", 0.5, 3)
    together = attack(model, images, labels)
    alone = attack(model, images[1:2], labels[1:2])
    assert torch.allclose(together[1:2], alone, atol=1e-9)


# ---------------------------------------------------------------------- photographs


def write_photographs(folder: Path, *, count: int = 6, side: int = 16) -> Path:
    """Two classes that differ in colour."""
    numbers = np.random.default_rng(0)
    for name, colour in (("blue", (30, 60, 200)), ("red", (200, 60, 30))):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            noise = numbers.integers(-25, 25, (side, side, 3))
            values = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(values).save(folder / name / f"{i}.png")
    return folder


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.glob("*/*")):
            archive.write(file, Path("data") / file.relative_to(folder))
        archive.writestr("data/readme.txt", "not a picture")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_photographs(tmp_path / "photographs")


@pytest.fixture
def photographs(folder: Path) -> Photographs:
    return load_photographs(folder, resolution=16)


def test_a_folder_and_a_zip_hold_the_same_photographs(folder: Path, tmp_path: Path) -> None:
    (folder / "red" / "notes.txt").write_text("not a picture")
    here = load_photographs(folder, resolution=16)
    there = load_photographs(zipped(folder, tmp_path / "all.zip"), resolution=16)
    assert here.classes == there.classes == ("blue", "red")
    assert torch.equal(here.images, there.images)
    assert here.labels.tolist() == there.labels.tolist() == [0] * 6 + [1] * 6
    with Image.open(folder / "blue" / "0.png") as first:
        assert torch.equal(here.images[0], torch.from_numpy(np.array(first)).permute(2, 0, 1))


def test_photographs_are_cut_square_and_resized(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        picture = Image.new("L", (40, 20), 0)
        picture.paste(200, (10, 0, 30, 20))  # the central square
        picture.save(tmp_path / name / "x.jpg", quality=100)
    kept = load_photographs(tmp_path, resolution=8)
    assert kept.images.shape == (2, 3, 8, 8)
    assert (kept.images.float() - 200).abs().max() < 12


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path / "none", "no such folder or zip file"),
        (lambda path: path / "blue" / "0.png", "neither a folder nor a readable zip"),
        (lambda path: path / "red", r"at least two classes .* found 0\. Put the pictures"),
    ],
)
def test_data_that_cannot_be_used_is_a_sentence(
    folder: Path, spoil: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_photographs(spoil(folder), resolution=8)


def test_a_damaged_photograph_is_named(folder: Path) -> None:
    (folder / "red" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(InputError, match=r"3\.png is not a readable picture"):
        load_photographs(folder, resolution=8)


def test_batches_are_shuffled_alike_for_the_same_seed(photographs: Photographs) -> None:
    def epoch(seed: int) -> list[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        return list(augmented_batches(photographs, batch=5, size=12, generator=generator))

    first, again, other = epoch(0), epoch(0), epoch(1)
    assert len(first) == 2  # the last two photographs are left out
    for (a, x), (b, y) in zip(first, again, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(x, y)
        assert a.shape == (5, 3, 12, 12)
        assert a.min() >= 0
        assert a.max() <= 1
    assert not all(torch.equal(a, b) for (a, _), (b, _) in zip(first, other, strict=True))


def test_plain_batches_show_every_photograph_once(photographs: Photographs) -> None:
    batches = list(plain_batches(photographs, batch=5, size=16))
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    images = torch.cat([images for images, _ in batches])
    assert torch.equal((images * 255).round().to(torch.uint8), photographs.images)


# ---------------------------------------------------------------------- training


def plan(**changes: object) -> TrainingPlan:
    options = {"attack": Attack(steps=1), "epochs": 3, "clean_epochs": 1, "size": 16, "batch": 6,
               "lr": 0.1, "widths": WIDTHS}  # fmt: skip
    return TrainingPlan(**{**options, **changes})  # type: ignore[arg-type]


def test_a_tiny_training_lowers_the_loss_and_can_be_stored(
    photographs: Photographs, tmp_path: Path
) -> None:
    said: list[str] = []
    with torch.random.fork_rng(devices=[]):
        model = train_classifier(plan(epochs=4), photographs, out=tmp_path, report=said.append)
    lost = [float(line.split("loss ")[1].split()[0]) for line in said]
    assert lost[-1] < lost[0]
    assert accuracy(model, photographs, size=16) > 0.9
    shares = measure(model, every(photographs, 2), size=16, norm="l2", radii=[0.0, 50.0], steps=2)
    assert shares[0.0] > shares[50.0]

    path = tmp_path / "classifier.safetensors"
    save_classifier(model, plan(epochs=4), photographs, path)
    facts = {key: json.loads(value) for key, value in metadata(path).items()}
    assert facts["classes"] == ["blue", "red"]
    assert facts["plan"]["attack"]["eps"] == 0.05
    loaded = embedded(weights=path)
    assert loaded.classes == ("blue", "red")
    images = photographs.images[:3].float() / 255
    with torch.no_grad():
        assert torch.allclose(loaded(images), model(images), atol=0.05)  # stored as float16
    assert loaded.description.startswith("classifier.safetensors KitNet (2 classes, l2 ε = 0.05")


def test_training_goes_on_from_a_checkpoint_to_the_same_weights(
    photographs: Photographs, tmp_path: Path
) -> None:
    quiet: Callable[[str], None] = lambda _: None
    with torch.random.fork_rng(devices=[]):
        whole = train_classifier(plan(), photographs, out=tmp_path, report=quiet)
        rest = train_classifier(
            plan(), photographs, out=tmp_path, resume=tmp_path / "epoch-01.pt", report=quiet
        )
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name


def test_bfloat16_trains_too(photographs: Photographs, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        model = train_classifier(
            plan(epochs=1, bf16=True), photographs, out=tmp_path, report=lambda _: None
        )
    assert all(p.isfinite().all() for p in model.parameters())
