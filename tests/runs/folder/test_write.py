from __future__ import annotations

import math
import re

import pytest
import torch

from invertkit.core.images.inputs import Inputs
from invertkit.engine.problem import Status
from invertkit.runs.folder.page import curve, html, resolved_page
from invertkit.runs.folder.panels import sheet
from invertkit.runs.folder.write import metrics
from invertkit.runs.result import Result
from tests.faces import red_on_green, scene_tensors


def result(**changes: object) -> Result:
    rows = [
        {"step": i + 1, "stage": 0, "size": [24, 32], "values": {"a": [1.0 / (i + 1)]},
         "weights": {"a": 2.0}, "losses": [2.0 / (i + 1)]}
        for i in range(3)
    ]  # fmt: skip
    image, mask, target = scene_tensors()
    facts = {
        "best": image, "last": image.flip(3), "result": "last", "seeds": (7,), "best_steps": (2,),
        "best_losses": (0.5,), "status": Status.FINISHED, "steps": 3, "seconds": 1.25,
        "rows": (rows,), "batches": (1,), "recipe": {"name": "tiny", "fit": "keep"},
        "inputs": Inputs.of({"image": image, "mask": mask, "target": target}),
        "models": {"net": "a network"},
    }  # fmt: skip
    return Result(**{**facts, **changes})  # type: ignore[arg-type]


def points(svg: str) -> list[tuple[float, float]]:
    found = re.search(r'points="([^"]*)"', svg)
    assert found is not None
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in found[1].split())]


def test_a_curve_runs_from_left_to_right_and_falls_as_the_values_fall() -> None:
    svg = curve([100.0, 10.0, 1.0], "#123456", width=100, height=50)
    assert "#123456" in svg
    assert "100 → 1 (log scale)" in svg
    assert points(svg) == [(4, 4), (50, 25), (96, 46)]


def test_a_curve_with_values_below_zero_is_linear() -> None:
    svg = curve([-1.0, 0.0, 1.0], "red", width=100, height=50)
    assert "log" not in svg
    assert points(svg) == [(4, 46), (50, 25), (96, 4)]


def test_a_curve_leaves_out_what_is_not_finite() -> None:
    svg = curve([math.nan, 1.0, math.inf, 1.0], "red")
    assert len(points(svg)) == 2
    assert curve([math.nan, 1.0], "red") == ""
    assert curve([], "red") == ""


def test_a_long_curve_is_thinned() -> None:
    assert len(points(curve([float(i) for i in range(5000)], "red", width=100))) <= 120


def test_the_page_escapes_what_the_recipe_says() -> None:
    evil = '<script>alert("x")</script>'
    made = result(recipe={"name": evil, "summary": evil, "source": evil}, models={evil: evil})
    facts = metrics(made)
    page = html(made, sheet(made), facts)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_page_loads_nothing_from_elsewhere() -> None:
    frames = tuple(torch.full((3, 8, 8), i * 40, dtype=torch.uint8) for i in range(3))
    made = result(frames=frames)
    page = html(made, sheet(made), metrics(made))
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", page) == []
    assert "url(" not in page.replace("url(data:", "")
    assert "data:image/webp;base64," in page
    assert "<svg" in page
    assert "data:image/webp" not in html(result(), sheet(result()), metrics(result()))


def test_the_sheet_shows_what_there_is() -> None:
    with_inputs = sheet(result(), height=48)
    assert with_inputs.size == (4 * 64 + 3 * 4, 48 + 17 + 4)
    alone = sheet(result(inputs=Inputs()), height=48)
    assert alone.size == (64, 48 + 17 + 4)


def test_the_resolved_page_says_where_it_came_from() -> None:
    text = resolved_page(result())
    assert "seeds 7" in text
    assert "# Model net: a network." in text
    assert "name: tiny" in text


def test_metrics_of_an_image_without_a_finite_loss_are_valid_json() -> None:
    facts = metrics(result(best_losses=(math.inf,), inputs=Inputs()))
    assert facts["images"] == [{"seed": 7, "best_step": 2, "best_loss": None}]
    assert facts["sentence"] == "The run took every step it was given."


def test_the_judge_speaks_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import invertkit.metrics.mask_iou as package_metrics
    from invertkit.metrics.judge import train_judge

    monkeypatch.setattr(
        package_metrics, "train_judge", lambda image, mask: train_judge(image, mask, steps=2)
    )
    image, mask, target = red_on_green()
    made = result(
        best=image, last=image, inputs=Inputs.of({"image": image, "mask": mask, "target": target})
    )
    (entry,) = metrics(made, judge=True)["images"]
    assert 0 <= entry["mask_iou"] <= 1
    assert entry["bidirectional_similarity"] == pytest.approx(0, abs=2e-4)
