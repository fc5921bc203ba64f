"""Checkpoints are whole, or not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from invertkit.errors import InputError
from invertkit.training.loop.checkpoints import (
    CHECKPOINT,
    FORMAT,
    expect_new,
    make_folder,
    read_checkpoint,
    write_checkpoint,
)

CPU = torch.device("cpu")


def test_a_checkpoint_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / CHECKPOINT
    write_checkpoint({"step": 1}, path)

    def full(data: object, file: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"cannot be written .*No space left.* is whole: make"):
        write_checkpoint({"step": 2}, path)
    assert read_checkpoint(path, device=CPU) == {"step": 1, "format": FORMAT}
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    path = tmp_path / CHECKPOINT
    with pytest.raises(InputError, match="no such checkpoint; there is nothing to go on from"):
        read_checkpoint(path, device=CPU)
    path.write_bytes(b"not one")
    with pytest.raises(InputError, match="is not a whole checkpoint of a training"):
        read_checkpoint(path, device=CPU)
    torch.save({"format": FORMAT + 1}, path)
    with pytest.raises(InputError, match=f"has format {FORMAT + 1}, this version reads {FORMAT}"):
        read_checkpoint(path, device=CPU)


def test_a_folder_is_made_and_not_taken_twice(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    expect_new(tmp_path / "a" / "b")
    write_checkpoint({}, tmp_path / "a" / "b" / CHECKPOINT)
    with pytest.raises(InputError, match="is of an earlier training"):
        expect_new(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be made a folder \(File exists\)"):
        make_folder(tmp_path / "file")
