"""Pictures and masks that cannot be used: one sentence that says what is wrong, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import invertkit as package
from invertkit.core.images.load import load_image
from invertkit.core.images.masks import load_mask
from invertkit.errors import InputError
from tests.faces import invertkit, picture, scene_tensors, write_inputs, write_page
from tests.faults import Refuse, write

pytestmark = pytest.mark.usefixtures("offline")


def test_a_missing_image(refuse: Refuse, tmp_path: Path) -> None:
    assert refuse(image=tmp_path / "no.png") == f"image {tmp_path}/no.png: no such file."


def test_a_file_that_is_no_picture(refuse: Refuse, tmp_path: Path) -> None:
    said = refuse(image=write(tmp_path / "x.png", "I am a text"))
    assert said.startswith(f"image {tmp_path}/x.png: cannot be read as a picture (")


def test_an_empty_file_as_image(refuse: Refuse, tmp_path: Path) -> None:
    assert "cannot be read as a picture" in refuse(image=write(tmp_path / "x.png", b""))


def test_a_truncated_image(refuse: Refuse, tmp_path: Path) -> None:
    picture(scene_tensors()[0]).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    said = refuse(image=write(tmp_path / "half.png", data[: len(data) // 2]))
    assert said.startswith(f"image {tmp_path}/half.png: cannot be read as a picture (")


def test_a_folder_as_image(refuse: Refuse, tmp_path: Path) -> None:
    said = refuse(image=tmp_path)
    assert said == f"image {tmp_path}: is a folder; expected a picture."


def test_an_image_of_one_pixel(refuse: Refuse, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "one.png")
    assert refuse(image=tmp_path / "one.png") == (
        f"image {tmp_path}/one.png: is 1×1 pixels; a photograph needs at least 16×16. "
        "Give a larger one."
    )


@pytest.mark.parametrize("name", ["mask", "target"])
@pytest.mark.parametrize("size", [(12, 16), (30, 32)])
def test_a_mask_of_another_size_or_aspect(
    refuse: Refuse, tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    picture(scene_tensors(size)[1]).save(tmp_path / "other.png")
    assert refuse(**{name: tmp_path / "other.png"}) == (
        f"{name}: is {size[1]}×{size[0]} pixels, the image is 32×24. A mask covers its image "
        "pixel by pixel; resize it to 32×24."
    )


def test_source_and_target_of_different_sizes() -> None:
    image, mask, _ = scene_tensors()
    with pytest.raises(InputError, match="target: is 20×16 pixels, the image is 32×24"):
        package.run(
            "magic", image=image, mask=mask, target=scene_tensors((16, 20))[2], device="cpu"
        )


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (0.0, "is empty: no pixel is white."),
        (1.0, "is full: every pixel is white, so nothing is left for the background."),
        (0.5, "is not binary: 100% of its pixels are grey."),
    ],
)
@pytest.mark.parametrize("name", ["mask", "target"])
def test_an_empty_full_or_grey_mask(
    refuse: Refuse, tmp_path: Path, name: str, value: float, sentence: str
) -> None:
    picture(torch.full((1, 1, 24, 32), value)).save(tmp_path / "flat.png")
    said = refuse(**{name: tmp_path / "flat.png"})
    assert said.startswith(f"{name} {tmp_path}/flat.png: {sentence}")
    assert "A mask is white on the object and black elsewhere" in said


def test_a_photograph_as_mask(refuse: Refuse, tmp_path: Path) -> None:
    picture(scene_tensors()[0]).save(tmp_path / "photograph.png")
    assert "is not binary" in refuse(mask=tmp_path / "photograph.png")


@pytest.mark.parametrize(
    ("name", "lacking"), [("image", "image"), ("mask", "mask"), ("target", "target")]
)
def test_an_input_that_is_not_given(tmp_path: Path, name: str, lacking: str) -> None:
    options = write_inputs(tmp_path)
    at = options.index(f"--{name}")
    del options[at : at + 2]
    answer = invertkit(
        "run", write_page(tmp_path), *options, "--out", tmp_path / "out", "--device", "cpu"
    )
    assert answer.sentence == (
        f"Recipe 'tiny' needs {lacking}; give --{lacking} FILE (from Python: {lacking}=…)."
    )
    assert not (tmp_path / "out").exists()


def nan(values: Tensor) -> Tensor:
    values = values.clone()
    values[0, 0, 2, 3] = torch.nan
    return values


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (nan, "image: has 1 value that are NaN or infinite; expected floats in [0, 1]."),
        (lambda x: x * 255, "image: expected floats in [0, 1], got values from 0"),
        (lambda x: x - 1, "Divide by 255, or undo a normalisation, first."),
        (lambda x: x[0, 0, 0], "image: expected shape (3, h, w), (1, 3, h, w) or (h, w), got (32,"),
        (lambda x: x.expand(2, -1, -1, -1), "got (2, 3, 24, 32)."),
        (lambda x: (x * 255).to(torch.int32), "or booleans, got torch.int32."),
        (lambda x: x.numpy() * 255, "image: expected floats in [0, 1], got values"),
        (lambda x: x[..., :8], "image: is 8×24 pixels; a photograph needs at least 16×16."),
        (lambda x: [[0, 1]], "image: expected a path, a PIL image, an array or a tensor, got list"),
    ],
)
def test_values_from_python_that_cannot_be_an_image(
    spoil: Callable[[Tensor], Any], message: str
) -> None:
    image, mask, target = scene_tensors()
    with pytest.raises(InputError) as fault:
        package.run("magic", image=spoil(image), mask=mask, target=target, device="cpu")
    assert message in str(fault.value)
    assert "\n" not in str(fault.value)


def test_several_values_that_are_not_numbers_are_counted() -> None:
    image = scene_tensors()[0]
    image[0, 0, 0, :2] = torch.inf
    with pytest.raises(InputError, match="has 2 values that are NaN or infinite"):
        load_image(image)
    with pytest.raises(InputError, match="mask: has 2 values"):
        load_mask(image)


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "I", "P", "RGBA", "LA", "L", "1", "F"])
def test_images_of_every_mode_are_handled(tmp_path: Path, mode: str) -> None:
    write_inputs(tmp_path)
    photograph = picture(scene_tensors()[0])
    if mode == "I;16":
        photograph = Image.fromarray(np.asarray(photograph.convert("L")).astype(np.uint16) * 257)
    else:
        photograph = photograph.convert(mode)
    if mode == "F":
        photograph = Image.fromarray(np.asarray(photograph) / 255)
    photograph.save(tmp_path / "photograph.tiff")
    answer = invertkit(
        "run", write_page(tmp_path), "--image", tmp_path / "photograph.tiff", "--mask",
        tmp_path / "mask.png", "--target", tmp_path / "target.png", "--device", "cpu", "-q",
        "--set", "stages=[{size: 16, steps: 1}]", "--out", tmp_path / "out",
    )  # fmt: skip
    assert answer.code == 0, answer


def test_the_demonstration_needs_the_package_that_carries_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import invertkit.core.images.demo as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="comes with scikit-learn; install it"):
        module.demo_inputs()
