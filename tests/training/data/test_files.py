"""Which files of a folder or zip a training sees, of which class, and how it reads them."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from invertkit.core.images.folder import picture_endings
from invertkit.core.images.load import load_image
from invertkit.errors import InputError, InvertkitWarning
from invertkit.training.data.files import PictureFiles

HELPERS = (".ipynb_checkpoints", "@eaDir", "__MACOSX", ".git", "$RECYCLE.BIN")


def lay(folder: Path, *names: str) -> Path:
    """Pictures of these names, and folders where a name ends in a slash; nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in names:
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in picture_endings():
            form = Image.registered_extensions()[path.suffix]
            Image.new("RGB", (9, 9)).save(path, format=form)
        else:
            path.write_bytes(b"no picture")
    return folder


def packed(folder: Path) -> Path:
    """The folder as a zip, with its empty folders."""
    return Path(shutil.make_archive(str(folder), "zip", folder))


def read(source: Path) -> tuple[tuple[str, ...], list[str], list[int]]:
    files = PictureFiles(source)
    return files.classes, files.names, files.labels


# ---------------------------------------------------------------------- one reader


@given(
    mode=st.sampled_from(["I;16", "L", "P", "RGBA", "LA", "CMYK", "1", "RGB"]),
    orientation=st.integers(1, 8),
    form=st.sampled_from(["png", "tiff", "webp", "jpeg", "gif"]),
    seed=st.integers(0, 99),
)
def test_a_training_reads_a_picture_as_a_run_does(
    tmp_path: Path, mode: str, orientation: int, form: str, seed: int
) -> None:
    values = np.random.default_rng(seed).integers(0, 256, (18, 22, 4), dtype=np.uint8)
    if mode == "I;16":
        values[0, 0] = 255
        picture = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(values).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    try:
        picture.save(file, form, exif=exif.tobytes())
    except OSError:  # not every format holds every mode
        return
    folder = lay(tmp_path / "data", "a/", "b/0.png")
    (folder / "a" / f"0.{form}").write_bytes(file.getvalue())
    expected = (load_image(file.getvalue())[0] * 255).round().to(torch.uint8)
    for source in (folder, packed(folder)):
        seen = PictureFiles(source).picture(0)
        assert (seen.mode, seen.size) == ("RGB", (expected.shape[-1], expected.shape[-2]))
        assert torch.equal(torch.from_numpy(np.array(seen)).permute(2, 0, 1), expected)


def test_a_depth_is_told_once(tmp_path: Path) -> None:
    folder = lay(tmp_path / "data", "a/", "b/0.png")
    for number in range(3):
        values = np.full((16, 16), 4095, np.uint16)
        Image.fromarray(values).save(folder / "a" / f"{number}.png")
    files = PictureFiles(folder)
    with pytest.warns(InvertkitWarning, match=r"a/0\.png: its values end at 4095") as told:
        assert [files.picture(i).getpixel((0, 0)) for i in range(3)] == [(255, 255, 255)] * 3
    assert len(told) == 1


# ---------------------------------------------------------------------- which files


@pytest.mark.parametrize("helper", HELPERS)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_what_systems_keep_beside_pictures_is_no_class(
    tmp_path: Path, helper: str, form: str
) -> None:
    names = (f"{helper}/0.png", f"cat/{helper}/0.png", f"{helper}/cat/0.png", "cat/.0.png")
    folder = lay(tmp_path / "data", "cat/0.png", "dog/0.png", *names)
    source = folder if form == "folder" else packed(folder)
    assert read(source) == (("cat", "dog"), ["cat/0.png", "dog/0.png"], [0, 1])
    assert PictureFiles(source, labelled=False).names == ["cat/0.png", "dog/0.png"]


@pytest.mark.parametrize("ending", [".tif", ".gif", ".ppm", ".avif", ".webp", ".bmp", ".jp2"])
def test_every_ending_that_pillow_reads_counts(tmp_path: Path, ending: str) -> None:
    folder = lay(tmp_path / "data", f"cat/0{ending}", f"dog/0{ending}")
    assert read(folder)[0] == ("cat", "dog")
    assert PictureFiles(folder).picture(1).size == (9, 9)


def test_endings_of_a_plug_in_count_as_soon_as_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lay(tmp_path / "data", "cat/0.png", "dog/0.png", "elk/0.heic")
    with pytest.warns(InvertkitWarning) as told:
        assert read(folder)[0] == ("cat", "dog")
    said = " ".join(str(each.message) for each in told)
    assert "1 picture is left out, ending in .heic; install pillow-heif" in said
    assert "elk holds no pictures" in said
    monkeypatch.setitem(Image.EXTENSION, ".heic", "PNG")
    assert read(folder)[0] == ("cat", "dog", "elk")


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("above", ["", "photos/", "a/b/"])
def test_folders_around_the_classes_are_none(tmp_path: Path, above: str, form: str) -> None:
    folder = lay(tmp_path / "data", f"{above}cat/0.png", f"{above}dog/0.png", f"{above}note.txt")
    source = folder if form == "folder" else packed(folder)
    assert read(source) == (("cat", "dog"), [f"{above}cat/0.png", f"{above}dog/0.png"], [0, 1])


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_parts_of_a_data_set_are_not_merged(tmp_path: Path, form: str) -> None:
    names = [f"all/{part}/{name}/0.png" for part in ("train", "val") for name in ("cat", "dog")]
    folder = lay(tmp_path / "data", *names)
    source = folder if form == "folder" else packed(folder)
    with pytest.raises(InputError, match="holds train and val, which are parts of a data set") as e:
        PictureFiles(source)
    one = Path(str(e.value).split("give one of them: ")[1].rstrip("."))
    files = PictureFiles(one)
    assert (files.classes, files.names) == (("cat", "dog"), ["cat/0.png", "dog/0.png"])
    assert files.picture(1).size == (9, 9)
    if form == "zip":
        with pytest.raises(InputError, match=r"data\.zip holds no folder 'all/tests/'"):
            PictureFiles(source / "all" / "tests")


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_nothing_is_dropped_without_a_word(tmp_path: Path, form: str) -> None:
    folder = lay(
        tmp_path / "data", "cat/0.png", "dog/big/0.png", "elk/", "fox/notes.txt", "loose.png"
    )
    source = folder if form == "folder" else packed(folder)
    with pytest.warns(InvertkitWarning) as told:
        assert read(source) == (("cat", "dog"), ["cat/0.png", "dog/big/0.png"], [0, 1])
    said = [str(each.message).removeprefix(f"{source}: ") for each in told]
    assert said == [
        "elk, fox holds no pictures, and is no class.",
        "pictures of dog/big count as of the class of the outer folder.",
        "1 picture is left out, outside of the folders of classes.",
    ]


def test_links_count_and_a_link_to_a_folder_around_it_ends(tmp_path: Path) -> None:
    folder = lay(tmp_path / "data", "cat/0.png")
    (folder / "dog").symlink_to(folder / "cat", target_is_directory=True)
    (folder / "cat" / "again").symlink_to(folder, target_is_directory=True)
    assert read(folder)[:2] == (("cat", "dog"), ["cat/0.png", "dog/0.png"])


def test_a_zip_without_entries_for_folders_is_read(tmp_path: Path) -> None:
    folder = lay(tmp_path / "data", "cat/0.png", "dog/0.png")
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as archive:
        for name in ("cat/0.png", "dog/0.png"):
            archive.write(folder / name, name)
    assert read(tmp_path / "plain.zip")[0] == ("cat", "dog")
