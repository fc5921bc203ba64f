"""Small sets of labelled pictures for the tests of training."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 60, 200), "red": (200, 60, 30)}


def write_photographs(folder: Path, *, count: int = 6, side: int = 16, seed: int = 0) -> Path:
    """Two classes that differ in colour."""
    numbers = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            noise = numbers.integers(-25, 25, (side, side, 3))
            values = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(values).save(folder / name / f"{i}.png")
    return folder


def zipped(folder: Path, path: Path) -> Path:
    """The folder as a zip, with a file that is no picture."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.glob("*/*")):
            archive.write(file, Path("data") / file.relative_to(folder))
        archive.writestr("data/readme.txt", "not a picture")
    return path
