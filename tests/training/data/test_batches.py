"""Which photographs a step sees, and how: in memory and streamed."""

from __future__ import annotations

import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from invertkit.errors import InputError
from invertkit.training.data.batches import (
    InMemory,
    Share,
    TrainingBatch,
    TrainingData,
    mixed,
    rows_of_epoch,
)
from invertkit.training.data.files import PictureFiles
from invertkit.training.data.photographs import (
    PhotographSet,
    as_labelled,
    load_photographs,
    plain_batches,
)
from invertkit.training.data.streaming import Lighting, Streamed, central_view, training_transform
from tests.photographs import write_photographs, zipped

ALONE = Share()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photographs(tmp_path_factory.mktemp("data") / "photographs", side=40)


@pytest.fixture(scope="module")
def photographs(folder: Path) -> PhotographSet:
    return load_photographs(folder, resolution=16)


@pytest.fixture(params=["memory", "folder", "zip"])
def data(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> TrainingData:
    if request.param == "memory":
        return InMemory(load_photographs(folder, resolution=16))
    if request.param == "folder":
        return Streamed(folder, workers=0)
    return Streamed(zipped(folder, tmp_path / "all.zip"), workers=0)


def show(
    data: TrainingData, epoch: int = 0, *, seed: int = 0, share: Share = ALONE, first: int = 0
) -> list[TrainingBatch]:
    return list(data.epoch(epoch, size=16, batch=4, seed=seed, share=share, first=first))


def same(first: list[TrainingBatch], second: list[TrainingBatch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b)
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one, other, strict=True)
    )


# ---------------------------------------------------------------------- order


@given(count=st.integers(1, 60), batch=st.integers(1, 20), epoch=st.integers(0, 5))
def test_an_epoch_shows_nothing_twice(count: int, batch: int, epoch: int) -> None:
    if count < batch:
        with pytest.raises(InputError, match=f"at least a batch of {batch} photographs"):
            rows_of_epoch(count, epoch=epoch, batch=batch, seed=0)
        return
    rows = rows_of_epoch(count, epoch=epoch, batch=batch, seed=0)
    assert rows.shape == (count // batch, batch)
    assert len(set(rows.flatten().tolist())) == rows.numel()
    assert set(rows.flatten().tolist()) <= set(range(count))


@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 500))
def test_neighbouring_seeds_and_epochs_have_nothing_in_common(seed: int, epoch: int) -> None:
    near = [mixed(seed, epoch), mixed(seed + 1, epoch), mixed(seed, epoch + 1),
            mixed(epoch, seed), mixed(seed, epoch, 0)]  # fmt: skip
    assert len(set(near)) == len(near) or seed == epoch
    assert all(0 <= value < 2**63 for value in near)


def test_mixed_seeds_do_not_collide() -> None:
    seeds = {mixed(0, epoch, row, 2) for epoch in range(20) for row in range(500)}
    assert len(seeds) == 10_000


# ---------------------------------------------------------------------- what is shown


def test_batches_depend_on_seed_and_epoch_alone(data: TrainingData) -> None:
    first = show(data)
    assert len(first) == 3
    assert same(first, show(data))
    assert not same(first, show(data, seed=1))
    assert not same(first, show(data, 1))
    for batch in first:
        assert batch.images.shape == (4, 3, 16, 16)
        assert 0 <= batch.images.min() <= batch.images.max() <= 1
        assert batch.labels.tolist() == [int(row >= 6) for row in batch.rows]


def test_processes_share_a_batch_and_together_see_it(data: TrainingData) -> None:
    whole = show(data)
    halves = [show(data, share=Share(rank, 2)) for rank in (0, 1)]
    joined = [
        TrainingBatch(*(torch.cat(parts) for parts in zip(*two, strict=True)))
        for two in zip(*halves, strict=True)
    ]
    assert same(joined, whole)


@pytest.mark.parametrize("first", [1, 2, 3])
def test_an_epoch_goes_on_in_the_middle(data: TrainingData, first: int) -> None:
    assert same(show(data, first=first), show(data)[first:])


def test_showing_batches_leaves_the_global_generators_alone(data: TrainingData) -> None:
    before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
    show(data)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # type: ignore[index, union-attr]


def test_reading_workers_change_nothing(folder: Path) -> None:
    assert same(show(Streamed(folder, workers=0)), show(Streamed(folder, workers=2)))


def test_a_crop_in_memory_is_a_window_of_the_reflected_photograph(
    photographs: PhotographSet,
) -> None:
    (batch, *_) = show(InMemory(photographs))
    padded = torch.nn.functional.pad(photographs.images.float() / 255, (2,) * 4, mode="reflect")
    for image, row in zip(batch.images, batch.rows.tolist(), strict=True):
        windows = padded[row].unfold(1, 16, 1).unfold(2, 16, 1)  # (3, 5, 5, 16, 16)
        kinds = torch.cat([windows.flatten(1, 2), windows.flip(-1).flatten(1, 2)], 1)
        assert (kinds == image[:, None]).all(0).flatten(1).all(1).any()


@pytest.mark.parametrize("streamed", [False, True])
def test_the_same_picture_is_shown_otherwise_each_time(tmp_path: Path, *, streamed: bool) -> None:
    texture = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(6):
            Image.fromarray(texture).save(tmp_path / name / f"{i}.png")
    memory = InMemory(load_photographs(tmp_path, resolution=24))
    data: TrainingData = Streamed(tmp_path, workers=0) if streamed else memory
    shown = torch.cat([batch.images for epoch in (0, 1) for batch in show(data, epoch)])
    kinds = len(torch.unique(shown.flatten(1), dim=0))
    assert kinds == 24 if streamed else kinds > 18  # 7 × 7 windows, mirrored or not


# ---------------------------------------------------------------------- transforms


def test_the_training_transform_crops_and_colours_within_its_bounds() -> None:
    picture = Image.new("RGB", (50, 40), (100, 150, 200))
    torch.manual_seed(0)
    seen = torch.stack([training_transform(24)(picture) for _ in range(40)])
    assert seen.shape == (40, 3, 24, 24)
    means = seen.mean((2, 3)) * 255
    wanted = torch.tensor([100.0, 150, 200])
    assert (means - wanted).abs().max() < 60  # 10 % thrice and a little light
    assert means.std(0).min() > 2
    assert (seen - seen.mean((2, 3), keepdim=True)).abs().max() < 1e-5  # one colour stays one


def test_lighting_moves_along_the_principal_colours_of_imagenet() -> None:
    light, image = Lighting(0.05), torch.zeros(3, 2, 2)
    torch.manual_seed(0)
    moved = torch.stack([light(image)[:, 0, 0] for _ in range(5_000)]).double()
    values, vectors = torch.linalg.eigh(torch.cov(moved.T))
    deviations = values.clamp(min=0).sqrt().flip(0)
    wanted = 0.05 * torch.tensor([0.2175, 0.0188, 0.0045], dtype=torch.float64)
    assert torch.allclose(deviations, wanted, rtol=0.03)
    assert (vectors[:, -1].abs() - torch.tensor([0.5675, 0.5808, 0.5836])).abs().max() < 0.01


def test_the_view_of_tests_is_the_middle_of_the_resized_picture() -> None:
    picture = Image.new("RGB", (80, 40), (0, 0, 0))
    picture.paste((255, 255, 255), (25, 0, 55, 40))
    seen = central_view(picture, 28)
    assert seen.shape == (3, 28, 28)
    assert seen[:, :, 6:22].min() > 0.99  # 30 of 40 pixels of height: 24 of 32
    assert seen[:, :, 0].max() < 0.1


def test_streamed_tests_show_every_picture_once_in_order(folder: Path) -> None:
    files = Streamed(folder, workers=0)
    seen = list(files.plain(size=28, batch=5))
    assert [len(labels) for _, labels in seen] == [5, 5, 2]
    images = torch.cat([images for images, _ in seen])
    wanted = torch.stack([central_view(files.files.picture(i), 28) for i in range(12)])
    assert torch.equal(images, wanted)
    assert torch.cat([labels for _, labels in seen]).tolist() == [0] * 6 + [1] * 6


# ---------------------------------------------------------------------- files


def test_a_folder_and_a_zip_hold_the_same_photographs(folder: Path, tmp_path: Path) -> None:
    (folder / "red" / "notes.txt").write_text("not a picture")
    here = load_photographs(folder, resolution=40)
    there = load_photographs(zipped(folder, tmp_path / "all.zip"), resolution=40)
    assert here.classes == there.classes == ("blue", "red")
    assert torch.equal(here.images, there.images)
    assert here.labels.tolist() == there.labels.tolist() == [0] * 6 + [1] * 6
    with Image.open(folder / "blue" / "0.png") as first:
        assert torch.equal(here.images[0], torch.from_numpy(np.array(first)).permute(2, 0, 1))


def test_unlabelled_pictures_are_found_at_any_depth(folder: Path, tmp_path: Path) -> None:
    nested = tmp_path / "some" / "where" / "deep"
    nested.mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(nested / "a.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "b.JPG", format="jpeg")
    files = PictureFiles(tmp_path, labelled=False)
    assert files.names == ["b.JPG", "some/where/deep/a.png"]
    assert (files.classes, files.labels) == ((), [0, 0])
    (tmp_path / "zips").mkdir()
    whole = PictureFiles(zipped(folder, tmp_path / "zips" / "all.zip"), labelled=False)
    assert len(whole) == 12
    assert whole.classes == ()
    kept = load_photographs(tmp_path / "some", resolution=8, labelled=False)
    assert kept.images.shape == (1, 3, 8, 8)
    assert kept.classes == ()


def test_what_macos_packs_beside_pictures_is_none(folder: Path, tmp_path: Path) -> None:
    path = zipped(folder, tmp_path / "all.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/blue/._0.png", b"no picture")
    (tmp_path / "blue").mkdir()
    (tmp_path / "blue" / "._0.png").write_bytes(b"no picture")
    Image.new("RGB", (9, 9)).save(tmp_path / "blue" / "0.png")
    assert len(PictureFiles(path)) == 12
    assert PictureFiles(tmp_path, labelled=False).names == ["blue/0.png"]


def test_a_zip_is_read_in_a_copy_too(folder: Path, tmp_path: Path) -> None:
    files = PictureFiles(zipped(folder, tmp_path / "all.zip"))
    first = files.picture(3)
    copy = pickle.loads(pickle.dumps(files))
    assert copy.picture(3).tobytes() == first.tobytes()


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


def test_a_folder_without_pictures_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no pictures \(such as \.jpg"):
        load_photographs(tmp_path, resolution=8, labelled=False)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    path = write_photographs(tmp_path / "damaged", count=4)
    (path / "red" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return path


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_photograph_is_named(damaged: Path, workers: int) -> None:
    with pytest.raises(InputError, match=r"red/3\.png: cannot be read as a picture") as caught:
        show(Streamed(damaged, workers=workers))
    assert str(caught.value).startswith(f"{damaged}: red/3.png")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"3\.png: cannot be read as a picture"):
        load_photographs(damaged, resolution=8)


def test_plain_batches_show_every_photograph_once(photographs: PhotographSet) -> None:
    batches = list(plain_batches(photographs, batch=5, size=16))
    assert [len(labels) for _, labels in batches] == [5, 5, 2]
    images = torch.cat([images for images, _ in batches])
    assert torch.equal((images * 255).round().to(torch.uint8), photographs.images)


def test_labels_follow_the_names_of_other_classes(photographs: PhotographSet) -> None:
    moved = as_labelled(photographs, ("red", "green", "blue"))
    assert moved.labels.tolist() == [2] * 6 + [0] * 6
    with pytest.raises(InputError, match=r"trained on \(red, green\), got blue too"):
        as_labelled(photographs, ("red", "green"))


def test_crops_show_at_least_the_asked_share_of_a_photograph(tmp_path: Path) -> None:
    """A picture whose left half is black and whose right half is white: no crop of 0.9 is plain."""
    halves = Image.new("RGB", (40, 40))
    halves.paste((255, 255, 255), (20, 0, 40, 40))
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(40):
            halves.save(tmp_path / label / f"{number}.png")

    def plain(share: float) -> int:
        files = Streamed(tmp_path, workers=0, smallest_crop=share)
        batches = files.epoch(0, size=16, batch=40, seed=0, share=Share())
        return sum(
            int((image.amax() - image.amin() < 0.3).sum())
            for one in batches
            for image in one.images
        )

    assert plain(0.9) == 0
    assert plain(0.08) > 0
