"""A run step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import invertkit as package
from invertkit import InputError
from invertkit.engine.problem import Status
from tests.faces import scene_tensors, tiny_page
from tests.helpers import KITNET

IMAGE, MASK, TARGET = scene_tensors()
INPUTS = {"image": IMAGE, "mask": MASK, "target": TARGET}


def prepared(**given: Any) -> package.Inversion:
    return package.prepare(tiny_page(), **{**INPUTS, "device": "cpu", **given})


def test_step_by_step_the_picture_is_that_of_a_run() -> None:
    inversion = prepared(seeds=2)
    seen = [report.step for report in package.steps(inversion)]
    assert seen == [*range(1, 8), *range(1, 8)]
    whole = package.run(tiny_page(), **INPUTS, device="cpu", seeds=2)
    result = inversion.result()
    assert torch.equal(result.images, whole.images)
    assert torch.equal(result.best, whole.best)
    assert result.status is Status.FINISHED
    assert list(package.steps(inversion)) == []
    with pytest.raises(InputError, match="Every step was taken"):
        _ = inversion.run


def test_tensors_may_be_changed_before_the_first_step_and_between_steps() -> None:
    inversion = prepared()
    pixels = inversion.run.params["pixels"]
    assert pixels.shape == (1, 3, *inversion.run.problem.stages[0].size)
    with torch.no_grad():
        pixels.fill_(0.5)
    for report in package.steps(inversion):
        pixels = report.run.params["pixels"]
        if report.step == 1:
            assert (pixels - 0.5).abs().max() < 0.06, "one step of the optimizer from there"
        with torch.no_grad():
            pixels[:, :, :4] = 0.25
    last = inversion.result().last
    assert torch.equal(last[:, :, :4], torch.full_like(last[:, :, :4], 0.25))


def test_a_loop_may_be_left_and_entered_again() -> None:
    inversion = prepared()
    for report in package.steps(inversion):
        if report.step == 3:
            break
    part = inversion.result()
    assert part.status is Status.RUNNING
    assert part.steps == 3
    assert part.images.shape[-2:] == (14, 18)
    for report in package.steps(inversion):
        if report.step == 7:
            break
    assert inversion.result().status is Status.FINISHED
    assert torch.equal(
        inversion.result().images, package.run(tiny_page(), **INPUTS, device="cpu").images
    )


def test_two_loops_may_take_the_steps_in_turn(tmp_path: Path) -> None:
    inversion = prepared(seeds=2, out=tmp_path / "out")
    loops = [package.steps(inversion), package.steps(inversion)]
    seen = [next(loops[number % 2]).step for number in range(14)]
    assert seen == [*range(1, 8), *range(1, 8)]
    assert [next(loop, None) for loop in loops] == [None, None]
    with pytest.raises(InputError, match="Every step was taken"):
        _ = inversion.run
    whole = package.run(tiny_page(), **INPUTS, device="cpu", seeds=2)
    assert torch.equal(inversion.result().images, whole.images)
    assert torch.equal(package.resume(tmp_path / "out").images, whole.images)


@pytest.mark.parametrize("name", ["observers", "progress"])
def test_what_only_a_run_takes_is_told(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: is an argument of `run`"):
        prepared(**{name: ()})


def test_steps_are_those_of_an_inversion() -> None:
    with pytest.raises(InputError, match=r"expected what `invertkit\.prepare` gives, got str"):
        package.steps("magic")  # type: ignore[arg-type]


def test_with_a_folder_it_is_written_and_can_be_resumed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    inversion = prepared(out=out)
    for report in package.steps(inversion):
        if report.step == 4:
            break
    inversion.result()
    assert (out / "result.png").is_file()
    whole = package.run(tiny_page(), **INPUTS, device="cpu")
    assert torch.equal(package.resume(out).images, whole.images)


def test_there_is_no_result_before_the_first_step() -> None:
    with pytest.raises(InputError, match="no picture before the first step"):
        prepared().result()


def test_a_recipe_that_cannot_be_run_leaves_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(package.RecipeError, match="no layer 'layer9'"):
        package.prepare(
            tiny_page(
                models={"classifier": str(KITNET)},
                objective={"dream": {"type": "activation", "layer": "layer9"}},
            ),
            **INPUTS, device="cpu", out=out,
        )  # fmt: skip
    assert not out.exists()


def test_everything_is_shown_on_one_line(tmp_path: Path) -> None:
    inversion = prepared(seeds=2)
    shown = [repr(inversion), repr(inversion.job), repr(inversion.run)]
    for report in package.steps(inversion):
        shown += [repr(report), repr(report.run.problem), repr(report.run.problem.terms[0])]
        break
    shown += [repr(inversion), repr(inversion.run), repr(inversion.results())]
    shown += [repr(inversion.result().inputs)]
    for line in shown:
        assert "\n" not in line
        assert len(line) < 140, line
    assert shown[0] == "<Inversion of 'tiny': 2 images on cpu: 0 of 2 batches done>"
    assert shown[1] == "<Job of 'tiny': 2 images on cpu>"
    assert shown[3].startswith("<StepReport of step 1/7, 18×14, loss ")
    assert shown[4].startswith("<Problem: Pixels by Adam, terms match, smooth; 7 steps of 1 image")
    assert shown[5] == "<Term 'match': PixelDistance, weight 2.0>"
    assert shown[6].endswith("0 of 2 batches done, step 1 of 7>")
    assert shown[8] == "<1 result>"
    height, width = IMAGE.shape[-2:]
    masks = f"mask 1×1×{height}×{width}, target 1×1×{height}×{width}"
    assert shown[9] == f"<Inputs image 1×3×{height}×{width}, {masks}>"


# ---------------------------------------------------------------------- what is read, and how often


@pytest.mark.parametrize("way", ["run", "each", "check"])
def test_every_weights_file_is_read_and_summed_once(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    from invertkit.models.loading import safetensors_file
    from tests.faces import invertkit, write_inputs, write_page

    read: list[str] = []
    summed: list[str] = []
    load_file, digest = safetensors_file.load_file, hashlib.file_digest
    monkeypatch.setattr(
        safetensors_file, "load_file", lambda path: read.append(Path(path).name) or load_file(path)
    )
    monkeypatch.setattr(
        hashlib, "file_digest",
        lambda file, kind: summed.append(Path(file.name).name) or digest(file, kind),
    )  # fmt: skip
    page = write_page(
        tmp_path, models={"classifier": str(KITNET)},
        objective={"class": {"type": "cross_entropy", "target": 1}},
        stages=[{"size": 16, "steps": 1}],
    )  # fmt: skip
    options = [*write_inputs(tmp_path), "--out", tmp_path / "out", "--seeds", "3"]
    if way == "each":
        for name in ("a", "b"):
            (tmp_path / "many" / name).mkdir(parents=True)
            write_inputs(tmp_path / "many" / name)
        options = ["--each", tmp_path / "many", *options[-4:]]
    if way == "check":
        options = []
    answer = invertkit("check" if way == "check" else "run", page, "--device", "cpu", *options)
    assert answer.code == 0, answer.err
    assert read == summed == ["kitnet.safetensors"]
