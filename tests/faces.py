"""What the tests of the faces share: pictures, tiny pages, the command line in this process."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
import yaml
from PIL import Image
from torch import Tensor

from invertkit.cli import main
from invertkit.core.images.save import to_picture
from invertkit.core.log import log
from tests.helpers import make_scene, rectangle

SIZE = (24, 32)
TINY: Mapping[str, Any] = {
    "name": "tiny",
    "summary": "a few steps of pixels",
    "inputs": ["image", "mask", "target"],
    "fit": "keep",
    "variable": {"type": "pixels", "start": "noise", "noise": 0.3},
    "objective": {
        "match": {"type": "pixel_distance", "weight": 2.0, "region": "background"},
        "smooth": {"type": "total_variation", "weight": {"type": "linear", "start": 1, "stop": 2}},
    },
    "optimizer": {"type": "adam", "lr": 0.05},
    "stages": [{"size": 16, "steps": 3}, {"size": 20, "steps": 4}],
    "result": "last",
}


class Answer(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The only line of a refusal, without the program's name."""
        assert self.code == 2, self
        assert "Traceback" not in self.err
        lines = self.err.strip().split("\n")
        assert len(lines) == 1, lines
        assert lines[0].startswith("invertkit: ")
        assert lines[0].endswith((".", "?", "…")), lines[0]
        return lines[0].removeprefix("invertkit: ")


def invertkit(*arguments: object) -> Answer:
    """The command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    handlers, level, code = list(log.handlers), log.level, 0
    try:
        with (
            mock.patch.object(sys, "argv", ["invertkit", *map(str, arguments)]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        log.handlers[:] = handlers
        log.setLevel(level)
    return Answer(code, out.getvalue(), err.getvalue())


def scene_tensors(size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor, Tensor]:
    """Photograph, mask and target: noise that survives a PNG unchanged."""
    scene = make_scene(size, dtype=torch.float32)
    assert scene.reference is not None
    return (scene.reference * 255).round() / 255, scene.inputs["mask"], scene.inputs["target"]


def red_on_green(size: tuple[int, int] = (48, 48)) -> tuple[Tensor, Tensor, Tensor]:
    """A red square on green with a little texture; mask and another place."""
    h, w = size
    mask = rectangle(size, slice(h // 8, h // 2), slice(w // 8, w // 2), torch.float32)
    target = mask.roll((h // 4, w // 4), (2, 3))
    texture = torch.rand(1, 3, h, w, generator=torch.Generator().manual_seed(5)) * 0.1
    red, green = (torch.tensor(c).reshape(1, 3, 1, 1) for c in ((0.8, 0.1, 0.1), (0.1, 0.7, 0.1)))
    return (mask * red + (1 - mask) * green + texture).clamp(0, 1), mask, target


def picture(values: Tensor) -> Image.Image:
    return to_picture(values[0].expand(3, -1, -1))


def write_inputs(
    folder: Path, tensors: Sequence[Tensor] | None = None, names: Sequence[str] = ()
) -> list[str]:
    """The files and the options that name them."""
    options = []
    chosen = names or ("image", "mask", "target")
    for name, values in zip(("image", "mask", "target"), tensors or scene_tensors(), strict=True):
        path = folder / f"{name}.png"
        picture(values).save(path)
        options += [f"--{name}", str(path)] if name in chosen else []
    return options


def tiny_page(**changes: Any) -> dict[str, Any]:
    """The tiny page with other top-level keys; None removes one."""
    page = {**TINY, **changes}
    return {key: value for key, value in page.items() if value is not None}


def write_page(folder: Path, name: str = "tiny", **changes: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tiny_page(**{"name": name, **changes}), sort_keys=False))
    return path
