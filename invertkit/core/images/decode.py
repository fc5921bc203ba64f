"""Pictures from wherever they are, decoded: files, bytes, file objects and Pillow's own."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

from PIL import Image

from invertkit.core.images.folder import plugin_for, register_plugins
from invertkit.errors import InputError

Encoded: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image.Image
)
"""A path, the bytes of a file, a file that is open for reading bytes, or a PIL image."""

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:/|data:)")
_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture upright, by its EXIF orientation."""


def is_encoded(source: Any) -> bool:
    """Whether it is something that `decoded` reads, and no array or tensor.

    Example:
        >>> is_encoded("a.png"), is_encoded(b"GIF89a"), is_encoded([[0, 1]])
        (True, True, False)
    """
    kinds = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
    return isinstance(source, kinds) or hasattr(source, "read")


def decoded(source: Encoded, *, who: str) -> tuple[Image.Image, str]:
    """A picture with all its pixels, not turned yet, and what to call it in messages.

    Args:
        source: See `Encoded`. A file object stays open, and where it was.
        who: What the picture is for.

    Raises:
        InputError: Missing, a folder, a URL, damaged, closed, or no picture at all.

    Example:
        >>> picture, name = decoded(Image.new("L", (2, 3)), who="image")
        >>> picture.size, name
        ((2, 3), 'image')
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        return open_picture(path, who=who), f"{who} {path}"
    if isinstance(source, Image.Image):
        try:
            with _quietly():
                source.load()
        except Exception as error:  # a damaged file may raise anything
            raise InputError(
                f"{who}: this PIL image cannot be read ({_reason(error)}). It is read when it is "
                "first used: its file must be whole, and open until then."
            ) from None
        return source, who
    return _opened(io.BytesIO(_content(source, who=who)), name=who), who


def open_picture(path: Path, *, who: str) -> Image.Image:
    """A picture file, decoded.

    Raises:
        InputError: Missing, a folder, a URL, or damaged.
    """
    if _URL.match(str(path)):
        raise InputError(
            f"{who} {path}: is a URL, and nothing is downloaded; save the picture and give its "
            "file."
        )
    return _opened(path, name=f"{who} {path}")


def orientation_of(source: Any) -> int:
    """The EXIF orientation of a picture, 1 (upright) to 8; only its header is read.

    Args:
        source: As `decoded` takes it; anything else is upright.

    Example:
        >>> orientation_of(Image.new("L", (2, 3))), orientation_of([[1.0]])
        (1, 1)
    """
    if isinstance(source, Image.Image):
        return _exif_orientation(source)
    if not is_encoded(source):
        return 1
    try:
        file = (
            Path(source).expanduser()
            if isinstance(source, str | os.PathLike)
            else io.BytesIO(_content(source, who=""))
        )
        with _quietly(), Image.open(file) as picture:
            return _exif_orientation(picture)
    except Exception:  # whoever reads the picture itself tells what is wrong with it
        return 1


def upright(picture: Image.Image) -> Image.Image:
    """The picture as a viewer shows it: turned by its EXIF orientation.

    Example:
        >>> exif = Image.Exif()
        >>> exif[0x0112] = 6
        >>> picture = Image.new("L", (2, 3))
        >>> picture.info["exif"] = exif.tobytes()
        >>> upright(picture).size
        (3, 2)
    """
    turn = _TURNS.get(_exif_orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def _exif_orientation(picture: Image.Image) -> int:
    try:
        with _quietly():
            value = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # a broken EXIF block says nothing about orientation
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _content(source: Any, *, who: str) -> bytes:
    """The bytes of a file that is given as such, or open."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    try:
        # It stays where it was: it may be read twice, as one file for two inputs.
        place = source.tell() if source.seekable() else None
        content = source.read()
        if not content and place:  # whoever wrote it has left it at its end
            source.seek(0)
            content = source.read()
        if place is not None:
            source.seek(place)
    except Exception as error:  # a closed file, or whatever the object is
        raise InputError(f"{who}: this file object cannot be read ({_reason(error)}).") from None
    if not isinstance(content, bytes):
        raise InputError(f"{who}: is a file opened as text; open it in mode 'rb'.")
    return content


def _opened(file: Path | io.BytesIO, *, name: str) -> Image.Image:
    register_plugins()
    try:
        with _quietly(), Image.open(file) as picture:
            picture.load()
            return picture
    except FileNotFoundError:
        raise InputError(f"{name}: no such file.") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a folder; expected a picture.") from None
    except Exception as error:  # a damaged file may raise anything
        lacking = plugin_for(file) if isinstance(file, Path) else ""
        hint = f" Install {lacking} to read such files." if lacking else ""
        raise InputError(f"{name}: cannot be read as a picture ({_reason(error)}).{hint}") from None


def _reason(error: Exception) -> str:
    said = str(error).strip().split("\n")[0]
    # What Pillow stumbles over where a file is gone tells a user nothing.
    return "its file is closed" if isinstance(error, AttributeError) or not said else f"{said:.120}"


@contextmanager
def _quietly() -> Iterator[None]:
    """Pillow warns of damage that does not keep it from reading the picture."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
