from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from invertkit.core.images.inputs import Inputs
from invertkit.core.images.load import load_image, load_mask
from invertkit.core.images.resize import resize_mask
from invertkit.core.images.save import save_png, to_picture
from invertkit.errors import InputError, ShapeError
from tests.faces import scene_tensors
from tests.helpers import rectangle, uniform

sides = st.integers(16, 40)


def colours(height: int = 18, width: int = 22) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def as_tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).permute(2, 0, 1)[None].float() / 255


# ---------------------------------------------------------------------- the same from everything


@given(height=sides, width=sides, seed=st.integers(0, 99))
def test_a_saved_picture_is_read_back_rounded(height: int, width: int, seed: int) -> None:
    image = uniform(3, height, width, seed=seed, dtype=torch.float32)
    file = io.BytesIO()
    to_picture(image).save(file, "PNG")
    file.seek(0)
    with Image.open(file) as picture:
        back = load_image(picture)
    assert torch.allclose(back[0], (image * 255).round() / 255, atol=1e-6)


def test_a_saved_file_is_whole_and_carries_its_text(tmp_path: Path) -> None:
    image = scene_tensors()[0]
    save_png(image[0], tmp_path / "x.png", text={"seed": "3"})
    assert torch.equal(load_image(tmp_path / "x.png"), image)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.info["seed"] == "3"


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        save_png(scene_tensors()[0][0], tmp_path / "missing" / "x.png")


def test_arrays_and_tensors_of_every_layout_are_the_same_image(tmp_path: Path) -> None:
    values = colours()
    expected = as_tensor(values)
    Image.fromarray(values).save(tmp_path / "x.png")
    floats = values.astype(np.float32) / 255
    for same in (
        tmp_path / "x.png",
        str(tmp_path / "x.png"),
        Image.fromarray(values),
        values,
        floats,
        floats.astype(np.float64),
        values.transpose(2, 0, 1),
        values[:, ::-1][:, ::-1],
        np.dstack([values, values[..., :1]]),
        torch.from_numpy(values).permute(2, 0, 1),
        expected,
        expected.double(),
        expected.clone().requires_grad_(),
    ):
        assert torch.allclose(load_image(same), expected, atol=1e-6)


def test_an_array_that_must_not_be_written_to_is_read_without_a_warning() -> None:
    values = np.asarray(Image.fromarray(colours()))
    assert not values.flags.writeable
    assert torch.equal(load_image(values), as_tensor(colours()))


def test_a_grey_array_becomes_three_equal_channels() -> None:
    grey = uniform(20, 20, dtype=torch.float32)
    image = load_image(grey)
    assert image.shape == (1, 3, 20, 20)
    assert all(torch.equal(channel, grey) for channel in image[0])


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_masks_are_read_from_every_number(kind: type) -> None:
    mask = np.zeros((20, 24))
    mask[4:10, 5:9] = 255 if kind is np.uint8 else 1
    assert torch.equal(
        load_mask(mask.astype(kind)),
        rectangle((20, 24), slice(4, 10), slice(5, 9), torch.float32),
    )


# ---------------------------------------------------------------------- resizing


@given(
    height=st.integers(40, 80),
    width=st.integers(40, 80),
    scale=st.floats(0.4, 1.6),
    box=st.tuples(*[st.floats(0.1, 0.4)] * 2, *[st.floats(0.3, 0.5)] * 2),
)
def test_a_mask_keeps_its_area_when_resized(
    height: int, width: int, scale: float, box: tuple[float, float, float, float]
) -> None:
    top, left = int(box[0] * height), int(box[1] * width)
    rows = slice(top, top + int(box[2] * height))
    columns = slice(left, left + int(box[3] * width))
    mask = rectangle((height, width), rows, columns, torch.float32)
    size = (round(height * scale), round(width * scale))
    assert resize_mask(mask, size).mean() == pytest.approx(mask.mean().item(), abs=0.02)
    cut = Inputs.of({"mask": mask}).at(size, "keep").find("mask")
    assert cut is not None
    assert set(cut.unique().tolist()) <= {0.0, 1.0}
    edge = 2 / size[0] + 2 / size[1]  # half a pixel along each edge
    assert cut.mean() == pytest.approx(mask.mean().item(), abs=edge)


@given(height=sides, width=sides, side=st.integers(16, 256))
def test_keeping_the_shape_keeps_the_number_of_pixels(height: int, width: int, side: int) -> None:
    inputs = Inputs.of({"image": torch.zeros(1, 3, height, width)})
    h, w = inputs.size(side, "keep")
    assert h * w == pytest.approx(side**2, rel=2.1 / min(h, w))
    assert h / w == pytest.approx(height / width, rel=2.1 / min(h, w))
    assert inputs.size(side, "stretch") == inputs.size(side, "crop") == (side, side)
    assert Inputs().size(side, "keep") == (side, side)


def test_cropping_takes_the_middle_of_all_three() -> None:
    image, mask = uniform(1, 3, 20, 32, dtype=torch.float32), torch.zeros(1, 1, 20, 32)
    mask[..., :6] = 1
    mask[..., 10:16] = 1
    there = Inputs.of({"image": image, "mask": mask, "target": mask.flip(3)}).at((20, 20), "crop")
    assert torch.allclose(there.need("image"), image[..., 6:26], atol=1e-6)
    assert torch.equal(there["mask"], mask[..., 6:26])
    assert torch.equal(there["target"], mask.flip(3)[..., 6:26])


# ---------------------------------------------------------------------- pictures of every mode


def test_cmyk_is_converted(tmp_path: Path) -> None:
    picture = Image.new("CMYK", (20, 20), (0, 255, 255, 0))
    picture.save(tmp_path / "x.tiff")
    image = load_image(tmp_path / "x.tiff")
    assert image[0, :, 5, 5].tolist() == pytest.approx([1, 0, 0], abs=0.01)


def test_a_palette_is_looked_up() -> None:
    values = np.zeros((20, 20, 3), np.uint8)
    values[:10] = (255, 128, 0)
    image = load_image(Image.fromarray(values).convert("P", palette=Image.Palette.ADAPTIVE))
    assert image[0, :, 2, 2].tolist() == pytest.approx([1, 128 / 255, 0], abs=0.02)
    assert image[0, :, 15, 2].tolist() == pytest.approx([0, 0, 0], abs=0.02)


@pytest.mark.parametrize("form", ["png", "tiff"])
def test_sixteen_bits_keep_their_precision(tmp_path: Path, form: str) -> None:
    values = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"x.{form}")
    image = load_image(tmp_path / f"x.{form}")
    expected = torch.from_numpy(values.astype(np.float32) / 65535)
    assert torch.allclose(image[0, 1], expected, atol=1e-6)


def test_thirty_two_bit_integers_are_sixteen_bit_values_in_disguise() -> None:
    values = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.int32)
    image = load_image(Image.fromarray(values))
    assert torch.allclose(image[0, 0], torch.from_numpy(values / 65535).float(), atol=1e-6)
    small = load_image(Image.fromarray(values // 257))
    assert torch.allclose(small[0, 0], torch.from_numpy(values // 257 / 255).float(), atol=1e-6)


def test_a_picture_of_floats_is_taken_as_it_is() -> None:
    values = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    assert torch.equal(load_image(Image.fromarray(values))[0, 2], torch.from_numpy(values))
    values[3, 3] = np.nan
    with pytest.raises(InputError, match="image: has pixels that are not finite numbers"):
        load_image(Image.fromarray(values))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    values = np.zeros((20, 20, 4), np.uint8)
    values[..., 3] = 255  # black, opaque
    values[:10, :, 3] = 0
    values[15:, :, 3] = 0 if mode == "P" else 127
    picture = Image.fromarray(values)
    if mode == "P":
        picture = Image.new("P", (20, 20), 1)
        picture.putpalette([9, 9, 9, 0, 0, 0])
        picture.paste(0, (0, 0, 20, 10))
        picture.info["transparency"] = 0
    elif mode == "LA":
        picture = picture.convert("LA")
    picture.save(tmp_path / "x.png")
    image = load_image(tmp_path / "x.png")
    assert image[0, :, 3, 3].tolist() == [1, 1, 1]
    assert image[0, :, 12, 3].tolist() == [0, 0, 0]
    if mode != "P":
        assert image[0, :, 17, 3].tolist() == pytest.approx([128 / 255] * 3, abs=0.01)


def test_one_bit_pictures_are_masks(tmp_path: Path) -> None:
    mask = rectangle((20, 24), slice(4, 10), slice(5, 9), torch.float32)
    picture = Image.fromarray((mask[0, 0].numpy() * 255).astype(np.uint8)).convert("1")
    picture.save(tmp_path / "m.png")
    assert torch.equal(load_mask(tmp_path / "m.png"), mask)


@pytest.mark.parametrize("form", ["png", "jpeg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_the_camera_is_applied(
    tmp_path: Path, orientation: int, form: str
) -> None:
    values = np.zeros((20, 32, 3), np.uint8)
    values[:10, :16] = 255  # white at the top left
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(values).save(tmp_path / f"x.{form}", exif=exif.tobytes())
    image = load_image(tmp_path / f"x.{form}")
    assert image.shape[-2:] == ((20, 32) if orientation < 5 else (32, 20))
    rows, columns = (slice(0, 8), slice(-8, None)), (slice(0, 8), slice(-8, None))
    bright = [
        (i, j)
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
        if image[..., row, column].mean() > 0.5
    ]
    corners = [(0, 0), (0, 1), (1, 1), (1, 0)] * 2
    assert bright == [corners[orientation - 1]]


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\x00\x00garbage",
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12",
        b"Exif\x00\x00II*\x00\xff\xff\xff\xff",
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x02\x00\x00\x00\xff\x00\x00\xff\xff",
    ],
)
def test_a_broken_exif_block_does_not_matter(tmp_path: Path, block: bytes) -> None:
    Image.fromarray(colours()).save(tmp_path / "x.jpg", exif=block, quality=100)
    image = load_image(tmp_path / "x.jpg")
    assert image.shape == (1, 3, 18, 22)


# ---------------------------------------------------------------------- what cannot be used


def encoded(form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(colours()).save(file, form)
    return file.getvalue()


@settings(max_examples=60)
@given(
    form=st.sampled_from(["png", "jpeg", "gif", "tiff", "webp", "bmp", "ppm"]),
    keep=st.floats(0.0, 1.0),
    where=st.floats(0.0, 1.0),
    byte=st.integers(0, 255),
)
def test_a_damaged_file_is_read_or_refused_with_a_sentence(
    tmp_path: Path, form: str, keep: float, where: float, byte: int
) -> None:
    data = bytearray(encoded(form))
    data[min(len(data) - 1, int(where * len(data)))] = byte
    path = tmp_path / f"x.{form}"
    path.write_bytes(data[: max(1, int(keep * 1.3 * len(data)))])
    try:
        image = load_image(path)
    except InputError as error:
        said = str(error)
    else:
        said = f"image {path}: read"
        assert image.isfinite().all()
    assert said.startswith(f"image {path}: ")


@pytest.mark.parametrize(
    "shape", [(0, 0, 3), (3, 0, 20), (2, 3, 20, 20), (20,), (5, 20, 20), (20, 20, 2), ()]
)
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"image: expected shape .*, got "):
        load_image(np.zeros(shape, np.float32))
    with pytest.raises(ShapeError, match=r"image: expected shape .*, got "):
        load_image(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.complex64, object, "U3"])
def test_an_array_of_another_type_is_refused(dtype: object) -> None:
    with pytest.raises(ShapeError, match="image: expected uint8 in 0–255, floats"):
        load_image(np.zeros((20, 20, 3), dtype))  # type: ignore[call-overload]


def test_mask_edges_may_be_soft_but_not_grey() -> None:
    mask = torch.zeros(40, 40)
    mask[10:30, 10:30] = 1
    mask[10, 10:30] = 0.5
    assert load_mask(mask).mean() == pytest.approx(19 * 20 / 1600)
    with pytest.raises(InputError, match=r"mask: is not binary: 100% of its pixels are grey"):
        load_mask(torch.full((20, 20), 0.4))
