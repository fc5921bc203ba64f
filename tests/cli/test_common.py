"""How the commands speak, and what they take for an input."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from invertkit.cli.common import plain_warnings
from invertkit.errors import InvertkitWarning
from tests.faces import Answer, invertkit, scene_tensors, write_inputs, write_page


def run(folder: Path, mask: Path) -> Answer:
    """One step of the tiny page with another mask; warnings are shown, as to a user."""
    options = [str(mask) if each.endswith("mask.png") else each for each in write_inputs(folder)]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        return invertkit(
            "run", write_page(folder), *options, "--device", "cpu", "-q", "--out", folder / "out",
            "--set", "stages=[{size: 16, steps: 1}]",
        )  # fmt: skip


def test_a_warning_is_a_sentence_without_a_place_in_the_code(tmp_path: Path) -> None:
    values = 255 - scene_tensors()[1][0, 0].numpy().astype(np.uint8) * 255
    Image.fromarray(values).save(tmp_path / "inverted.png")
    with pytest.warns(InvertkitWarning, match=r"mask .*/inverted\.png: covers .* likely inverted"):
        assert run(tmp_path, tmp_path / "inverted.png").code == 0
    usual = warnings.formatwarning
    with plain_warnings():
        assert warnings.formatwarning("A mask.", InvertkitWarning, "a.py", 3) == "A mask.\n"
        assert warnings.formatwarning("x", UserWarning, "a.py", 3) == usual(
            "x", UserWarning, "a.py", 3
        )
    assert warnings.formatwarning is usual


def test_a_mask_may_be_a_class_of_a_file(tmp_path: Path) -> None:
    labels = scene_tensors()[1][0, 0].numpy().astype(np.uint8) * 2
    labels[0] = 1
    Image.fromarray(labels).save(tmp_path / "labels.png")
    assert run(tmp_path, Path(f"{tmp_path}/labels.png#2")).code == 0
    assert "labels.png#2" in run(tmp_path, tmp_path / "labels.png").sentence
