from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from invertkit.core.images.inputs import Inputs
from invertkit.core.images.load import load_8_bits, load_image
from invertkit.core.images.masks import load_mask
from invertkit.core.images.resize import resize_mask
from invertkit.core.images.save import save_png, to_picture
from invertkit.errors import InputError, InvertkitWarning, ShapeError
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
        np.dstack([values, np.full_like(values[..., :1], 255)]),
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
    with pytest.raises(InputError, match="image: has 1 value that are NaN or infinite"):
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


# ---------------------------------------------------------------------- one picture, many ways


@given(
    height=sides,
    width=sides,
    alpha=st.sampled_from(["opaque", "shape", "soft"]),
    seed=st.integers(0, 99),
)
def test_a_picture_with_transparency_is_the_same_from_everywhere(
    tmp_path: Path, height: int, width: int, alpha: str, seed: int
) -> None:
    numbers = np.random.default_rng(seed)
    values = numbers.integers(0, 256, (height, width, 4), dtype=np.uint8)
    if alpha != "soft":
        values[..., 3] = 255 if alpha == "opaque" else (values[..., 3] > 128) * 255
    Image.fromarray(values).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    opaque = torch.from_numpy(values[..., 3].astype(np.float32) / 255)
    expected = as_tensor(values[..., :3]) * opaque + 1 - opaque
    file = io.BytesIO(content)
    file.seek(0, io.SEEK_END)  # as whoever wrote it has left it
    with open(tmp_path / "x.png", "rb") as opened, Image.open(tmp_path / "x.png") as lazy:
        for same in (
            tmp_path / "x.png", content, memoryview(content), file, opened, opened, lazy,
            Image.fromarray(values), values, values.transpose(2, 0, 1), values[None],
            values / 255, (values / 255).astype(">f4"), (values / 255).astype(">f8"),
            torch.from_numpy(values).permute(2, 0, 1), torch.from_numpy(values / 255).movedim(2, 0),
        ):  # fmt: skip
            image = load_image(same)
            assert image.dtype == torch.float32
            assert torch.allclose(image, expected, atol=1e-6)
            picture, _ = load_8_bits(same)
            assert (picture.mode, picture.size) == ("RGB", (width, height))
            assert (as_tensor(np.array(picture)) - image).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("type_", [np.float16, ">f2", "<f8", np.longdouble, bool, np.uint8])
def test_arrays_of_every_type_of_number_are_read(type_: str | type) -> None:
    checks = np.indices((16, 18)).sum(0) % 2
    image = load_image((checks * (255 if type_ is np.uint8 else 1)).astype(type_))
    assert torch.equal(image[0, 0], torch.from_numpy(checks).float())


@given(data=st.data(), bits=st.sampled_from([8, 10, 12, 16]), form=st.sampled_from(["png", "tiff"]))
def test_deep_greys_are_scaled_by_the_bits_that_they_use(
    tmp_path: Path, data: st.DataObject, bits: int, form: str
) -> None:
    top = 2**bits - 1
    values = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, top + 1, (16, 17))
    values[0, 0] = top
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / f"x.{form}")
    with contextlib.ExitStack() as stack:
        if bits < 16:
            told = pytest.warns(
                InvertkitWarning, match=rf"x\.{form}: its values end at {top}, .* {bits}"
            )
            stack.enter_context(told)
        image = load_image(tmp_path / f"x.{form}")
    assert torch.allclose(image[0, 2], torch.from_numpy(values / top).float(), atol=1e-6)


def test_floats_beyond_one_are_refused_in_files_as_in_arrays(tmp_path: Path) -> None:
    values = np.linspace(0, 255, 400, dtype=np.float32).reshape(20, 20)
    Image.fromarray(values).save(tmp_path / "x.tiff")
    for source in (tmp_path / "x.tiff", Image.fromarray(values), values, torch.from_numpy(values)):
        with pytest.raises(InputError, match=r"in \[0, 1\], got values from 0 to 255"):
            load_image(source)
    with pytest.raises(InputError, match="whole numbers from 0 to 255, got values from -3 to 7"):
        load_image(Image.fromarray(np.array([[-3, 7]] * 20, dtype=np.int32)))


def profile(*, swapped: bool) -> bytes:
    """Of sRGB, or of colours whose red and green primaries are exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if swapped:
        data = data.replace(b"rXYZ", b"tmp!").replace(b"gXYZ", b"rXYZ").replace(b"tmp!", b"gXYZ")
    return bytes(data)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("swapped", [False, True])
def test_colours_follow_their_profile(tmp_path: Path, *, swapped: bool, alpha: bool) -> None:
    values = colours()
    kept = np.dstack([values, np.full_like(values[..., :1], 255)]) if alpha else values
    Image.fromarray(kept).save(tmp_path / "x.png", icc_profile=profile(swapped=swapped))
    expected = as_tensor(values)[:, [1, 0, 2]] if swapped else as_tensor(values)
    image = load_image(tmp_path / "x.png")
    assert torch.allclose(image, expected, atol=0.02 if swapped else 0)
    assert np.array_equal(np.array(load_8_bits(tmp_path / "x.png")[0]), (image[0] * 255).round()
        .permute(1, 2, 0).numpy())  # fmt: skip


def test_a_profile_that_is_none_does_not_matter(tmp_path: Path) -> None:
    Image.fromarray(colours()).save(tmp_path / "x.png", icc_profile=b"no profile")
    assert torch.equal(load_image(tmp_path / "x.png"), as_tensor(colours()))
    grey = Image.fromarray(colours()[..., 0])
    grey.info["icc_profile"] = profile(swapped=True)  # of colours, on greys
    assert torch.equal(load_image(grey)[:, :1], as_tensor(colours())[:, :1])


def test_lab_is_converted(tmp_path: Path) -> None:
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    smooth = np.zeros((18, 22, 3), np.uint8) + np.arange(22, dtype=np.uint8)[:, None] * 9
    ImageCms.applyTransform(Image.fromarray(smooth), to_lab).save(tmp_path / "x.tiff")
    assert torch.allclose(load_image(tmp_path / "x.tiff"), as_tensor(smooth), atol=0.03)


@pytest.mark.parametrize("form", ["tiff", "webp", "png", "jpeg"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_eight_bits_are_upright_too(tmp_path: Path, orientation: int, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(colours()).save(tmp_path / f"x.{form}", exif=exif.tobytes())
    image = load_image(tmp_path / f"x.{form}")
    assert image.shape[-2:] == ((22, 18) if orientation == 6 else (18, 22))
    picture = load_8_bits(tmp_path / f"x.{form}")[0]
    assert torch.allclose(as_tensor(np.array(picture)), image, atol=1e-6)


# ---------------------------------------------------------------------- what cannot be used


@pytest.mark.parametrize(
    "url", ["https://a.org/x.png", Path("https://a.org/x.png"), "s3://a/x.png", "data:image/png;,"]
)
def test_an_address_is_refused_by_name(url: str | Path) -> None:
    with pytest.raises(InputError, match=r"image .*: is a URL, and nothing is downloaded"):
        load_image(url)  # type: ignore[arg-type]


def test_what_ends_before_its_time_is_a_sentence(tmp_path: Path) -> None:
    Image.fromarray(colours(64, 64)).save(tmp_path / "x.png")
    content = (tmp_path / "x.png").read_bytes()
    half = Image.open(io.BytesIO(content[: len(content) // 2]))
    gone = Image.open(tmp_path / "x.png")
    gone.close()
    with Image.open(tmp_path / "x.png") as left:
        pass
    for source in (half, gone, left):
        with pytest.raises(InputError, match=r"image: this PIL image cannot be read \(.*\)\. It"):
            load_image(source)
    closed = io.BytesIO(content)
    closed.close()
    with pytest.raises(InputError, match=r"image: this file object cannot be read \(.*closed"):
        load_image(closed)
    with pytest.raises(InputError, match="image: is a file opened as text"):
        load_image(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="image: cannot be read as a picture"):
        load_image(b"text")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(3, 20, 20, device="meta"),
        torch.zeros(3, 20, 20, dtype=torch.complex64),
        torch.zeros(3, 20, 20, dtype=torch.int64),
    ],
)
def test_a_tensor_of_another_type_is_refused(tensor: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match="image: expected uint8 in 0–255, floats"):
        load_image(tensor)


def test_tensors_of_every_float_and_layout_are_read() -> None:
    image = (uniform(3, 16, 18) * 4).round() / 4
    for same in (
        image.bfloat16(),
        image.half(),
        image.to_sparse(),
        image.movedim(0, 2).movedim(2, 0),
    ):
        assert torch.equal(load_image(same)[0], image.float())


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
