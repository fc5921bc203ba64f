from __future__ import annotations

import pytest
import torch

from invertkit.engine.problem import Term
from invertkit.objectives.base import Objective
from invertkit.objectives.priors import TotalVariation
from invertkit.objectives.statistics import BatchNormStatistics
from invertkit.runs.batching import MOST, most_images
from tests.helpers import make_problem

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("objective", "coupled"),
    [
        (BatchNormStatistics(), False),
        (BatchNormStatistics(coupled=True), True),
        (TotalVariation(form="l2"), False),
        (TotalVariation(form="l2", coupled=True), True),
    ],
)
def test_images_share_a_batch_on_a_cpu_where_a_term_couples_them(
    objective: Objective, *, coupled: bool
) -> None:
    problem = make_problem(Term(TotalVariation(), name="smooth"), Term(objective, name="it"))
    assert most_images(problem, None, CPU) == (MOST if coupled else 1)
    assert most_images(problem, None, GPU) == MOST
    for wanted in (1, 3):
        assert most_images(problem, wanted, CPU) == most_images(problem, wanted, GPU) == wanted
