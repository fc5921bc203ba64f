"""Labelled pictures in rows and columns, drawn as one picture."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from invertkit.core.images.save import to_picture

GAP: Final = 4
_MARGIN: Final = 2
_SPELT: Final[Mapping[str, str]] = {
    "ε": "eps", "σ": "sigma", "∞": "inf", "×": "x", "–": "-", "—": "-", "…": "...", "≤": "<=",
    "≥": ">=", "→": "->", "−": "-", "₂": "2", "ß": "ss", "“": '"', "”": '"', "’": "'", "‘": "'",
}  # fmt: skip
"""Pillow's own font has no glyphs for these and draws a box."""


@final
@dataclass(frozen=True)
class Panel:
    """A picture with a heading above it and lines of text beneath.

    Args:
        picture: In [0, 1], `(3, h, w)` or `(1, h, w)`, or a PIL picture; None leaves its place
            grey, with `inside` written there.
        lines: Beneath the picture; each is broken where it is wider.
        inside: What to write where there is no picture.
        pixels: Show enlarged pixels as squares instead of smoothing between them.
        heading: Above the picture, broken where it is wider.
    """

    picture: Float[Tensor, "c h w"] | Image.Image | None = None
    lines: Sequence[str] = ()
    inside: str = ""
    pixels: bool = False
    heading: str = ""


def draw_sheet(
    rows: Sequence[Sequence[Panel]],
    *,
    columns: Sequence[str] = (),
    labels: Sequence[str] = (),
    title: str = "",
    height: int = 128,
    font_size: int = 13,
) -> Image.Image:
    """Pictures of one height in rows, with headings, row labels and text beneath each.

    No text is cut off: lines are broken where they are wider than their place, and each row and
    column is as large as what it holds.

    Args:
        rows: Panels; rows may differ in length.
        columns: Headings above the columns, if any.
        labels: Text above each row, if any.
        title: Above everything.
        height: Of every picture, in pixels; widths follow the pictures' shapes.
        font_size: In pixels.

    Returns:
        The sheet, RGB on white.
    """
    text = _Text(font_size)
    count = max((len(row) for row in rows), default=0)
    pictures = [[_sized(panel, height) for panel in row] for row in rows]
    widths = [
        max([p.width for row in pictures for p in row[i : i + 1] if p is not None], default=height)
        for i in range(count)
    ]
    whole = max(sum(widths) + GAP * (count - 1), min(text.width(title), 3 * height))
    heads = [text.broken(name, widths[i]) for i, name in enumerate(columns[:count])]
    drawn_rows = [
        _Row(text, panels, row, widths, height, text.broken(label, whole))
        for panels, row, label in zip(rows, pictures, [*labels, *[""] * len(rows)], strict=False)
    ]
    first = text.tall(text.broken(title, whole))
    tall = first + max(map(text.tall, heads), default=0) + sum(row.tall for row in drawn_rows)
    canvas = Image.new("RGB", (whole, max(1, tall)), "white")
    draw = ImageDraw.Draw(canvas)
    top = text.write(draw, 0, 0, text.broken(title, whole))
    top = max(
        [text.write(draw, sum(widths[:i]) + GAP * i, top, lines) for i, lines in enumerate(heads)]
        or [top]
    )
    for row in drawn_rows:
        top = row.draw(canvas, draw, top)
    return canvas


@final
class _Row:
    """One row of a sheet: its label, its panels, and how tall it is.

    Args:
        text: Writes.
        panels: From the left.
        pictures: Theirs, as they are drawn.
        widths: Of the columns.
        height: Of every picture.
        label: Lines above the row.
    """

    def __init__(
        self,
        text: _Text,
        panels: Sequence[Panel],
        pictures: Sequence[Image.Image | None],
        widths: Sequence[int],
        height: int,
        label: Sequence[str],
    ) -> None:
        self.text, self.panels, self.pictures = text, panels, pictures
        self.widths, self.height, self.label = widths, height, label
        columns = list(zip(panels, widths, strict=False))
        self.above = [text.broken(panel.heading, width) for panel, width in columns]
        self.beneath = [_broken(text, panel.lines, width) for panel, width in columns]
        self.head = max(map(text.tall, self.above), default=0)
        foot = max(map(text.tall, self.beneath), default=0)
        self.tall = text.tall(label) + self.head + height + foot + GAP

    def draw(self, canvas: Image.Image, draw: ImageDraw.ImageDraw, top: int) -> int:
        """Draw it; where the next row begins."""
        bottom = top + self.tall
        top = self.text.write(draw, 0, top, self.label)
        under = top + self.head
        for i, (panel, picture) in enumerate(zip(self.panels, self.pictures, strict=True)):
            left = sum(self.widths[:i]) + GAP * i
            self.text.write(draw, left, top, self.above[i])
            if picture is not None:
                canvas.paste(picture, (left, under))
            else:
                corner = (left + self.widths[i] - 1, under + self.height - 1)
                draw.rectangle((left, under, *corner), fill="#e6e6e6")
                fitting = self.text.broken(panel.inside, self.widths[i])
                self.text.write(draw, left, under, fitting[: self.height // self.text.line])
            self.text.write(draw, left, under + self.height, self.beneath[i])
        return bottom


def beside(sheets: Sequence[Image.Image], *, gap: int = 6 * GAP) -> Image.Image:
    """Finished sheets side by side, their upper edges in line."""
    width = sum(sheet.width for sheet in sheets) + gap * (len(sheets) - 1)
    canvas = Image.new("RGB", (width, max(sheet.height for sheet in sheets)), "white")
    left = 0
    for sheet in sheets:
        canvas.paste(sheet, (left, 0))
        left += sheet.width + gap
    return canvas


def _broken(text: _Text, lines: Sequence[str], width: int) -> list[str]:
    return [part for line in lines for part in text.broken(line, width)]


def plain(text: str) -> str:
    """The text in letters that the font of the sheets has.

    Example:
        >>> plain("ε = 0.05, 64×64, Gänseblümchen")
        'eps = 0.05, 64x64, Ganseblumchen'
    """
    spelt = "".join(_SPELT.get(letter, letter) for letter in text)
    # Accents come apart from their letters, and are dropped.
    bare = unicodedata.normalize("NFKD", spelt)
    base_letters = "".join(letter for letter in bare if not unicodedata.combining(letter))
    return "".join(_writable(letter) for letter in base_letters)


def _writable(letter: str) -> str:
    if letter.isspace():
        return " "
    return letter if " " < letter <= "~" or letter == "±" else "?"


def _sized(panel: Panel, height: int) -> Image.Image | None:
    picture = panel.picture
    if picture is None:
        return None
    if isinstance(picture, Tensor):
        picture = to_picture(picture.expand(3, -1, -1))
    picture = picture.convert("RGB")
    size = (max(1, round(picture.width * height / picture.height)), height)
    if picture.size == size:
        return picture
    sharp = panel.pixels and height > picture.height
    return picture.resize(size, Image.Resampling.NEAREST if sharp else Image.Resampling.LANCZOS)


class _Text:
    """Writing in one font."""

    def __init__(self, size: int) -> None:
        self._font = ImageFont.load_default(size=size)
        self.line = size + 4

    def width(self, text: str) -> int:
        return math.ceil(self._font.getlength(plain(text))) + 2 * _MARGIN

    def tall(self, lines: Sequence[str]) -> int:
        return self.line * len(lines)

    def broken(self, text: str, width: int) -> list[str]:
        """The text in lines of that width: broken between words, long words anywhere."""
        room = width - 2 * _MARGIN
        lines: list[str] = []
        for word in plain(text).split():
            joined = f"{lines[-1]} {word}" if lines else word
            if lines and self._font.getlength(joined) <= room:
                lines[-1] = joined
                continue
            while len(word) > 1 and self._font.getlength(word) > room:
                fits = len(word)
                while fits > 1 and self._font.getlength(word[:fits]) > room:
                    fits -= 1
                lines.append(word[:fits])
                word = word[fits:]
            lines.append(word)
        return lines

    def write(self, draw: ImageDraw.ImageDraw, left: int, top: int, lines: Sequence[str]) -> int:
        """Write lines under each other; where the next one would begin."""
        for i, line in enumerate(lines):
            draw.text((left + _MARGIN, top + i * self.line + 1), line, "black", self._font)
        return top + self.tall(lines)
