from __future__ import annotations

import pytest

from invertkit.models.classifiers.open import open_classifier


def test_a_timm_classifier_has_the_normalisation_and_layers_of_its_own() -> None:
    classifier = open_classifier("timm:resnet10t", pretrained=False)
    assert classifier.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-3)
    assert set(classifier.default_layers) >= {"layer1", "layer2", "layer3"}
    assert classifier.resolve(["default"]) == classifier.default_layers
