"""The picture in a notebook, drawn by IPython's own display handle."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from PIL import Image

import invertkit as package
from invertkit.runs.live_picture import LivePicture
from tests.faces import scene_tensors, tiny_page

IMAGE, MASK, TARGET = scene_tensors()
INPUTS = {"image": IMAGE, "mask": MASK, "target": TARGET}


class Clock:
    """A tenth of a second later whenever it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.1
        return self.now


class Shell:
    """A kernel's shell that notes what is published."""

    kernel = object()

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []
        self.display_pub, self.display_formatter = self, self

    def publish(self, data: dict[str, Any], metadata: Any = None, **options: Any) -> None:
        self.published.append({"data": data, **options})

    def format(self, picture: Any, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        assert isinstance(picture, Image.Image)
        return {"image/png": picture.size}, {}


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    ipython = pytest.importorskip("IPython")
    interactive = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell
    made = Shell()
    monkeypatch.setattr(ipython, "get_ipython", lambda: made)
    monkeypatch.setattr(interactive, "initialized", classmethod(lambda cls: True))
    monkeypatch.setattr(interactive, "instance", classmethod(lambda cls, *a, **k: made))
    return made


def test_a_run_in_a_notebook_shows_its_picture_in_one_place(shell: Shell) -> None:
    picture = LivePicture.in_notebook()
    assert picture is not None
    picture._clock = Clock()
    picture._drawn = -1.0
    package.run(tiny_page(), **INPUTS, device="cpu", seeds=2, batch=2, observers=[picture])
    first, *later = shell.published
    assert not first.get("update")
    assert [each["update"] for each in later] == [True] * len(later)
    assert len({each["transient"]["display_id"] for each in shell.published}) == 1
    assert len(shell.published) == 3, "at 0.1, 0.6 and the last of seven steps"
    sizes = [each["data"]["image/png"] for each in shell.published]
    assert sizes == [(2 * 288, 224)] + [(2 * 303, 224)] * 2


def test_a_run_shows_it_by_itself_where_somebody_looks(shell: Shell) -> None:
    package.run(tiny_page(), **INPUTS, device="cpu", progress=True)
    assert shell.published
    shell.published.clear()
    package.run(tiny_page(), **INPUTS, device="cpu", progress=False)
    assert not shell.published


def test_outside_a_notebook_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LivePicture.in_notebook() is None
    script = (
        "import sys; sys.modules['IPython'] = None\n"
        "from invertkit.runs.live_picture import LivePicture\n"
        "assert LivePicture.in_notebook() is None"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
