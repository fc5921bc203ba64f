from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

import invertkit as package
from invertkit.errors import InputError
from invertkit.runs.settings import OBJECTS, Settings
from invertkit.variables.pixels import Pixels
from tests.faces import tiny_page, write_page
from tests.helpers import through_a_file, tiny_classifier


@pytest.mark.parametrize("name", ["run", "run_each", "prepare", "ablate"])
def test_whoever_takes_settings_shows_and_describes_all_of_them(name: str) -> None:
    function = getattr(package, name)
    shown = inspect.signature(function).parameters
    described = function.__doc__.split("\nSettings:\n")[1]
    for each in fields(Settings):
        assert each.name in shown
        assert f"    {each.name}: " in described
    assert list(shown)[-1] == "given"


@pytest.mark.parametrize("function", [package.resume, package.resume_each])
def test_whoever_goes_on_takes_the_objects_alone(function: Any) -> None:
    shown = inspect.signature(function).parameters
    assert set(OBJECTS) == {each.name for each in fields(Settings)} & set(shown)
    assert "seed:" not in function.__doc__.split("\nSettings:\n")[1]


def test_what_no_file_can_hold_is_left_out_of_what_is_saved() -> None:
    settings = Settings(
        seed=3, seeds=2, batch=4, budget="full", choices={"mode": "location"},
        overrides={"result": "best"}, models={"classifier": tiny_classifier()},
        variable=Pixels(), compile="off", precision="bf16",
    )  # fmt: skip
    saved = through_a_file(settings.save())
    assert saved.keys() == {each.name for each in fields(Settings)} - set(OBJECTS)
    again = Settings.load(saved)
    assert again == Settings.load(settings.save())
    assert again.image_seeds == (3, 4)
    assert again.options == {"mode": "location", "budget": "full"}
    assert again.models == {}
    assert again.variable is None


def test_settings_are_shown_on_one_line() -> None:
    net = torch.nn.Sequential(torch.nn.Identity())
    shown = repr(Settings(seeds=2, models={"classifier": net}, variable=Pixels()))
    assert shown == "Settings(seeds=2, models=['classifier'], variable='Pixels')"
    assert repr(Settings()) == "Settings()"


@pytest.mark.parametrize("name", ["seed", "out", "models"])
def test_an_input_is_not_called_like_an_argument_of_every_run(name: str) -> None:
    page = tiny_page(inputs={"image": "image", name: {"kind": "image", "optional": True}})
    with pytest.raises(package.RecipeError, match=f"inputs.{name}: is an argument of every run"):
        package.run(page, device="cpu")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"seeds": 0}, "seeds: expected at least 1 image, got 0"),
        ({"batch": 0}, "batch: expected a number of images from 1, got 0"),
        ({"batch": "four"}, "batch: expected a number of images from 1, got 'four'"),
        ({"seeds": "2"}, "seeds: expected at least 1 image, got '2'"),
        ({"seeds": 1.5}, "seeds: expected at least 1 image, got 1.5"),
        ({"seed": None}, "seed: expected a whole number, got None"),
        ({"choices": "mode=location"}, "choices: expected a mapping by name"),
        ({"terms": [1]}, "terms: expected a mapping by name"),
        ({"terms": {1: 2}}, "terms: expected a mapping by name"),
        ({"overrides": "a=1"}, r"overrides: expected a list, such as \['a=1'\]"),
        ({"parts": "mine.py"}, r"parts: expected a list, such as \['mine.py'\]"),
        ({"observers": print}, "observers: expected a list of functions"),
        ({"observers": [None]}, "observers: expected a list of functions"),
        ({"photographs": "edits"}, "photographs: many are for `invertkit.run_each`"),
        ({"compile": "grpah"}, "Did you mean 'graph'"),
        ({"precision": "float16"}, "precision: expected float32, tf32, bf16"),
        ({"device": "abacus"}, "device: expected auto, cpu, cuda"),
        ({"sedes": 2}, "sedes: no argument of a run and no input .* Did you mean 'seeds'"),
        ({"imag": "a.jpg"}, "Did you mean 'image'"),
    ],
)
def test_a_wrong_setting_is_told_in_one_sentence(
    tmp_path: Path, changed: dict[str, object], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        package.run(write_page(tmp_path), **{"device": "cpu", **changed})
