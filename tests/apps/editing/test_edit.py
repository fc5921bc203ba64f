from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import invertkit as package
from invertkit.models.generators.conditional import ConditionalGenerator
from tests.faces import Answer, invertkit, write_inputs, write_page
from tests.latents import generator64

CLASSES = ("ant", "bee", "cat")
RUN: dict[str, Any] = {
    "inputs": ["image", "mask"],
    "fit": "crop",
    "variable": {
        "type": "transformed",
        "inner": {"type": "latent", "embedding": "given", "label": "ant"},
    },
    "objective": {"match": {"type": "pixel_distance", "region": "object"}},
    "optimizer": {"type": "adam", "lr": 0.05, "over": ["latent"]},
    "stages": [{"size": 8, "steps": 3}],
    "result": "best",
}
FEW = ("--steps", 4, "--device", "cpu")


def write_generator(path: Path, *, seed: int = 0) -> Path:
    """Untrained weights of 8×8 pictures, in the form that a training leaves."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ConditionalGenerator(3, latent=20, embedding=4, widths=(8, 8))
    state = {
        f"generator.{name}": value
        for name, value in net.state_dict().items()
        if "num_batches_tracked" not in name
    }
    facts = {
        "architecture": "conditional-gan", "size": 8, "latent": 20, "embedding": 4,
        "widths": (8, 8), "classes": CLASSES, "statistics": ((0.5, 0.5), (0.7, 0.7)), "eyes": {},
    }  # fmt: skip
    save_file(state, path, metadata={key: json.dumps(value) for key, value in facts.items()})
    return path


def project(folder: Path, *more: object, **changes: Any) -> Path:
    """The folder of a finished projection of three steps."""
    weights = write_generator(folder / "generator.safetensors")
    models = {"generator": {"type": "embedded_generator", "weights": str(weights)}}
    page = write_page(folder, **{"models": models, **RUN, **changes})
    out = folder / "run"
    answer = invertkit(
        "run", page, *write_inputs(folder, names=("image", "mask")), "--out", out, "--device",
        "cpu", "-q", *more,
    )  # fmt: skip
    assert answer.code == 0, answer
    return out


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("done"), "--seeds", 2)


def edit(run: Path, *arguments: object) -> Answer:
    return invertkit("edit", run, *FEW, *arguments)


def pixels(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(path).convert("RGB"))


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------------- what it leaves


def test_an_edit_leaves_a_sheet_a_picture_and_what_was_done(done: Path) -> None:
    answer = edit(
        done, "--class", "bee", "--component", "2", "--component", "0:-1.5", "--shift", "0.1,-0.05",
        "--zoom", "1.2", "--region", "box",
    )  # fmt: skip
    out = done / "edits" / "class=bee_component=2,3_component=0,-1.5_shift=0.1,-0.05_zoom=1.2_box"
    assert answer.code == 0, answer
    assert answer.out == f"{out}/sheet.png\n"
    assert names(out) == ["edit.json", "edited.png", "sheet.png"]
    facts = json.loads((out / "edit.json").read_text())
    assert facts["change"] == {
        "label": "bee", "components": {"2": 3.0, "0": -1.5}, "shift": [0.1, -0.05], "zoom": 1.2,
    }  # fmt: skip
    told = ["component 2", "component 0", "shift_x", "shift_y", "zoom", "refined"]
    assert [*facts["directions"]] == told
    assert facts["directions"]["refined"]["steps"] == 60
    assert 0 <= facts["directions"]["refined"]["left"][0] < 1
    assert facts["size"] == [24, 24]
    assert names(done / "directions") == [
        f"{name}.safetensors" for name in ("components", "shift_x", "shift_y", "zoom")
    ]


def test_only_the_mask_changes(done: Path, tmp_path: Path) -> None:
    assert edit(done, "--class", "cat", "--out", tmp_path / "out", "-q").err == ""
    edited = pixels(tmp_path / "out" / "edited.png")
    crop = (slice(None), slice(4, 28))
    photograph, mask = (pixels(done.parent / f"{name}.png")[crop] for name in ("image", "mask"))
    outside = mask == 0
    assert np.array_equal(edited[outside], photograph[outside])
    assert not np.array_equal(edited[~outside], photograph[~outside])


def test_a_sweep_is_animated(done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert edit(done, "--class", "2", "--sweep", "-0.5:1:4", "--out", out).code == 0
    assert names(out)[0] == "animation.gif"
    assert names(out / "frames") == [
        "00_-0.500.png", "01_+0.000.png", "02_+0.500.png", "03_+1.000.png",
    ]  # fmt: skip
    with Image.open(out / "animation.gif") as animation:
        assert animation.n_frames == 6  # there and back again
        assert animation.width == 24
        assert animation.height > 24  # the label, broken into lines
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width == 5 * 256 + 4 * 4
        assert sheet.height > 2 * 256
    assert (out / "edited.png").read_bytes() != (out / "frames/00_-0.500.png").read_bytes()
    assert np.array_equal(pixels(out / "edited.png"), pixels(out / "frames/03_+1.000.png"))
    assert json.loads((out / "edit.json").read_text())["strengths"] == [-0.5, 0, 0.5, 1]


def test_folders_are_named_after_what_is_done(done: Path) -> None:
    assert edit(
        done, "--class", "ant", "--strength", "0.5", "--seed", "1", "--mixed", "-q"
    ).out == (f"{done}/edits/seed=1_class=ant_strength=0.5_mixed/sheet.png\n")
    assert edit(done, "--component", "1", "--sweep", "-1:1:2", "-q").out == (
        f"{done}/edits/component=1,3_sweep=-1,1,2/sheet.png\n"
    )
    assert edit(done, "-q").out == f"{done}/edits/blend/sheet.png\n"


def test_a_long_sweep_shows_its_ends_on_the_sheet(done: Path) -> None:
    edited = package.edit(done, label="bee", strength=[i / 19 for i in range(20)], device="cpu")
    assert edited.sheet().width == 10 * 256 + 9 * 4


def test_a_second_edit_reuses_directions_and_overwrites_nothing(done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = edit(done, "--zoom", "0.8", "--out", out, "--steps", "5")
    assert "zoom: working out the direction" in first.err
    assert "zoom: the learned direction leaves" in first.err
    before = names(out)
    assert edit(done, "--zoom", "0.8", "--out", out, "--steps", "5").sentence == (
        f"{out}: exists and is not empty, and nothing is overwritten. Choose another folder with "
        "`--out`."
    )
    assert names(out) == before
    kept = done / "directions" / "zoom.safetensors"
    time = kept.stat().st_mtime_ns
    again = edit(done, "--zoom", "0.8", "--out", tmp_path / "again", "--steps", "5")
    assert "working out" not in again.err
    assert kept.stat().st_mtime_ns == time
    assert (tmp_path / "again/edited.png").read_bytes() == (out / "edited.png").read_bytes()
    kept.write_bytes(b"nonsense")
    said = edit(done, "--zoom", "0.8", "--out", tmp_path / "third", "--steps", "5").err
    assert "is damaged, and made again" in said
    assert (tmp_path / "third/edited.png").read_bytes() == (out / "edited.png").read_bytes()
    far = edit(done, "--zoom", "3", "--out", tmp_path / "far", "--steps", "5").err
    assert "zoom: 1.1 is beyond ±0.4, as far as it was learned." in far


# ---------------------------------------------------------------------- from Python


def test_strength_zero_leaves_the_projection(done: Path) -> None:
    plain = package.edit(done, device="cpu")
    none = package.edit(
        done, label="bee", components={1: 2}, shift=(0.1, 0), strength=0, steps=2, device="cpu"
    )
    assert torch.equal(none.images, plain.images)
    assert torch.equal(none.generated[0], plain.projection)
    assert torch.equal(plain.generated[0], plain.projection)
    assert plain.sheet().width == 3 * 256 + 2 * 4


def test_edits_add_up(done: Path) -> None:
    def latent_of(**change: Any) -> torch.Tensor:
        return package.edit(done, steps=2, refine=2, device="cpu", **change).generated

    assert not torch.equal(latent_of(shift=(0.1, 0)), latent_of(shift=(0, 0.1)))
    assert not torch.equal(latent_of(shift=(0.1, 0.1)), latent_of(shift=(0.1, 0)))
    assert torch.equal(latent_of(zoom=1.0, components={0: 1}), latent_of(components={0: 1}))


def test_the_new_class_is_the_generator_s_picture_of_it(done: Path) -> None:
    from invertkit.models.generators.open import embedded_generator

    generator = embedded_generator(weights=done.parent / "generator.safetensors")
    edited = package.edit(done, seed=1, label="bee", device="cpu")
    latent = load_file(done / "tensors" / "seed-1.safetensors")["latent"]
    expected = generator.generate(latent=latent, embedding=generator.tables["embedding"][1:2])
    torch.testing.assert_close(edited.generated, expected)
    assert edited.facts["seed"] == 1


def test_the_best_seed_is_taken(done: Path) -> None:
    losses = json.loads((done / "metrics.json").read_text())["images"]
    best = min(losses, key=lambda entry: entry["best_loss"])["seed"]
    assert package.edit(done, device="cpu").facts["seed"] == best


def test_nothing_is_written_without_a_folder(done: Path) -> None:
    before = names(done)
    package.edit(done, label="cat", device="cpu")
    assert names(done) == before


@pytest.mark.parametrize("inner", [{"inner": RUN["variable"]}, {}], ids=["named", "left out"])
def test_tuned_weights_are_used(tmp_path: Path, inner: dict[str, Any]) -> None:
    stages = [
        {"size": 8, "steps": 2},
        {"size": 8, "steps": 2, "variable": {"type": "tuned", **inner},
         "optimizer": {"type": "adam", "lr": 0.1}},
    ]  # fmt: skip
    run = project(tmp_path, stages=stages)
    tensors = run / "tensors" / "seed-0.safetensors"
    found = load_file(tensors)
    first = package.edit(run, device="cpu")
    save_file({**found, "weights": found["weights"] + 0.1}, tensors)
    assert not torch.allclose(first.generated, package.edit(run, device="cpu").generated)


def test_a_run_without_a_transform_covers_the_photograph(tmp_path: Path) -> None:
    run = project(tmp_path, variable=RUN["variable"]["inner"], fit="keep")
    edited = package.edit(run, label="bee", device="cpu")
    assert edited.photograph.shape == (3, 24, 32)
    assert edited.facts["blended_pixels"] == edited.facts["mask_pixels"]
    assert package.edit(run, size=16, device="cpu").photograph.shape == (3, 14, 18)


def test_a_generator_from_python_is_given_again(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    page = write_page(tmp_path, **{**RUN, "models": None, "variable": {
        "type": "latent", "embedding": "given", "label": 1,
    }})  # fmt: skip
    run, models = tmp_path / "run", {"generator": generator64().float()}
    package.run(
        page, image=tmp_path / "image.png", mask=tmp_path / "mask.png", models=models, out=run,
        device="cpu",
    )  # fmt: skip
    assert package.edit(run, label=2, models=models, device="cpu").change.label == "2"
    with pytest.raises(package.InputError, match=r"given from Python; edit it from there"):
        package.edit(run, label=2, device="cpu")
    with pytest.raises(package.InputError, match=r"models\.generator: expected a generator"):
        package.edit(run, models={"generator": torch.nn.Identity()}, device="cpu")


# ---------------------------------------------------------------------- what cannot be done


def test_help_does_not_wait_for_torch() -> None:
    script = (
        "import sys, invertkit.cli as cli; sys.argv = ['invertkit', 'edit', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--class", "bea"], "Did you mean 'bee'?"),
        (["--class", "9"], "Unknown class '9' of"),
        (["--component", "16"], "component: expected 0 to 15, got 16."),
        (["--component", "-1"], "component: expected 0 to 15, got -1."),
        (["--component", "0.5"], "--component: expected a whole number, got 0.5."),
        (["--component", "x"], "--component: expected N or N:STEPS, such as 2 or 2:-1.5, got "),
        (["--shift", "1"], "--shift: expected RIGHT,DOWN, such as 0.1,0, got '1'."),
        (["--shift", "nan,0"], "--shift: expected RIGHT,DOWN, such as 0.1,0, got 'nan,0'."),
        (["--zoom", "0"], "zoom: expected a factor above 0, such as 1.2, got 0."),
        (["--strength", "2"], "strength: there is nothing to edit. Give a class, a component,"),
        (["--sweep", "0:1:3"], "strength: there is nothing to edit."),
        (["--class", "bee", "--sweep", "0:1"], "--sweep: expected FROM:TO:COUNT, such as 0:1:9"),
        (["--class", "bee", "--sweep", "0:1:1"], "--sweep: expected 2 to 99 strengths, got 1."),
        (["--class", "bee", "--sweep", "0:1:2", "--strength", "1"], "leave out --strength."),
        (["--class", "bee", "--strength", "inf"], "strength: expected a finite number"),
        (["--seed", "7"], "has no image of seed 7; it has: 0, 1."),
        (["--size", "8"], "size: expected at least 16 pixels, got 8."),
        (["--region", "disc"], "'disc' is not one of 'mask', 'box'."),
    ],
)
def test_wrong_options_are_told_and_leave_nothing(
    done: Path, tmp_path: Path, arguments: Sequence[str], sentence: str
) -> None:
    out = tmp_path / "out"
    assert sentence in edit(done, *arguments, "--out", out).sentence
    assert not out.exists()


def test_a_folder_that_is_no_projection_is_told(tmp_path: Path) -> None:
    assert edit(tmp_path / "none").sentence == (
        f"{tmp_path}/none: no such folder; expected that of a finished `invertkit run project`."
    )
    assert "holds no checkpoint" in edit(tmp_path).sentence
    inputs, out = write_inputs(tmp_path), tmp_path / "pixels"
    invertkit("run", write_page(tmp_path), *inputs, "--out", out, "--device", "cpu", "-q")
    assert "which projects nothing into a generator; expected one of `inv" in edit(out).sentence


def test_an_unfinished_run_is_told(tmp_path: Path) -> None:
    from invertkit.runs.observers import STOP

    weights = write_generator(tmp_path / "generator.safetensors")
    models = {"generator": {"type": "embedded_generator", "weights": str(weights)}}
    write_inputs(tmp_path)
    run = tmp_path / "run"
    package.run(
        write_page(tmp_path, **{**RUN, "models": models}), image=tmp_path / "image.png",
        mask=tmp_path / "mask.png", out=run, device="cpu", observers=[lambda report: STOP],
    )  # fmt: skip
    assert edit(run).sentence == f"{run}: is unfinished; first `invertkit resume {run}`."
    assert invertkit("resume", run, "-q").code == 0
    assert edit(run, "-q").code == 0


def test_a_run_whose_files_changed_is_told(tmp_path: Path) -> None:
    run = project(tmp_path)
    tensors = run / "tensors" / "seed-0.safetensors"
    found = load_file(tensors)
    save_file({**found, "latent": found["latent"][:, :3]}, tensors)
    assert "expected a tensor 'latent' of shape (1, 20)" in edit(run).sentence
    tensors.unlink()
    assert edit(run).sentence == f"{tensors}: no such file; the run's folder is not whole."
    save_file(found, tensors)
    write_generator(tmp_path / "generator.safetensors", seed=1)
    assert "to which its latents mean nothing. Project the photograph again." in edit(run).sentence
    (run / "recipe.yaml").unlink()
    assert edit(run, "-q").code == 0


def test_a_run_without_a_mask_is_told(tmp_path: Path) -> None:
    weights = write_generator(tmp_path / "generator.safetensors")
    models = {"generator": {"type": "embedded_generator", "weights": str(weights)}}
    write_inputs(tmp_path)
    page = write_page(tmp_path, **{
        **RUN, "models": models, "inputs": ["image"], "variable": RUN["variable"]["inner"],
        "objective": {"match": {"type": "pixel_distance"}},
    })  # fmt: skip
    package.run(page, image=tmp_path / "image.png", out=tmp_path / "run", device="cpu")
    assert edit(tmp_path / "run").sentence == (
        f"{tmp_path}/run: has no mask, so there is nowhere to blend."
    )


def test_numbers_that_are_none_are_told_from_python(done: Path) -> None:
    with pytest.raises(package.InputError, match="shift: expected two finite numbers"):
        package.edit(done, shift=(float("nan"), 0))
    with pytest.raises(package.InputError, match="component: expected a finite amount"):
        package.edit(done, components={0: float("inf")}, device="cpu")


def test_folders_that_cannot_be_written_are_told(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from invertkit.apps.editing import moves, pictures

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    assert "is a file" in edit(done, "--out", done / "metrics.json").sentence
    with monkeypatch.context() as patch:
        patch.setattr(moves, "save_file", fail)
        answer = edit(done, "--component", "0", "--steps", "9", "--zoom", "1.1", "--out",
                      tmp_path / "a")  # fmt: skip
        assert answer.code == 0
        assert "zoom.safetensors: cannot be written (No space left on device)" in answer.err
    monkeypatch.setattr(pictures, "save_animation", fail)
    answer = edit(done, "--class", "bee", "--sweep", "0:1:2", "--out", tmp_path / "b")
    assert "b: cannot be written (No space left on device)." in answer.sentence


def test_a_transform_that_leads_elsewhere_is_told(tmp_path: Path) -> None:
    run = project(tmp_path)
    tensors = run / "tensors" / "seed-0.safetensors"
    found = load_file(tensors)
    found["transform"] = torch.tensor([[0.2, 0.9, 0.9]])
    save_file(found, tensors)
    assert "does not reach the mask" in edit(run).sentence
    assert not any((run / "edits").iterdir())
    found["transform"] = torch.tensor([[0.4, -0.3, -0.3]])
    save_file(found, tensors)
    assert "of the mask; the rest keeps the photograph." in edit(run).err
