"""Objects that are too small, or too large, for a stage: said before the first step."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from invertkit.errors import InputError, InvertkitWarning
from invertkit.runs.prepare import prepare_job
from tests.faces import tiny_page


def given(size: int, *, invert: bool = False) -> dict[str, Any]:
    """A photograph of 64×64 and masks of a square of that size; or of all but it."""
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 17 : 17 + size, 17 : 17 + size] = 1
    mask = 1 - mask if invert else mask
    return {"image": torch.zeros(1, 3, 64, 64), "mask": mask, "target": mask, "device": "cpu"}


@pytest.mark.parametrize("fit", ["keep", "stretch", "crop"])
def test_an_object_without_a_pixel_at_a_stage_is_told_with_a_size_that_has_one(fit: str) -> None:
    page = tiny_page(fit=fit, stages=[{"size": 64, "steps": 1}, {"size": 16, "steps": 1}])
    match = r"mask: has no pixel at stage '1', of 16×16 pixels.*--set stages\.1\.size=(\d+)`"
    with pytest.raises(InputError, match=match) as fault:
        prepare_job(page, **given(2))
    least = int(str(fault.value).split("size=")[1].split("`")[0])
    page["stages"][1]["size"] = least
    job = prepare_job(page, **given(2))
    for stage in (64, least):
        assert job.photographs[0].at((stage, stage), "keep")["mask"].any()  # type: ignore[union-attr]


def test_an_object_that_is_there_is_no_fault() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        job = prepare_job(tiny_page(), **given(12))
    assert job.photographs[0]["mask"].any()


@pytest.mark.filterwarnings("ignore:.*likely inverted")
def test_a_background_without_a_pixel_is_told() -> None:
    page = tiny_page(stages=[{"size": 16, "steps": 1}])
    with pytest.warns(InvertkitWarning, match="mask: covers every pixel at stage '0', of 16×16"):
        prepare_job(page, **{**given(2, invert=True), "target": given(12)["mask"]})
