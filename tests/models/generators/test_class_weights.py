from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from invertkit.errors import InputError, ShapeError
from invertkit.models.generators.class_maps import ClassLayer, check_weights
from invertkit.models.generators.class_weights import (
    layer_weights,
    soften,
    weights_of_labels,
    weights_of_masks,
)
from tests.helpers import normal, uniform

LAYERS = [ClassLayer(f"norm {side}", (side, side)) for side in (4, 8, 8, 16)]


@given(seed=st.integers(0, 99), classes=st.integers(1, 4))
def test_labels_are_weights_of_one(seed: int, classes: int) -> None:
    labels = (uniform(1, 1, 5, 7, seed=seed) * classes).long()
    weights = weights_of_labels(labels, [str(each) for each in range(classes)])
    assert torch.equal(weights.argmax(1, keepdim=True), labels)
    assert torch.equal(weights.sum(1), torch.ones(1, 5, 7))
    labels[0, 0, 0, 0] = classes
    with pytest.raises(InputError, match=f"layout: {classes} stands for no class"):
        weights_of_labels(labels, [str(each) for each in range(classes)])


@given(seed=st.integers(0, 99), count=st.integers(1, 4))
def test_masks_that_do_not_overlap_leave_the_rest_to_the_first_class(seed: int, count: int) -> None:
    owner = (uniform(1, 1, 5, 7, seed=seed) * (count + 1)).long()
    masks = [(owner == number + 1).float() for number in range(count)]
    weights = weights_of_masks(masks)
    assert torch.equal(weights.argmax(1, keepdim=True), owner)
    check_weights(weights)


def test_masks_that_overlap_are_refused_and_holes_are_not() -> None:
    left, all_of_it = torch.zeros(1, 1, 2, 4), torch.ones(1, 1, 2, 4)
    left[..., :3] = 1
    with pytest.raises(InputError, match="the masks number 1 and 2 overlap on 6 pixels"):
        weights_of_masks([left, all_of_it])
    with pytest.raises(ShapeError, match="2×2 and 4×2"):
        weights_of_masks([left, torch.ones(1, 1, 2, 2)])


@given(seed=st.integers(0, 99), share=st.floats(0.03, 0.4))
def test_softening_is_a_gaussian_and_keeps_the_sum(seed: int, share: float) -> None:
    weights = torch.softmax(5 * normal(2, 3, 12, 12, seed=seed), 1)
    soft = soften(weights, share)
    for picture in range(2):
        for label in range(3):
            expected = gaussian_filter(
                weights[picture, label].numpy(), share * 12, mode="nearest",
                radius=int(np.ceil(4 * share * 12)),
            )  # fmt: skip
            np.testing.assert_allclose(soft[picture, label].numpy(), expected, atol=1e-12)
    check_weights(soft)
    assert torch.equal(soften(weights, 0), weights)


@given(seed=st.integers(0, 99), strength=st.sampled_from([0.0, 0.3, 1.0]))
def test_every_layer_has_weights_of_its_size_that_sum_to_one(seed: int, strength: float) -> None:
    weights = weights_of_labels((uniform(1, 1, 32, 32, seed=seed) * 3).long(), "abc")
    maps = layer_weights(weights, LAYERS, [strength] * len(LAYERS))
    whole = layer_weights(weights, LAYERS, [1.0] * len(LAYERS))
    own = torch.tensor([1.0, 0, 0])[:, None, None]
    for layer, at_layer, full in zip(LAYERS, maps, whole, strict=True):
        assert tuple(at_layer.shape) == (1, 3, *layer.shape)
        check_weights(at_layer)
        expected = strength * full + (1 - strength) * own
        torch.testing.assert_close(at_layer, expected, rtol=0, atol=1e-7)


@given(label=st.integers(0, 2))
def test_one_class_everywhere_stays_one_to_the_bit(label: int) -> None:
    weights = weights_of_labels(torch.full((1, 1, 33, 33), label), "abc")
    for at_layer in layer_weights(weights, LAYERS, [1.0] * len(LAYERS)):
        assert bool((at_layer[:, label] == 1).all())
        assert float(at_layer.sum()) == at_layer[:, 0].numel()


def test_far_from_a_border_the_weight_is_one_to_the_bit() -> None:
    labels = torch.zeros(1, 1, 256, 256, dtype=torch.int64)
    labels[..., 128:] = 1
    maps = layer_weights(weights_of_labels(labels, "ab"), LAYERS, [1.0] * len(LAYERS))
    assert bool((maps[-1][:, 0, :, :4] == 1).all())
    assert bool((maps[-1][:, 1, :, -4:] == 1).all())


def test_strengths_and_sums_are_checked() -> None:
    half = torch.full((1, 2, 4, 4), 0.5)
    with pytest.raises(ShapeError, match="4 layers and 1 strengths"):
        layer_weights(half, LAYERS, [1.0])
    with pytest.raises(InputError, match=r"in \[0, 1\]; got 2"):
        layer_weights(half, LAYERS[:1], [2.0])
    with pytest.raises(InputError, match="sum to 1"):
        layer_weights(half * 1.5, LAYERS[:1], [1.0])
    with pytest.raises(InputError, match="soften: expected 0 or a share"):
        soften(half, -1)
