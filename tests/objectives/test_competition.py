from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from invertkit.errors import RecipeError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.objectives.competition import (
    Agreement,
    Competition,
    jensen_shannon,
    released_divergence,
)
from tests.helpers import SIZE, gradcheck, normal, score, setting, uniform

seeds = st.integers(0, 999)
counts = st.integers(2, 40)
sharpness = st.floats(0.1, 30)


def log_probabilities(seed: int, count: int, sharp: float) -> Tensor:
    return (sharp * normal(3, count, seed=seed)).log_softmax(1)


def softmax(logits: Tensor, temperature: float) -> list[float]:
    numbers = [math.exp(x / temperature) for x in logits.tolist()]
    return [x / sum(numbers) for x in numbers]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def slow(p: list[float], q: list[float], form: Literal["paper", "released"]) -> float:
    """1 − the divergence, of two lists of probabilities."""
    m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    if form == "paper":
        return 1 - (kl(p, m) / 2 + kl(q, m) / 2)
    p, q, m = ([min(max(x, 0.01), 0.99) for x in values] for values in (p, q, m))
    return 1 - min(max(kl(m, p) / 2 + kl(m, q) / 2, 0), 1)


@given(seeds, counts, sharpness, sharpness)
def test_the_divergence_is_symmetric_and_between_0_and_ln_2(
    seed: int, count: int, sharp: float, other_sharp: float
) -> None:
    p = log_probabilities(seed, count, sharp)
    q = log_probabilities(seed + 1, count, other_sharp)
    there = jensen_shannon(p, q)
    torch.testing.assert_close(there, jensen_shannon(q, p))
    assert (there > 0).all()
    assert (there <= math.log(2) + 1e-12).all()
    assert jensen_shannon(p, p).abs().max() < 1e-12


def test_the_divergence_of_what_excludes_each_other_is_ln_2() -> None:
    certain = 60 * torch.eye(4, dtype=torch.float64)
    p, q = certain[:1].log_softmax(1), certain[1:2].log_softmax(1)
    assert jensen_shannon(p, q).item() == pytest.approx(math.log(2))


@given(seeds, counts, sharpness, sharpness)
def test_the_root_of_the_divergence_is_a_distance(
    seed: int, count: int, sharp: float, other_sharp: float
) -> None:
    """Endres & Schindelin 2003: no way round is shorter."""
    p, r = (log_probabilities(s, count, sharp) for s in (seed, seed + 1))
    q = log_probabilities(seed + 2, count, other_sharp)
    there, on, straight = (jensen_shannon(*pair).sqrt() for pair in ((p, q), (q, r), (p, r)))
    assert (straight <= there + on + 1e-12).all()


@given(seeds, counts, sharpness)
def test_the_released_divergence_is_symmetric_and_between_0_and_1(
    seed: int, count: int, sharp: float
) -> None:
    p, q = (log_probabilities(s, count, sharp).exp() for s in (seed, seed + 1))
    there = released_divergence(p, q)
    torch.testing.assert_close(there, released_divergence(q, p))
    assert (there >= 0).all()
    assert (there <= 1).all()
    assert not released_divergence(p, p).any()


FORMS: list[dict[str, Any]] = [
    {"form": "paper"},
    {"form": "paper", "temperature": 3.0},
    {"form": "released", "temperature": 3.0},
    {"form": "released", "temperature": 0.2},
]
forms = pytest.mark.parametrize("options", FORMS)


@forms
def test_competition_equals_its_slow_loop(options: dict[str, Any]) -> None:
    objective, images = Competition(**options), uniform(3, 3, *SIZE)
    scene = setting(objective)
    said = [scene.models[name](images) for name in ("classifier", "student")]
    wanted = [
        slow(*(softmax(row, objective.temperature) for row in rows), objective.form)
        for rows in zip(*said, strict=True)
    ]
    assert score(objective, scene, images).tolist() == pytest.approx(wanted)


@forms
def test_gradients_of_competition(options: dict[str, Any]) -> None:
    objective = Competition(**options)
    scene = setting(objective)
    gradcheck(lambda images: score(objective, scene, images), uniform(1, 3, *SIZE))


class Linear(nn.Module):
    """Logits that are a linear map of the mean colours."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, image: Tensor) -> Tensor:
        return image.mean((2, 3)) @ self.matrix


@pytest.mark.parametrize("form", ["paper", "released"])
def test_its_gradient_is_what_differences_of_the_slow_loop_say(
    form: Literal["paper", "released"],
) -> None:
    """Along one direction in the space of pictures, through both networks."""
    matrices = {name: normal(3, 6, seed=i) for i, name in enumerate(("classifier", "student"))}
    nets = {
        name: Classifier(Linear(2 * matrix), mean=(0, 0, 0), std=(1, 1, 1)).double()
        for name, matrix in matrices.items()
    }
    objective, image = Competition(form=form, temperature=2.0), uniform(1, 3, 4, 4)
    scene = setting(objective)
    scene = replace(scene, models={**scene.models, **nets})
    direction = normal(1, 3, 4, 4, seed=9)
    image.requires_grad_()
    (slope,) = torch.autograd.grad(score(objective, scene, image).sum(), image)

    def value(step: float) -> float:
        moved = (image + step * direction).detach()
        logits = [(moved.mean((2, 3)) @ (2 * matrix))[0] for matrix in matrices.values()]
        return slow(*(softmax(row, 2.0) for row in logits), form)

    numeric = (value(1e-5) - value(-1e-5)) / 2e-5
    assert (slope * direction).sum().item() == pytest.approx(numeric, rel=1e-5)


@forms
def test_a_student_that_equals_its_teacher_is_the_worst(options: dict[str, Any]) -> None:
    objective, images = Competition(**options), uniform(2, 3, *SIZE)
    scene = setting(objective)
    twins = {**scene.models, "student": scene.models["classifier"]}
    same = score(objective, replace(scene, models=twins), images)
    torch.testing.assert_close(same, torch.ones_like(same))
    assert (score(objective, scene, images) <= same).all()


def test_agreement_is_the_verifiers_cross_entropy_for_the_class_that_is_seen() -> None:
    objective, images = Agreement(), uniform(4, 3, *SIZE)
    scene = setting(objective)
    seen = scene.models["classifier"](images).argmax(1).tolist()
    rows = scene.models["verifier"](images)
    wanted = [-math.log(softmax(row, 1)[i]) for row, i in zip(rows, seen, strict=True)]
    assert score(objective, scene, images).tolist() == pytest.approx(wanted)


def test_gradients_of_agreement() -> None:
    objective, images = Agreement(), uniform(2, 3, *SIZE)
    scene = setting(objective)
    gradcheck(lambda at: score(objective, scene, at), images)


@pytest.mark.parametrize("objective", [Competition(), Agreement()])
def test_networks_of_other_classes_are_told(objective: Competition | Agreement) -> None:
    scene = setting(objective)
    other = Classifier(Linear(torch.ones(3, 7, dtype=torch.float64)))
    models = {**scene.models, "student": other, "verifier": other}
    with pytest.raises(RecipeError, match="have 5 and 7 classes"):
        score(objective, replace(scene, models=models), uniform(1, 3, *SIZE))


def test_a_network_that_is_missing_is_told_by_name() -> None:
    models = setting(Competition()).models
    alone = {"classifier": models["classifier"]}
    with pytest.raises(RecipeError, match="no model 'student'"):
        Competition().needs(alone)
    with pytest.raises(RecipeError, match="no model 'verifier'"):
        Agreement().needs(alone)
    with pytest.raises(RecipeError, match="both name 'classifier'"):
        Competition(student="classifier").needs(models)
