from __future__ import annotations

from invertkit.models.classifiers.open import open_classifier
from invertkit.models.classifiers.sources.embedded import embedded
from tests.models.classifiers.samples import logits


def test_the_embedded_classifier_says_what_it_is() -> None:
    classifier = embedded()
    assert len(classifier.classes) == 10
    assert "automobile" in classifier.classes
    assert classifier.description.startswith("the embedded KitNet (10 classes, l2 ε = 0.05 at ")
    assert logits(classifier).shape == (1, 10)
    for layer in classifier.resolve(["default"]):
        assert classifier.layer(layer) is not None
    assert open_classifier("embedded").description == classifier.description
