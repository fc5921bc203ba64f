"""Colours of a picture as sRGB: ICC profiles, and modes that Pillow alone does not convert."""

from __future__ import annotations

import functools
import io
from typing import Any, Final

import numpy as np
from PIL import Image, ImageCms

_ROUNDING: Final = 2
"""Of 255: profiles of sRGB differ from each other by so much, and change nothing."""


def to_srgb(picture: Image.Image) -> Image.Image:
    """The picture in RGB, by its ICC profile if it has one that is not sRGB; no transparency.

    A profile that is damaged, or of another kind of colours than the picture, counts as none.

    Args:
        picture: In any mode but those of deep greys (`I`, `F`).

    Example:
        >>> to_srgb(Image.new("LAB", (1, 1), (255, 128, 128))).mode
        'RGB'
    """
    profile = picture.info.get("icc_profile")
    mode = picture.mode
    if mode not in ("L", "CMYK", "LAB"):
        mode = "L" if mode in ("1", "LA", "La") else "RGB"
    if mode == "LAB" or profile:
        transform = _transform(profile if isinstance(profile, bytes) else b"", mode)
        if transform is not None:
            plain = picture if picture.mode == mode else picture.convert(mode)
            changed = ImageCms.applyTransform(plain, transform)
            return picture.convert("RGB") if changed is None else changed
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def srgb_grey(values: np.ndarray, profile: Any) -> np.ndarray:
    """Deep greys in [0, 1] by the curve of their ICC profile, unchanged if it has none.

    Pillow's own way leads through 8 bits.

    Args:
        values: Of any shape, in [0, 1].
        profile: Its bytes, or None.

    Example:
        >>> srgb_grey(np.array([0.0, 0.5]), None).tolist()
        [0.0, 0.5]
    """
    transform = _transform(profile, "L") if isinstance(profile, bytes) else None
    if transform is None:
        return values
    curve = np.asarray(ImageCms.applyTransform(_lattice("L"), transform))[0, :, 1] / 255
    bent: np.ndarray = np.interp(values, np.linspace(0, 1, 256), curve)
    return bent


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> Any:
    """From a profile to sRGB; None where it changes nothing, or is none."""
    try:
        source: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else None
        if mode == "LAB" and source is None:
            source = ImageCms.createProfile("LAB")
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if mode not in ("RGB", "L"):
            return transform
        before = _lattice(mode)
        after = np.asarray(ImageCms.applyTransform(before, transform), np.int16)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return _transform(b"", mode) if profile and mode == "LAB" else None
    changes = np.abs(after - np.asarray(before.convert("RGB"), np.int16)).max()
    return transform if changes > _ROUNDING else None


def _lattice(mode: str) -> Image.Image:
    """All greys, or colours all over the cube, in one row."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.arange(0, 256, 51, dtype=np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    return Image.fromarray(cube)
