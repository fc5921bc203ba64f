from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from invertkit.core.images.sheet import GAP, Panel, beside, draw_sheet, plain
from tests.helpers import uniform

RED = Image.new("RGB", (20, 10), "red")
LINE = 17


def dark(sheet: Image.Image) -> np.ndarray:
    """Where text is: pixels that are nearly black."""
    return np.asarray(sheet.convert("L")) < 100


def test_a_bare_picture_stays_as_it_is() -> None:
    image = (uniform(3, 12, 20, dtype=torch.float32) * 255).round() / 255
    sheet = draw_sheet([[Panel(image)]], height=12)
    assert sheet.size == (20, 12 + GAP)
    shown = torch.from_numpy(np.array(sheet))[:12].permute(2, 0, 1) / 255
    assert torch.allclose(shown, image, atol=1e-3)


def test_pictures_stand_in_rows_and_columns_at_one_height() -> None:
    blue = Image.new("RGB", (10, 30), "blue")
    sheet = draw_sheet([[Panel(RED), Panel(blue)], [Panel(blue), Panel(RED)]], height=30)
    assert sheet.size == (60 + GAP + 60, 2 * (30 + GAP))
    assert sheet.getpixel((59, 29)) == (255, 0, 0)
    assert sheet.getpixel((61, 5)) == (255, 255, 255)
    assert sheet.getpixel((60 + GAP, 5)) == (0, 0, 255)
    assert sheet.getpixel((0, 30 + GAP)) == (0, 0, 255)
    assert sheet.getpixel((60 + GAP, 30 + GAP)) == (255, 0, 0)


def test_enlarged_pixels_are_squares_only_if_asked_for() -> None:
    checks = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).expand(3, 2, 2)
    colours = []
    for pixels in (True, False):
        sheet = np.asarray(draw_sheet([[Panel(checks, pixels=pixels)]], height=64))
        colours.append(len(np.unique(sheet[:64].reshape(-1, 3), axis=0)))
    assert colours[0] == 2
    assert colours[1] > 10


@given(
    text=st.text(st.characters(codec="utf-8"), max_size=60),
    width=st.integers(24, 120),
    size=st.integers(9, 16),
)
def test_no_text_is_cut_off(text: str, width: int, size: int) -> None:
    picture = Image.new("RGB", (width, 20), "white")
    sheet = draw_sheet(
        [[Panel(picture, (text,))]], columns=[text], labels=[text], title=text, height=20,
        font_size=size,
    )  # fmt: skip
    ink = dark(sheet)
    assert not ink[-1].any()
    assert not ink[:, -1].any()
    whole = draw_sheet([[Panel(Image.new("RGB", (4000, 20), "white"), (text,))]], height=20,
                       font_size=size)  # fmt: skip
    if ink.any():
        assert ink.sum() >= 2 * dark(whole).sum()  # four times, broken or not


def test_long_lines_make_the_row_taller_and_keep_all_their_words() -> None:
    narrow = Image.new("RGB", (60, 20), "white")
    short = draw_sheet([[Panel(narrow, ("one",))]], height=20)
    long = draw_sheet([[Panel(narrow, ("one two three four five six",))]], height=20)
    assert short.height == 20 + LINE + GAP
    assert long.height >= 20 + 3 * LINE + GAP


def test_a_column_without_a_picture_says_why() -> None:
    sheet = draw_sheet([[Panel(RED), Panel(None, inside="failed: no such file")]], height=64)
    assert sheet.size == (128 + GAP + 64, 64 + GAP)
    there = sheet.crop((128 + GAP, 0, 128 + GAP + 64, 64))
    assert there.getpixel((63, 63)) == (230, 230, 230)
    assert dark(there).any()


def test_sheets_stand_side_by_side() -> None:
    both = beside([RED, Image.new("RGB", (5, 30), "blue")], gap=3)
    assert both.size == (28, 30)
    assert [both.getpixel(at) for at in ((19, 9), (19, 10), (22, 0), (23, 29))] == [
        (255, 0, 0), (255, 255, 255), (255, 255, 255), (0, 0, 255),
    ]  # fmt: skip
    assert beside([RED]).tobytes() == RED.tobytes()


def test_rows_may_differ_in_length_and_there_may_be_none() -> None:
    sheet = draw_sheet([[Panel(RED)], [Panel(RED), Panel(RED)]], height=10)
    assert sheet.size == (20 + GAP + 20, 2 * (10 + GAP))
    assert sheet.getpixel((20 + GAP, 5)) == (255, 255, 255)
    assert draw_sheet([], title="nothing").height > 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ε = 0.05", "eps = 0.05"), ("1 ± 2", "1 ± 2"), ("Löwe", "Lowe"), ("日本", "??"),
     ("a\nb", "a b"), ("64×64", "64x64")],
)  # fmt: skip
def test_text_is_spelt_in_letters_that_the_font_has(text: str, expected: str) -> None:
    assert plain(text) == expected


@given(st.text(max_size=40))
def test_every_letter_has_a_glyph(text: str) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size=20)
    box = bytes(font.getmask("\uffff"))
    for letter in plain(text):
        assert letter == " " or bytes(font.getmask(letter)) != box
