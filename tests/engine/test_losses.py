from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.core.view import View
from invertkit.engine import losses
from invertkit.engine.losses import weighted_losses
from invertkit.engine.problem import Term
from invertkit.errors import InputError
from invertkit.objectives.base import Objective
from invertkit.objectives.outputs import CrossEntropy
from invertkit.objectives.priors import Norm, TotalVariation
from tests.helpers import SIZE, make_scene, setting, uniform


def of(*terms: Term, scene: Scene | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses and values of two images, the second term twice the first."""
    images = uniform(2, 3, 8, 9).requires_grad_()
    view = View(images, scene or make_scene((8, 9)), Randomness((0, 1)))
    weights = {term.name: torch.tensor(1.0 + i) for i, term in enumerate(terms)}
    return weighted_losses(terms, weights, view)


def test_the_sum_has_a_graph_and_the_values_have_none() -> None:
    losses, values = of(Term(Norm(), name="norm"), Term(TotalVariation(), name="smooth"))
    assert list(values) == ["norm", "smooth"]
    torch.testing.assert_close(losses.detach(), values["norm"] + 2 * values["smooth"])
    assert losses.requires_grad
    assert not any(value.requires_grad for value in values.values())


class Cubes(Objective):
    """A sum of cubes, which says whether anybody asked for its gradient."""

    def __init__(self) -> None:
        self.had_graph: bool | None = None

    def forward(self, view: View) -> Tensor:
        value = view.image.pow(3).sum((1, 2, 3))
        self.had_graph = value.requires_grad
        return value


def test_a_term_of_weight_0_is_read_and_takes_no_part() -> None:
    watching, acting = Cubes(), Cubes()
    losses, values = of(Term(watching, weight=0.0, name="watch"), Term(acting, name="act"))
    assert list(values) == ["watch", "act"]
    torch.testing.assert_close(values["watch"], values["act"])
    torch.testing.assert_close(losses.detach(), 2 * values["act"])
    assert (watching.had_graph, acting.had_graph) == (False, True)


def test_where_nobody_acts_the_loss_is_0_and_has_a_graph() -> None:
    objective = Cubes()
    images = uniform(2, 3, 8, 9).requires_grad_()
    view = View(images, make_scene((8, 9)), Randomness((0, 1)))
    term = Term(objective, weight=0.0, name="watch")
    losses, _ = weighted_losses([term], {"watch": torch.tensor(0.0)}, view)
    losses.sum().backward()
    assert images.grad is not None
    assert not images.grad.any()


def test_a_network_asked_by_both_has_its_graph_whoever_comes_first() -> None:
    """What it says of an image is kept: it must not be asked first without a gradient."""
    images = uniform(2, 3, *SIZE).requires_grad_()
    watch = Term(CrossEntropy(target=1), weight=0.0, name="watch")
    act = Term(CrossEntropy(target=2), name="act")
    scene = setting(watch.objective)
    weights = {"watch": torch.tensor(0.0), "act": torch.tensor(1.0)}
    slopes = []
    for terms in ((watch, act), (act,)):
        view = View(images, scene, Randomness((0, 1)))
        losses, _ = weighted_losses(terms, weights, view)
        slopes.append(torch.autograd.grad(losses.sum(), images)[0])
    assert slopes[0].any()
    assert torch.equal(*slopes)


class Hungry(Objective):
    """Asks a GPU for more than it has."""

    def forward(self, view: View) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


class Photographs(Objective):
    """Cannot deal with images of several photographs."""

    def forward(self, view: View) -> Tensor:
        raise RuntimeError("The size of tensor a (2) must match the size of tensor b (3)")


def test_a_gpu_without_memory_is_no_fault_of_an_objective() -> None:
    several = replace(make_scene((8, 9)), owners=(0, 1))
    for scene in (make_scene((8, 9)), several):
        with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 20\.00 GiB"):
            of(Term(Hungry(), name="hungry"), scene=scene)
    with pytest.raises(InputError, match=r"objective\.own: expected one number an image.*batch 1"):
        of(Term(Photographs(), name="own"), scene=several)


@pytest.mark.parametrize(
    ("images", "came"), [(None, "NoneType"), (torch.zeros(2, 1, 8, 8), r"shape \(2, 1, 8, 8\)")]
)
def test_a_variable_gives_images(images: object, came: str) -> None:
    # By itself, since the tests' check of shapes would be the first to see them.
    with pytest.raises(InputError, match=rf"variable: expected images .*got {came}"):
        losses._expect_images(images)
