"""Masks of every make: levels, palettes, transparency, classes."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from invertkit.core.images.masks import load_mask
from invertkit.errors import InputError, InvertkitWarning
from tests.helpers import rectangle

SIZE = (20, 24)
boxes = st.tuples(
    st.integers(1, 8), st.integers(2, 8), st.integers(1, 9), st.integers(2, 9)
)  # top, height, left, width


def shape(box: tuple[int, int, int, int]) -> np.ndarray:
    top, height, left, width = box
    inside = np.zeros(SIZE, dtype=bool)
    inside[top : top + height, left : left + width] = True
    return inside


def same(source: Any, inside: np.ndarray) -> bool:
    mask = load_mask(source)
    return mask.dtype == torch.float32 and bool(
        torch.equal(mask[0, 0], torch.from_numpy(inside).float())
    )


def reread(picture: Image.Image, form: str = "png") -> Image.Image:
    file = io.BytesIO()
    picture.save(file, form)
    return Image.open(file)


# ---------------------------------------------------------------------- two levels


@given(
    box=boxes,
    levels=st.tuples(st.integers(0, 65535), st.integers(0, 65535)).filter(lambda x: x[0] != x[1]),
    kind=st.sampled_from(
        ["u1", "<u2", ">u2", "<i4", ">i8", "f2", "f4", ">f8", "PIL L", "PIL I;16", "PIL F", "P"]
    ),
)
def test_the_brighter_of_two_levels_is_the_object(
    box: tuple[int, int, int, int], levels: tuple[int, int], kind: str
) -> None:
    inside = shape(box)
    limit = 256 if kind in ("u1", "PIL L", "P") else 2000 if kind == "f2" else 65536
    low, high = sorted(level % limit for level in levels)
    if low == high:
        low, high = 0, 1
    values = np.where(inside, high, low)
    if kind == "P":
        picture = Image.fromarray(values.astype(np.uint8)).convert("P")
        assert same(reread(picture), inside)
    elif kind.startswith("PIL"):
        type_ = {"L": np.uint8, "I;16": np.uint16, "F": np.float32}[kind.split()[1]]
        picture = Image.fromarray(values.astype(type_))
        assert picture.mode == kind.split()[1]
        assert same(reread(picture, "tiff"), inside)
    else:
        assert same(values.astype(kind), inside)


@pytest.mark.parametrize("colours", [((0, 0, 255), (255, 0, 0)), ((9, 9, 9), (9, 10, 9))])
@given(box=boxes)
def test_two_colours_are_a_mask(
    colours: tuple[tuple[int, ...], tuple[int, ...]], box: tuple[int, int, int, int]
) -> None:
    inside = shape(box)
    values = np.where(inside[..., None], colours[1], colours[0]).astype(np.uint8)
    assert same(Image.fromarray(values), inside)
    assert same(values, inside)


def test_palettes_go_by_their_colours_and_else_by_their_numbers(tmp_path: Path) -> None:
    inside = shape((3, 5, 4, 6))
    picture = Image.fromarray(inside.astype(np.uint8))
    picture.putpalette([0, 0, 0, 128, 0, 0])  # as segmentations have it
    assert same(reread(picture), inside)
    picture = Image.fromarray((~inside).astype(np.uint8))
    picture.putpalette([255, 255, 255, 0, 0, 0])
    assert same(reread(picture), inside)


@given(box=boxes, radius=st.floats(0.3, 0.6), form=st.sampled_from(["png", "jpeg", "webp"]))
def test_soft_edges_are_cut_at_one_half(
    box: tuple[int, int, int, int], radius: float, form: str
) -> None:
    inside = np.kron(shape(box), np.ones((8, 8))) > 0
    picture = Image.fromarray((inside * 255).astype(np.uint8))
    soft = reread(picture.filter(ImageFilter.GaussianBlur(radius)), form)
    mask = load_mask(soft)[0, 0].numpy() > 0
    assert (mask != inside).mean() < 0.01


def test_noise_of_a_lossy_format_is_no_mask() -> None:
    values = np.zeros((64, 64), dtype=np.uint8)
    values[20:40, 20:40] = 6
    with pytest.raises(InputError, match="hardly any contrast: its greys go from 0% to"):
        load_mask(reread(Image.fromarray(values), "jpeg"))


@pytest.mark.parametrize(
    ("level", "message"), [(0, "is empty"), (255, "is full"), (128, "not binary"), (1, "one value")]
)
def test_one_level_is_told_for_what_it_is(level: int, message: str) -> None:
    with pytest.raises(InputError, match=f"mask: .*{message}"):
        load_mask(np.full(SIZE, level, np.uint8))


# ---------------------------------------------------------------------- transparency


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
@pytest.mark.parametrize("paint", ["black", "white", "photograph"])
@given(box=boxes, soft=st.booleans(), seed=st.integers(0, 9))
def test_what_is_opaque_is_the_object(
    *, mode: str, paint: str, box: tuple[int, int, int, int], soft: bool, seed: int
) -> None:
    inside = shape(box)
    numbers = np.random.default_rng(seed)
    photograph = numbers.integers(0, 256, (*SIZE, 1), dtype=np.uint8).repeat(3, 2)
    seen = {"black": 0 * photograph, "white": 0 * photograph + 255, "photograph": photograph}[paint]
    hidden = numbers.integers(0, 2) * 255  # what nobody sees says nothing
    values = np.dstack([np.where(inside[..., None], seen, hidden), inside * 255]).astype(np.uint8)
    if soft:
        values[box[0], box[2], 3] = 140
    picture = Image.fromarray(values)
    assert same(values, inside)
    assert same(torch.from_numpy(values).movedim(2, 0), inside)
    assert same(reread(picture) if mode == "RGBA" else picture.convert(mode), inside)


def test_a_transparent_colour_counts_as_transparency() -> None:
    inside = shape((3, 5, 4, 6))
    for values, form in ((inside * 255).astype(np.uint8), "L"), (inside.astype(np.uint16), "I;16"):
        picture = Image.fromarray(values)
        assert picture.mode == form
        picture.info["transparency"] = 0
        assert same(picture, inside)


@given(box=boxes)
def test_transparency_without_a_shape_says_nothing(box: tuple[int, int, int, int]) -> None:
    inside = shape(box)
    for alpha in (255, 200, 90, 0):
        values = np.full((*SIZE, 4), alpha, np.uint8)
        values[..., :3] = inside[..., None] * 255
        assert same(values, inside)


@pytest.mark.parametrize("levels", [(0, 255), (20, 240)])
def test_two_shapes_are_refused(levels: tuple[int, int]) -> None:
    values = np.zeros((*SIZE, 4), np.uint8)
    values[..., :3] = np.where(shape((3, 5, 4, 6))[..., None], levels[1], levels[0])
    values[2:, ..., 3] = 255
    with pytest.raises(InputError, match="mask: has a shape in its transparency, and another in"):
        load_mask(Image.fromarray(values))


def test_a_gradient_of_transparency_is_no_mask() -> None:
    values = np.zeros((*SIZE, 4), np.uint8)
    values[..., 3] = np.linspace(0, 255, SIZE[1])
    with pytest.raises(InputError, match=r"mask: is not binary: .* are partly transparent"):
        load_mask(values)


# ---------------------------------------------------------------------- classes


@given(
    values=st.sets(st.integers(1, 60), min_size=2, max_size=5),
    unknown=st.booleans(),
    mode=st.sampled_from(["P", "L", "I;16"]),
)
def test_a_class_is_taken_by_its_number(
    tmp_path: Path, *, values: set[int], unknown: bool, mode: str
) -> None:
    labels = np.zeros(SIZE, np.uint8)
    for row, value in enumerate(sorted(values)):
        labels[3 * row : 3 * row + 3, 4:20] = value
    if unknown:
        labels[0, 2:22] = 255
    picture = Image.fromarray(labels)
    if mode == "P":
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    elif mode == "I;16":
        picture = Image.fromarray(labels.astype(np.uint16))
    file = tmp_path / "labels.png"
    picture.save(file)
    for value in values:
        assert same(f"{file}#{value}", labels == value)
        assert same(Path(f"{file}#{value}"), labels == value)
    with pytest.raises(InputError, match=r"labels\.png: is not binary: .*as in `labels\.png#"):
        load_mask(file)
    with pytest.raises(InputError, match=r"has no pixel of class 77; its classes: 0, "):
        load_mask(f"{file}#77")


def test_the_value_for_unknown_is_not_taken_for_the_object() -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[4:12, 4:12] = 15
    labels[4, 4:12] = 255
    with pytest.raises(InputError, match="it has the values 0, 15 and 255"):
        load_mask(Image.fromarray(labels))


def test_a_file_may_have_such_a_name_itself(tmp_path: Path) -> None:
    inside = shape((3, 5, 4, 6))
    Image.fromarray(inside).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a#1")
    assert same(tmp_path / "a#1", inside)
    Image.new("RGB", (16, 16)).save(tmp_path / "c.png")
    with pytest.raises(InputError, match="in colours, so it has no class 2"):
        load_mask(tmp_path / "c.png#2")


# ---------------------------------------------------------------------- inverted


@given(box=boxes)
def test_a_mask_that_is_likely_inverted_is_told(box: tuple[int, int, int, int]) -> None:
    inside = shape(box)
    for mask in (inside, ~inside):
        with contextlib.ExitStack() as stack:
            if mask.mean() > 0.5:
                told = pytest.warns(InvertkitWarning, match=r"mask: covers \d+% .* likely inverted")
                stack.enter_context(told)
            assert load_mask(mask).mean() == pytest.approx(mask.mean())
        load_mask(mask, alone=False)


def test_a_large_object_within_the_picture_is_not() -> None:
    mask = rectangle(SIZE, slice(1, -1), slice(1, -1), torch.float32)
    assert torch.equal(load_mask(mask), mask)
