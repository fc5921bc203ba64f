"""Objectives, variables, optimizers, players and networks made in Python go straight into a run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

import invertkit as package
from invertkit import InputError, Objective, RecipeError, Term, View
from invertkit.core.regions import MaskRegion
from invertkit.core.schedules import Linear
from invertkit.objectives.priors import TotalVariation
from invertkit.optimizers.torch_optim import Adam
from invertkit.runs.checkpoint import load
from invertkit.runs.observers import STOP
from invertkit.variables.pixels import Pixels
from tests.faces import TINY, scene_tensors, tiny_page, write_page
from tests.helpers import tiny_classifier, tiny_segmenter

IMAGE, MASK, TARGET = scene_tensors()
INPUTS = {"image": IMAGE, "mask": MASK, "target": TARGET}


class Near(Objective):
    """Squared distance of the mean colour to a tensor that it holds."""

    def __init__(self, colour: Tensor) -> None:
        self.colour, self.calls = colour, 0

    def forward(self, view: View) -> Tensor:
        self.calls += 1
        return (view.image.mean((2, 3)) - self.colour).square().sum(1)


@dataclass(frozen=True)
class Slow(Adam):
    """Adam under a name of its own."""


COLOUR = torch.tensor([0.9, 0.1, 0.1])


def run(page: Any, **given: Any) -> package.Result:
    return package.run(page, **{**INPUTS, "device": "cpu", **given})


def stopping(step: int) -> Any:
    return lambda report: STOP if report.step == step else None


def test_a_term_from_python_counts_beside_the_recipe_s_own() -> None:
    mine = Near(COLOUR)
    page = tiny_page()
    result = run(page, terms={"mine": Term(mine, weight=50.0)})
    assert set(result.history) == {"match", "smooth", "mine", "total"}
    reached = result.history["mine"][0]
    assert reached[-1] < reached[0]
    assert mine.calls == 0, "the run works on a copy"
    assert page == tiny_page(), "and on a copy of the page"
    bare = run(tiny_page(), terms={"mine": mine})
    assert not torch.equal(bare.images, result.images)
    weights = {row["weights"]["mine"] for row in bare.rows[0]}
    assert weights == {1.0}


def test_a_term_keeps_its_place(tmp_path: Path) -> None:
    weight = Linear("linear", start=1.0, stop=3.0)
    term = Term(Near(COLOUR), weight=weight, region="object", start=2, stop=6, max_size=18)
    result = run(tiny_page(), terms={"mine": term}, out=tmp_path / "out")
    assert result.history["mine"][0].isnan().tolist() == [True, True, False] + [True] * 4
    page = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())
    assert page["objective"]["mine"] == {
        "type": "python:mine", "class": "Near",
        "weight": {"type": "linear", "start": 1.0, "stop": 3.0, "steps": None},
        "region": "object", "start": 2, "stop": 6, "max_size": 18,
    }  # fmt: skip


def test_a_term_may_look_at_masks_by_name(tmp_path: Path) -> None:
    place = tmp_path / "out"
    long, word = (
        run(tiny_page(), terms={"mine": Term(TotalVariation(), region=region)}, out=out)
        for region, out in (
            (MaskRegion(result="target", reference="mask"), place),
            ("object", None),
        )
    )
    assert torch.equal(long.images, word.images)
    page = yaml.safe_load((place / "recipe.yaml").read_text())
    assert page["objective"]["mine"]["region"] == {"result": "target", "reference": "mask"}


def test_objects_replace_the_recipe_s_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "invertkit")
    plain = run(tiny_page())
    objects = {
        "variable": Pixels(start="noise", noise=0.3),
        "optimizer": Slow(lr=0.05),
        "terms": {"smooth": Term(TotalVariation(), weight=Linear("linear", start=1.0, stop=2.0))},
    }
    caplog.clear()
    result = run(tiny_page(), **objects)
    assert torch.equal(result.images, plain.images)
    assert [line for line in caplog.messages if "from Python" in line] == [
        "objective.smooth: TotalVariation from Python instead of the recipe's total_variation.",
        "variable: Pixels from Python instead of the recipe's pixels.",
        "optimizer: Slow from Python instead of the recipe's adam.",
    ]


def test_a_recipe_may_be_made_of_objects_alone() -> None:
    page = {"inputs": ["image"], "stages": ({"size": 12, "steps": 3},)}
    result = run(
        page, mask=None, target=None, terms={"mine": Near(COLOUR)}, variable=Pixels(noise=0.1),
        optimizer=Adam(lr=0.1),
    )  # fmt: skip
    assert result.images.shape == (1, 3, 12, 12)
    assert result.recipe["name"] == "recipe"
    assert result.recipe["variable"] == {"type": "python:variable", "class": "Pixels"}


def test_a_player_from_python_teaches_no_image_what_another_has_shown_it() -> None:
    page = tiny_page(objective={**TINY["objective"], "control": {"type": "mask_bce"}})
    segmenter = tiny_segmenter()
    together = run(page, players={"segmenter": segmenter}, seeds=2)
    assert segmenter.net is None, "the run works on copies"
    alone = run(page, players={"segmenter": segmenter}, seed=1)
    assert torch.equal(alone.images[0], together.images[1])


def test_a_bare_module_is_a_model_beside_the_page_s(tmp_path: Path) -> None:
    class Mean(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3))

    terms = {"class": {"type": "cross_entropy", "target": 2, "model": "mean"}}
    result = run(tiny_page(objective=terms), models={"mean": Mean()}, out=tmp_path / "out")
    text = (tmp_path / "out" / "recipe.yaml").read_text()
    assert yaml.safe_load(text)["models"] == {"mean": {"type": "python:mean", "class": "Mean"}}
    assert result.steps == 7


# ---------------------------------------------------------------------- going on


def test_a_checkpoint_names_the_objects_that_it_lacks_and_takes_them_again(
    tmp_path: Path,
) -> None:
    objects: dict[str, Any] = {
        "terms": {"mine": Term(Near(COLOUR), weight=5.0), "too": Near(COLOUR / 2)},
        "variable": Pixels(start="noise", noise=0.2),
        "optimizer": Slow(lr=0.05),
        "models": {"classifier": tiny_classifier(torch.float32)},
        "players": {"segmenter": tiny_segmenter()},
    }
    page = tiny_page(objective={
        **TINY["objective"], "control": {"type": "mask_bce", "weight": 0.1},
        "class": {"type": "cross_entropy", "target": 1},
    })  # fmt: skip
    whole = run(page, **objects)
    out = tmp_path / "out"
    run(page, **objects, out=out, observers=[stopping(4)])
    assert (load(out).now or {})["run"]["step"] == 4
    with pytest.raises(InputError) as caught:
        package.resume(out)
    assert str(caught.value) == (
        f"{out}: was begun with objects given from Python (models: classifier; terms: mine and "
        "too; variable; optimizer; players: segmenter), which a checkpoint cannot hold; go on from "
        f"there: `invertkit.resume({str(out)!r}, models={{'classifier': …}}, terms={{'mine': …, "
        "'too': …}, variable=…, optimizer=…, players={'segmenter': …})`."
    )
    with pytest.raises(InputError, match=r"given from Python \(terms: too\)"):
        package.resume(out, **{**objects, "terms": {"mine": objects["terms"]["mine"]}})
    again = package.resume(out, **objects)
    assert torch.equal(again.images, whole.images)
    assert torch.equal(again.history["mine"], whole.history["mine"])


@pytest.mark.parametrize(
    ("objects", "sentence"),
    [
        ({"terms": {"mine": Near(COLOUR)}}, "was not begun with mine from Python; .* had: none"),
        ({"variable": Pixels()}, "was not begun with variable from Python"),
        ({"seeds": 3}, "seeds: expected an object made in Python, .* else is in the checkpoint"),
    ],
)
def test_a_run_goes_on_with_nothing_new(
    tmp_path: Path, objects: dict[str, Any], sentence: str
) -> None:
    out = tmp_path / "out"
    run(tiny_page(), out=out, observers=[stopping(2)])
    with pytest.raises(InputError, match=sentence):
        package.resume(out, **objects)


def test_objects_are_given_again_as_they_were(tmp_path: Path) -> None:
    objects = {"terms": {"mine": Term(Near(COLOUR), weight=2)}, "optimizer": Slow(lr=0.1)}
    run(tiny_page(), **objects, out=tmp_path / "out", observers=[stopping(2)])
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"optimizer": Adam(lr=0.1)}, "optimizer: .*begun with one of class Slow, got Adam"),
        (
            {"terms": {"mine": TotalVariation()}},
            r"terms\['mine'\]: .*class Near, got TotalVariation",
        ),
        ({"terms": {"mine": Term(Near(COLOUR), weight=7)}}, "weight=2.*, got .*weight=7"),
        ({"terms": {"mine": Term(Near(COLOUR), weight=2, start=3)}}, "got .*start=3"),
    ]
    for changed, sentence in wrong:
        with pytest.raises(InputError, match=sentence):
            package.resume(tmp_path / "out", **{**objects, **changed})
    bare = {**objects, "terms": {"mine": Near(COLOUR)}}
    again = package.resume(tmp_path / "out", **bare)
    assert torch.equal(again.images, run(tiny_page(), **objects).images)


def test_the_page_of_such_a_run_says_what_it_lacks(tmp_path: Path) -> None:
    run(tiny_page(), terms={"mine": Near(COLOUR)}, out=tmp_path / "out")
    with pytest.raises(RecipeError, match=r"objective\.mine \(line \d+\): was given from"):
        run(tmp_path / "out" / "recipe.yaml")
    again = run(tmp_path / "out" / "recipe.yaml", terms={"mine": Near(COLOUR)})
    assert torch.equal(again.images, run(tiny_page(), terms={"mine": Near(COLOUR)}).images)


# ---------------------------------------------------------------------- mistakes


class Unsplit(Objective):
    """Holds part of a graph, which cannot be copied."""

    def __init__(self) -> None:
        self.held = torch.ones(2, requires_grad=True) * 2

    def forward(self, view: View) -> Tensor:
        return view.image.mean((1, 2, 3))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"terms": {"mine": "norm"}}, r"terms\['mine'\]: expected an invertkit.Term or Objective"),
        ({"variable": "pixels"}, "variable: expected an invertkit.Variable made in Python"),
        ({"optimizer": torch.optim.SGD}, "optimizer: expected an invertkit.Optimizer"),
        ({"players": {"critic": 3}}, r"players\['critic'\]: expected an invertkit.Player"),
        ({"models": {"classifier": "embedded"}}, "expected a torch.nn.Module"),
        ({"terms": {"mine": Unsplit()}}, r"objective\.mine: Unsplit cannot be copied"),
        ({"terms": {"mine": Term(Near(COLOUR), region="nowhere")}}, r"objective\.mine\.region"),
        ({"terms": {"mine": Term(Near(COLOUR), stages=("late",))}}, "no stage 'late'"),
    ],
)
def test_a_wrong_object_is_told_in_one_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises((InputError, RecipeError), match=sentence):
        run(tiny_page(), **given)


def test_a_page_in_python_holds_data_and_extends_others(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.objective\.mine: expected data.* got Near"):
        run(tiny_page(objective={"mine": Near(COLOUR)}))
    base = write_page(tmp_path, "base")
    page = {"extends": str(base), "stages": [{"size": 10, "steps": 1}]}
    result = run(page)
    assert result.steps == 1
    assert set(result.history) == {"match", "smooth", "total"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (lambda scene: torch.zeros(2, 3, *scene.size), "by name, .*; got Tensor"),
        (lambda scene: {"x": torch.zeros(1, 3, *scene.size)}, "a row for each image"),
        (lambda scene: {"x": torch.zeros(2, 3, dtype=torch.long)}, "floating-point"),
    ],
)
def test_a_variable_begins_with_a_row_for_each_image(given: Any, sentence: str) -> None:
    class Wrong(Pixels):
        def start(self, scene: Any, randomness: Any) -> Any:
            return given(scene)

    with pytest.raises(InputError, match=f"variable: .*{sentence}"):
        run(tiny_page(), variable=Wrong(), seeds=2, batch=2)
