"""Edited pictures: their sheet, animation and files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from invertkit.apps.editing.change import Change
from invertkit.core.images.save import save_png
from invertkit.core.images.sheet import Panel, draw_sheet
from invertkit.core.version import __version__
from invertkit.errors import InputError

_TILE = 256
_COLUMNS = 9


@final
@dataclass(frozen=True)
class Edited:
    """Edited pictures, one for each strength.

    Args:
        images: The photograph with the edited object blended in.
        generated: The generator's own edited pictures.
        strengths: Of the edit.
        photograph: What they were blended into.
        projection: The generator's picture as the run left it.
        region: Where the photograph could change.
        change: What was changed at strength 1.
        facts: What was done, as in `edit.json`.
    """

    images: Float[Tensor, "n 3 h w"]
    generated: Float[Tensor, "n 3 s s"]
    strengths: tuple[float, ...]
    photograph: Float[Tensor, "3 h w"]
    projection: Float[Tensor, "3 s s"]
    region: Bool[Tensor, "1 h w"]
    change: Change
    facts: Mapping[str, Any]

    def __repr__(self) -> str:
        count, (height, width) = len(self.strengths), self.images.shape[-2:]
        pictures = f"{count} picture{'' if count == 1 else 's'} of {width}×{height}"
        return f"<Edited: {described(self.change)}; {pictures}>"

    def sheet(self) -> Image.Image:
        """Photograph, projection, edited and blended pictures, labelled."""
        title = f"{self.facts['run']}, seed {self.facts['seed']}: {described(self.change)}"
        start = [("photograph", self.photograph), ("projection", self.projection)]
        if len(self.strengths) == 1:
            at = "" if self.strengths[0] == 1 else f" at strength {self.strengths[0]:g}"
            edited = [(f"edited{at}", self.generated[0])] if self.change.words else []
            return grid([[*start, *edited, ("blended", self.images[0])]], title)
        shown = spread(len(self.strengths))
        rows = zip(start, ("blended", "edited"), (self.images, self.generated), strict=True)
        return grid(
            [
                [first, *((f"{what}, strength {self.strengths[i]:g}", row[i]) for i in shown)]
                for first, what, row in rows
            ],
            title,
        )

    def frames(self) -> list[Image.Image]:
        """The blended pictures, each under its strength."""
        return animated(self.images, self.strengths, described(self.change))


def described(change: Change) -> str:
    """What is changed, in words.

    Example:
        >>> described(Change(label="bird", zoom=1.2))
        'class bird, zoom 1.2'
    """
    return ", ".join(change.words) or "the projection as it is"


def animated(
    images: Float[Tensor, "n 3 h w"], strengths: Sequence[float], title: str
) -> list[Image.Image]:
    """Frames of an animation, each picture under its strength, all of one size."""
    drawn = [
        grid([[(f"strength {strength:+.2f}: {title}", image)]], tile=image.shape[-2])
        for strength, image in zip(strengths, images, strict=True)
    ]
    # Labels may break into more lines at one strength than at another.
    size = (max(frame.width for frame in drawn), max(frame.height for frame in drawn))
    frames = [Image.new("RGB", size, "white") for _ in drawn]
    for frame, picture in zip(frames, drawn, strict=True):
        frame.paste(picture, (0, size[1] - picture.height))
    return frames


def spread(count: int) -> list[int]:
    """At most so many places as fit on a sheet, the first and the last among them."""
    shown = min(count, _COLUMNS)
    return [round(i * (count - 1) / (shown - 1)) for i in range(shown)]


def grid(
    rows: Sequence[Sequence[tuple[str, Tensor]]], title: str = "", *, tile: int = _TILE
) -> Image.Image:
    """Pictures of one height under their labels."""
    panels = [[Panel(image, heading=label) for label, image in row] for row in rows]
    return draw_sheet(panels, title=title, height=tile)


def write_edited(result: Edited, folder: Path) -> None:
    """Fill a folder that is there already.

    Raises:
        InputError: It cannot be written.
    """
    text = {"edit": described(result.change), "software": f"invertkit {__version__}"}
    try:
        save_png(result.images[-1], folder / "edited.png", text=text)
        if len(result.strengths) > 1:
            (folder / "frames").mkdir()
            for i, (strength, image) in enumerate(
                zip(result.strengths, result.images, strict=True)
            ):
                save_png(image, folder / "frames" / f"{i:02}_{strength:+.3f}.png", text=text)
            save_animation(result.frames(), folder / "animation.gif")
        result.sheet().save(folder / "sheet.png")
        (folder / "edit.json").write_text(json.dumps(result.facts, indent=2), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}).") from None


def save_animation(frames: Sequence[Image.Image], path: Path) -> None:
    """There and back again."""
    # One palette for all: with one a frame, colours that stay would flicker.
    montage = Image.new("RGB", (frames[0].width * 3, frames[0].height))
    for i, frame in enumerate((frames[0], frames[len(frames) // 2], frames[-1])):
        montage.paste(frame, (i * frame.width, 0))
    palette = montage.quantize(256)
    order = [*frames, *frames[-2:0:-1]]
    times = [120] * len(order)
    times[0] = times[len(frames) - 1] = 600
    small = [frame.quantize(palette=palette) for frame in order]
    small[0].save(path, save_all=True, append_images=small[1:], duration=times, loop=0)
