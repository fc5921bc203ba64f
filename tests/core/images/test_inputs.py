from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

import invertkit as package
from invertkit.core.images.folder import file_of, files_in, versions_of
from invertkit.core.images.inputs import Inputs, joined, load_inputs
from invertkit.core.images.kinds import LabelsKind, words_in
from invertkit.core.images.save import to_picture
from invertkit.core.images.specs import InputSpec
from invertkit.errors import InputError, RecipeError, ShapeError
from invertkit.recipe.page import validate
from tests.helpers import uniform

SPECS = {
    "photo": InputSpec(),
    "region": InputSpec("mask", of="photo"),
    "layout": InputSpec("labels", of="photo", optional=True),
    "style": InputSpec(optional=True),
    "references": InputSpec("images", optional=True),
    "parts": InputSpec("masks", of="photo", optional=True),
    "classes": InputSpec("words", optional=True),
    "measured": InputSpec("tensor", optional=True),
    "start": InputSpec("latent", optional=True),
}


def picture(*size: int, seed: int = 0) -> torch.Tensor:
    return uniform(3, *size, seed=seed, dtype=torch.float32)


def everything(folder: Path) -> dict[str, Any]:
    """One input of every kind, from whatever may hold it."""
    region = np.zeros((20, 32), dtype=np.uint8)
    region[4:12, 4:12] = 255
    indexed = Image.fromarray(region // 85).convert("P")
    indexed.save(folder / "layout.png")
    np.save(folder / "measured.npy", np.arange(6.0).reshape(2, 3))
    save_file({"latent": torch.ones(1, 5), "embedding": torch.ones(1, 4)}, folder / "s.safetensors")
    return {
        "photo": picture(20, 32),
        "region": region,
        "layout": folder / "layout.png",
        "style": picture(24, 16, seed=1),
        "references": [picture(16, 16), picture(20, 24)],
        "parts": [region, 255 - region],
        "classes": "tabby cat, lion",
        "measured": folder / "measured.npy",
        "start": str(folder / "s.safetensors"),
    }


def test_every_kind_is_read_brought_to_a_size_and_saved_bit_for_bit(tmp_path: Path) -> None:
    inputs = load_inputs(everything(tmp_path), SPECS, name="one")
    assert list(inputs) == list(SPECS)
    small = inputs.at(inputs.size(16, "keep"), "keep")
    shapes = dict(small.shapes((13, 20), "keep"))
    assert inputs.lead == "photo"
    assert small.need("photo").shape == (1, 3, 13, 20)
    assert small.need("region").shape == small.need("layout").shape == (1, 1, 13, 20)
    assert small.need("style").shape == (1, 3, 20, 13), "a shape of its own, as many pixels"
    assert [tuple(image.shape) for image in small["references"]] == [(1, 3, 16, 16), (1, 3, 15, 18)]
    assert [tuple(mask.shape) for mask in small["parts"]] == [(1, 1, 13, 20)] * 2
    assert words_in(small["classes"]) == ["tabby cat", "lion"]
    assert small.need("measured").shape == (1, 2, 3)
    assert small.need("start").shape == (1, 5)
    assert inputs.shapes((13, 20), "keep") == tuple(shapes.items())
    again = Inputs.load(inputs.save())
    assert (again.specs, again.name, list(again)) == (inputs.specs, "one", list(inputs))
    for name, value in inputs.items():
        for mine, theirs in zip(value, again[name], strict=True):
            assert torch.equal(mine, theirs)
    labels = [label for label, _ in inputs.shown()]
    assert labels == ["source", "region", "layout", "style"] + ["references"] * 2 + ["parts"] * 2


@given(
    classes=st.sets(st.integers(0, 200), min_size=1, max_size=5),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_labels_are_never_blended(classes: set[int], size: tuple[int, int]) -> None:
    values = torch.tensor(sorted(classes)).repeat(221)[:221].reshape(1, 1, 13, 17)
    fitted = LabelsKind().fit(values, size, "stretch")
    assert fitted.shape == (1, 1, *size)  # type: ignore[union-attr]
    assert set(fitted.unique().tolist()) <= classes  # type: ignore[union-attr]
    assert torch.equal(LabelsKind().fit(values, (13, 17), "stretch"), values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"phto": 1}, InputError, "phto: recipe 'mine' has no such input. Did you mean 'photo'"),
        ({"layout": np.zeros((20, 31), int)}, InputError, "layout: is 31×20 pixels, the photo is"),
        ({"layout": np.zeros((20, 32))}, ShapeError, "layout: expected whole numbers"),
        ({"layout": picture(20, 32)}, ShapeError, "layout: expected whole numbers"),
        ({"layout": -np.ones((20, 32), int)}, InputError, "layout: expected classes from 0"),
        ({"measured": [[float("nan")]]}, InputError, "measured: has numbers that are NaN"),
        ({"measured": "a.png"}, InputError, "measured a.png: expected a file ending in .npy or"),
        ({"measured": "no.npy"}, InputError, "measured no.npy: no such file"),
        ({"measured": object()}, ShapeError, "measured: expected numbers"),
        ({"references": []}, InputError, "references: expected at least one image"),
        ({"classes": "tabby,,lion"}, InputError, "classes: expected names with commas between"),
        ({"classes": 1.5}, InputError, "classes: expected names with commas between"),
        ({"parts": [np.eye(30) > 0]}, InputError, "parts: is 30×30 pixels, the photo is 32×20"),
        ({"references": "nowhere"}, InputError, "references nowhere: no such folder"),
    ],
)
def test_what_cannot_be_used_is_told_by_name(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_inputs({**everything(tmp_path), **change}, SPECS, recipe="mine")


@pytest.mark.parametrize(
    "pictures", [picture(16, 16), iter([picture(16, 16)]), {"a": picture(16, 16)}, b"pictures", 3]
)
def test_several_images_are_no_single_one(pictures: Any) -> None:
    with pytest.raises(InputError, match="references: expected a folder, a list of pictures, or"):
        load_inputs({"photo": picture(20, 32), "references": pictures}, {
            "photo": InputSpec(), "references": InputSpec("images"),
        })  # fmt: skip


def test_what_may_be_left_out_is_left_out() -> None:
    page = {
        "inputs": {"image": {"kind": "image", "optional": True}},
        "variable": {"type": "pixels"},
        "objective": {"size": {"type": "norm"}},
        "optimizer": {"type": "adam"},
        "stages": [{"size": 8, "steps": 1}],
    }
    assert not package.run(page, device="cpu").inputs
    assert list(package.run({**page, "demo": {"image": "flower"}}, device="cpu").inputs) == [
        "image"
    ]


def test_rows_of_several_photographs_stand_under_each_other() -> None:
    each = [
        load_inputs({"photo": picture(20, 32, seed=i), "references": [picture(16, 16)] * 2}, SPECS)
        for i in range(3)
    ]
    rows = joined(each)
    assert rows.need("photo").shape == (3, 3, 20, 32)
    assert [image.shape for image in rows["references"]] == [(3, 3, 16, 16)] * 2
    assert torch.equal(rows.need("photo")[1:2], each[1].need("photo"))


def test_files_of_a_folder_go_by_their_names(tmp_path: Path) -> None:
    for name in ("image.jpg", "goal_left.png", "goal_right.png", ".goal_up.png", "notes.txt"):
        (tmp_path / name).touch()
    files = files_in(tmp_path)
    assert [file.name for file in files] == ["goal_left.png", "goal_right.png", "image.jpg"]
    assert list(versions_of(files, "goal")) == ["left", "right"]
    assert list(versions_of(files, "image")) == [""]
    assert file_of(files, "mask") is None


PAGE: dict[str, Any] = {
    "name": "two",
    "inputs": {"photo": "image", "style": {"kind": "image", "optional": True}, "y": "tensor"},
    "fit": "keep",
    "variable": {"type": "pixels"},
    "objective": {"match": {"type": "pixel_distance"}},
    "optimizer": {"type": "adam"},
    "stages": [{"size": 16, "steps": 2}],
}


def test_a_run_takes_inputs_by_name_and_its_page_runs_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages, elsewhere = tmp_path / "pages", tmp_path / "elsewhere"
    pages.mkdir()
    elsewhere.mkdir()
    np.save(pages / "y.npy", np.ones(3))
    Image.fromarray((picture(24, 32).permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(
        pages / "a.png"
    )
    text = str({**PAGE, "demo": {"photo": "a.png", "y": "y.npy"}})
    (pages / "two.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(elsewhere)
    out = tmp_path / "out"
    first = package.run(pages / "two.yaml", device="cpu", out=out, progress=False)
    assert torch.equal(first.inputs.need("y"), torch.ones(1, 3))
    again = package.run(out / "recipe.yaml", device="cpu", progress=False)
    assert torch.equal(first.images, again.images)
    with pytest.raises(InputError, match=r"stile: no argument of a run and .*'style'"):
        package.run(PAGE, photo=picture(24, 32), y=[1.0], stile="b.png", device="cpu")
    with pytest.raises(RecipeError, match=r"needs y; give --input y=FILE"):
        package.run(PAGE, photo=picture(24, 32), device="cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": {"Photo": "image"}}, r"inputs.Photo: expected a name in small letters"),
        (
            {"inputs": {"m": {"kind": "mask", "of": "phot"}, "photo": "image"}},
            "Did you mean 'photo'",
        ),
        ({"inputs": {"photo": {"kind": "image", "of": "photo"}}}, "only masks and labels lie on"),
        ({"demo": {"phto": "flower"}}, "demo.phto: there is no input 'phto'. Did you mean 'photo'"),
        (
            {"objective": {"a": {"type": "norm", "of": "y"}}},
            "objective.a.of: there is no image",
        ),
        (
            {"objective": {"a": {"type": "norm", "region": {"result": "y"}}}},
            r"objective.a.region.result: there is no mask 'y'",
        ),
    ],
)
def test_a_page_that_names_what_is_not_there_is_told_where(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        validate({**PAGE, **change})


def test_several_files_are_named_with_commas_and_one_alone(tmp_path: Path) -> None:
    specs = {"photo": InputSpec(), "references": InputSpec("images")}
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for seed, path in enumerate(paths):
        to_picture(picture(16, 16, seed=seed)).save(path)
    photo = picture(20, 32)
    both = load_inputs({"photo": photo, "references": f"{paths[0]}, {paths[1]}"}, specs)
    assert len(both["references"]) == 2
    one = load_inputs({"photo": photo, "references": str(paths[1])}, specs)
    assert torch.equal(one["references"][0], both["references"][1])
    assert words_in(load_inputs({"n": [0, "7"]}, {"n": InputSpec("words")})["n"]) == ["0", "7"]
