"""Masks over photographs that their EXIF block says are turned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from invertkit.core.images.inputs import load_inputs
from invertkit.core.images.specs import SHORT
from invertkit.errors import InputError, InvertkitWarning


def files(folder: Path, *, size: tuple[int, int], orientation: int, form: str = "png") -> Path:
    """A turned photograph, and masks over what is stored, over what is shown, and with a turn."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.zeros((*size, 3), np.uint8))
    stored.save(folder / f"image.{form}", exif=exif.tobytes())
    mask = np.zeros(size, np.uint8)
    mask[2:6, 2:6] = 255
    Image.fromarray(mask).save(folder / "stored.png")
    Image.fromarray(mask).save(folder / "both.png", exif=exif.tobytes())
    Image.fromarray(mask.T if orientation > 4 else mask).save(folder / "shown.png")
    return folder / f"image.{form}"


@given(
    orientation=st.integers(5, 8),
    size=st.tuples(st.integers(16, 30), st.integers(16, 30)).filter(lambda s: s[0] != s[1]),
)
@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "tiff"])
def test_a_mask_of_the_stored_pixels_needs_turning(
    tmp_path: Path, form: str, orientation: int, size: tuple[int, int]
) -> None:
    image = files(tmp_path, size=size, orientation=orientation, form=form)
    for source in (image, image.read_bytes()):
        with pytest.raises(InputError, match=r"mask: is .* shown turned by 90° .* too"):
            load_inputs({"image": source, "mask": tmp_path / "stored.png"}, SHORT)
        for good in ("shown.png", "both.png"):
            inputs = load_inputs({"image": source, "mask": tmp_path / good}, SHORT)
            assert inputs.need("mask").shape[-2:] == (size[1], size[0])


@pytest.mark.parametrize(("orientation", "size"), [(3, (16, 20)), (2, (16, 20)), (6, (18, 18))])
def test_where_the_sides_do_not_tell_it_is_said(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    image = files(tmp_path, size=size, orientation=orientation)
    with pytest.warns(InvertkitWarning, match=r"mask: the image is shown .* by its EXIF"):
        load_inputs({"image": image, "mask": tmp_path / "stored.png"}, SHORT)
    load_inputs({"image": image, "mask": tmp_path / "both.png"}, SHORT)


def test_another_size_is_another_fault(tmp_path: Path) -> None:
    image = files(tmp_path, size=(16, 20), orientation=6)
    Image.new("1", (30, 30)).save(tmp_path / "other.png")
    mask = np.eye(30, dtype=np.uint8)
    with pytest.raises(InputError, match="mask: is 30×30 pixels, the image is 16×20"):
        load_inputs({"image": image, "mask": mask}, SHORT)
