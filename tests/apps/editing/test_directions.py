from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from invertkit.apps.editing.directions import (
    REACH,
    Steering,
    class_blend,
    edited,
    principal_directions,
    steering_directions,
)
from invertkit.errors import InputError, ShapeError, TapError
from tests.helpers import global_generators_unmoved, normal, same, uniform
from tests.latents import generator64

EDITS = tuple(REACH)


@given(st.integers(0, 999), st.floats(-2, 2))
def test_a_class_blend_is_the_line_through_both_classes(seed: int, strength: float) -> None:
    old, new = normal(3, 4, seed=seed), normal(4, seed=seed + 1)
    assert torch.equal(class_blend(old, new, 0), old)
    assert torch.equal(class_blend(old, new, 1), new.expand(3, 4))
    blend = class_blend(old, new, strength)
    torch.testing.assert_close(blend - old, strength * (new - old))


def test_embeddings_of_other_lengths_are_told() -> None:
    with pytest.raises(ShapeError, match=r"one length are blended; got \(2, 4\) and \(5,\)\."):
        class_blend(torch.zeros(2, 4), torch.zeros(5), 0.5)


# ---------------------------------------------------------------------- components


def test_components_are_orthonormal_fall_in_variance_and_have_unit_directions() -> None:
    found = principal_directions(generator64(), samples=300, count=4)
    identity = torch.eye(4)
    torch.testing.assert_close(found.components @ found.components.T, identity, atol=1e-5, rtol=0)
    assert (found.variances.diff() < 0).all()
    assert found.directions.shape == (5, 4)
    torch.testing.assert_close(found.directions.norm(dim=0), torch.ones(4))


def test_a_component_is_where_the_features_of_its_direction_go() -> None:
    generator = generator64().float()
    found = principal_directions(generator, samples=2000, count=5, layer="gen_z")
    weight = generator.net.gen_z.weight[:, :5]  # type: ignore[union-attr,index]
    moved = weight @ found.directions
    along = torch.nn.functional.cosine_similarity(moved, found.components.T, dim=0)
    assert along.min() > 0.99  # five of five: the layer is linear in z
    torch.testing.assert_close(moved.norm(dim=0).square(), found.variances, rtol=0.2, atol=0)


def test_components_know_nothing_of_the_classes() -> None:
    generator = generator64()
    plain = principal_directions(generator, samples=300, count=3)
    generator.net.embeddings.weight.mul_(100)  # type: ignore[union-attr,operator]
    torch.testing.assert_close(
        principal_directions(generator, samples=300, count=3).directions, plain.directions
    )


def test_components_belong_to_the_seed_and_the_layer() -> None:
    generator = generator64()

    def find(seed: int = 3, layer: str | None = None) -> object:
        return vars(principal_directions(generator, samples=64, count=2, seed=seed, layer=layer))

    with global_generators_unmoved():
        first = find()
    assert same(first, find())
    assert not same(first, find(seed=4))
    assert not same(first, find(layer="blocks.0"))


def test_components_that_do_not_exist_are_told() -> None:
    with pytest.raises(InputError, match="count: expected 1 to 5 components of layer 'gen_z'"):
        principal_directions(generator64(), samples=20, count=6)
    with pytest.raises(TapError, match="a tiny generator has no layer 'nose'"):
        principal_directions(generator64(), samples=20, count=2, layer="nose")


# ---------------------------------------------------------------------- steering


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_picture_is_moved_and_says_what_counts(edit: Steering) -> None:
    pictures = uniform(1, 3, 10, 10)
    moved, counts = edited(pictures, edit, torch.tensor([0.2], dtype=torch.float64))
    if edit == "shift_x":
        torch.testing.assert_close(moved[..., 2:], pictures[..., :-2])
        assert counts[0, 0, 0].tolist() == [0, 0, *[1] * 8]
    elif edit == "shift_y":
        torch.testing.assert_close(moved[..., 2:, :], pictures[..., :-2, :])
        assert counts[0, 0, :, 0].tolist() == [0, 0, *[1] * 8]
    else:
        assert counts.min() == 1
        spot = torch.zeros(1, 1, 10, 10, dtype=torch.float64)
        spot[..., 4:6, 4:6] = 1
        larger, _ = edited(spot.expand(-1, 3, -1, -1), edit, torch.tensor([0.4]).double())
        torch.testing.assert_close(larger[0, 0].sum() ** 0.5, torch.tensor(2 * 1.49).double(),
                                   rtol=0.05, atol=0)  # fmt: skip
    still, _ = edited(pictures, edit, torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(still, pictures)


@pytest.mark.parametrize("edit", EDITS)
def test_a_walk_comes_nearer_on_latents_it_has_not_seen(edit: Steering) -> None:
    walk = steering_directions(generator64(), edit, steps=40)
    assert walk.direction.shape == (5,)
    assert walk.loss < walk.still


def test_a_walk_of_no_steps_stays() -> None:
    walk = steering_directions(generator64(), "zoom", steps=0)
    assert not walk.direction.any()
    assert walk.loss == walk.still


def test_a_walk_belongs_to_its_seed() -> None:
    with global_generators_unmoved():
        first = vars(steering_directions(generator64(), "shift_x", steps=3, seed=1))
    assert same(first, vars(steering_directions(generator64(), "shift_x", steps=3, seed=1)))
    assert not same(first, vars(steering_directions(generator64(), "shift_x", steps=3, seed=2)))


@pytest.mark.parametrize(
    ("edit", "options", "sentence"),
    [
        ("spin", {}, "edit: expected shift_x, shift_y, zoom, got 'spin'."),
        ("zoom", {"steps": -1}, "expected steps ≥ 0 and batch ≥ 1, got -1 and 8."),
        ("zoom", {"batch": 0}, "expected steps ≥ 0 and batch ≥ 1, got 200 and 0."),
    ],
)
def test_walks_that_cannot_be_learned_are_told(
    edit: Steering, options: dict[str, int], sentence: str
) -> None:
    with pytest.raises(InputError) as caught:
        steering_directions(generator64(), edit, **options)  # type: ignore[arg-type]
    assert str(caught.value) == sentence
