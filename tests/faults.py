"""What the tests of refusals share: a tiny run with something wrong in it, and its sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faces import invertkit, write_inputs, write_page

Refuse = Callable[..., str]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is fetched, nor found in a cache."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def refuse(tmp_path: Path) -> Refuse:
    """Run a tiny page with some of its inputs replaced; the sentence of the refusal."""

    def go(*arguments: object, page: Path | str | None = None, **files: object) -> str:
        inputs = {name: tmp_path / f"{name}.png" for name in ("image", "mask", "target")}
        write_inputs(tmp_path)
        options = [x for name, path in {**inputs, **files}.items() for x in (f"--{name}", path)]
        out = tmp_path / "out"
        answer = invertkit(
            "run", page or write_page(tmp_path), *options, "--out", out, "--device", "cpu",
            *arguments,
        )  # fmt: skip
        assert not out.exists(), "a refused run leaves no folder"
        assert answer.out == ""
        return answer.sentence

    return go


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path
