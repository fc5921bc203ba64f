"""Folders, devices and disks that cannot be used: one sentence, and nothing is lost."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

import invertkit as package
from invertkit.core.devices import pick_device
from invertkit.errors import InputError
from invertkit.runs.checkpoint import FORMAT, load
from tests.faces import invertkit, scene_tensors, write_inputs, write_page
from tests.faults import Refuse, write

pytestmark = pytest.mark.usefixtures("offline")


def out_fault(tmp_path: Path, out: Path) -> str:
    options = write_inputs(tmp_path)
    return invertkit(
        "run", write_page(tmp_path), *options, "--device", "cpu", "--out", out
    ).sentence


def test_an_output_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    write(tmp_path / "full" / "mine.txt", "precious")
    assert out_fault(tmp_path, tmp_path / "full") == (
        f"{tmp_path}/full: exists and is not empty, and nothing is overwritten. Choose another "
        "`--out`."
    )
    (tmp_path / "full" / "checkpoint").mkdir()
    assert f"or go on with it: `invertkit resume {tmp_path}/full`." in out_fault(
        tmp_path, tmp_path / "full"
    )
    assert (tmp_path / "full" / "mine.txt").read_text() == "precious"


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    write(tmp_path / "file", "")
    assert out_fault(tmp_path, tmp_path / "file") == (
        f"{tmp_path}/file: is a file; `--out` names a folder to make."
    )


@pytest.mark.parametrize("place", ["file/below", "x" * 300, "/proc/invertkit"])
def test_an_output_folder_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    write(tmp_path / "file", "")
    said = out_fault(tmp_path, tmp_path / place)
    assert said.startswith(f"{tmp_path / place}: cannot be written (")
    assert said.endswith("Choose another `--out`.")


def test_an_empty_output_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = invertkit(
        "run", write_page(tmp_path), *write_inputs(tmp_path), "--device", "cpu", "-q", "--out",
        tmp_path / "empty",
    )  # fmt: skip
    assert answer.code == 0
    assert answer.out == f"{tmp_path}/empty/result.png\n"


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_cuda_asked_for_and_absent(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refuse("--device", device) == (
        f"device: '{device}' was asked for, but this machine has no CUDA device that PyTorch can "
        "use. Use `--device cpu`, or install a CUDA build of PyTorch."
    )


def test_one_cuda_device_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto").type == "cuda"
    assert pick_device("cuda:1").index == 1
    with pytest.raises(InputError, match="this machine has 2 CUDA devices that PyTorch can use"):
        pick_device("cuda:2")


@pytest.mark.parametrize("device", ["gpu", "mps", "meta", ""])
def test_a_device_that_means_nothing(refuse: Refuse, device: str) -> None:
    assert refuse("--device", device) == (
        f"device: expected auto, cpu, cuda or cuda:N, got {device!r}."
    )


# ---------------------------------------------------------------------- disks


def full_disk(*arguments: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_the_checkpoint_before_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, mask, target = scene_tensors()
    page, out, save = write_page(tmp_path), tmp_path / "out", torch.save

    def fill(report: Any) -> None:
        if report.step == 4:
            monkeypatch.setattr(torch, "save", full_disk)

    with pytest.raises(InputError) as fault:
        package.run(
            page, image=image, mask=mask, target=target, device="cpu", out=out,
            checkpoint_every=0, observers=[fill],
        )  # fmt: skip
    assert str(fault.value) == (
        f"{out}/checkpoint/state.pt: the checkpoint cannot be written ([Errno 28] No space left on "
        f"device). The one before is whole: make room, then `invertkit resume {out}`."
    )
    assert (load(out).now or {})["run"]["step"] == 3
    assert sorted(path.name for path in (out / "checkpoint").iterdir()) == ["begun.pt", "state.pt"]

    monkeypatch.setattr(torch, "save", save)
    whole = package.run(page, image=image, mask=mask, target=target, device="cpu")
    assert torch.equal(package.resume(out).images, whole.images)


def test_a_disk_that_fills_while_the_result_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = write_inputs(tmp_path)
    page, out = write_page(tmp_path), tmp_path / "out"
    write_text = Path.write_text

    def full(self: Path, *arguments: Any, **keywords: Any) -> int:
        if self.name == "report.html":
            full_disk()
        return write_text(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "write_text", full)
    answer = invertkit("run", page, *options, "--out", out, "--device", "cpu", "-q")
    assert answer.sentence == (
        f"{out}: cannot be written (No space left on device). Make room and run `invertkit resume "
        f"{out}`: the checkpoint there is whole."
    )
    monkeypatch.undo()
    assert invertkit("resume", out, "-q").code == 0
    assert (out / "report.html").is_file()


@pytest.mark.parametrize("name", ["begun.pt", "state.pt"])
def test_a_checkpoint_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    image, mask, target = scene_tensors()
    out = tmp_path / "out"
    package.run(write_page(tmp_path), image=image, mask=mask, target=target, device="cpu", out=out)
    file = out / "checkpoint" / name
    data = file.read_bytes()
    for damaged in (b"", b"text", data[: len(data) // 2]):
        file.write_bytes(damaged)
        said = invertkit("resume", out).sentence
        assert said.startswith(f"{out}: its checkpoint cannot be read (")
    file.unlink()
    assert "holds no checkpoint" in invertkit("resume", out).sentence


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    assert invertkit("resume", tmp_path / "none").sentence == (
        f"{tmp_path}/none: holds no checkpoint; expected the folder of a run that was begun with "
        "`invertkit run`, such as runs/magic-…"
    )


def test_a_checkpoint_of_another_format(tmp_path: Path) -> None:
    place = tmp_path / "checkpoint"
    place.mkdir()
    torch.save({"format": 9}, place / "begun.pt")
    torch.save({}, place / "state.pt")
    assert invertkit("resume", tmp_path).sentence == (
        f"{tmp_path}: its checkpoint has format 9, this version reads {FORMAT}."
    )


def test_a_checkpoint_folder_that_cannot_be_made(tmp_path: Path) -> None:
    from invertkit.runs.checkpoint import Saver
    from invertkit.runs.settings import Settings

    write(tmp_path / "checkpoint", "a file is in the way")
    with pytest.raises(InputError, match="checkpoint: cannot be made"):
        Saver(tmp_path, every=1).begin({}, [], Settings())
