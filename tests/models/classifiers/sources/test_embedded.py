from __future__ import annotations

import pytest
from torch.nn import functional as F

from invertkit.apps.gradients.run import gradients
from invertkit.core.images.demo import find_picture
from invertkit.core.images.load import load_image
from invertkit.models.classifiers.catalogue import ENTRIES
from invertkit.models.classifiers.class_names import imagenet_classes
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.classifiers.sources.embedded import EMBEDDED, embedded
from invertkit.models.loading.hub import CARRIED
from invertkit.models.loading.safetensors_file import read_facts
from invertkit.models.loading.weights_file import sha256
from tests.models.classifiers.samples import logits

BY_RADIUS = sorted(ENTRIES.values(), key=lambda entry: entry.eps)
TWINS = [entry.name for entry in BY_RADIUS if entry.name.startswith("embedded-eps")]


def test_the_embedded_classifier_says_what_it_is() -> None:
    classifier = embedded()
    assert classifier.classes == imagenet_classes()
    assert classifier.description.startswith("the embedded EfficientNet-Lite0 (1000 classes, ")
    assert sha256(EMBEDDED)[:12] in classifier.description
    assert (classifier.mean, classifier.std, classifier.size) == ((0.5,) * 3, (0.5,) * 3, 224)
    assert logits(classifier).shape == (1, 1000)
    for layer in classifier.resolve(["default"]):
        assert classifier.layer(layer) is not None
    assert open_classifier("embedded").description == classifier.description


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_is_small_and_knows_what_it_was_trained_against(name: str) -> None:
    entry = ENTRIES[name]
    path = CARRIED / entry.file
    assert path.stat().st_size < 9_600_000
    facts = read_facts(path)
    assert facts["classes"] == list(imagenet_classes())
    attack = facts.get("plan", {}).get("attack", {"eps": 0.0})
    assert attack["eps"] == entry.eps
    assert open_classifier(name).mean == entry.mean


def test_gradients_of_the_twins_grow_smoother_with_the_radius() -> None:
    image = load_image(find_picture("flower").path)
    small = F.interpolate(image, (144, 216), mode="area")
    pieces = [small[..., :, left : left + 144] for left in (0, 36, 72)]
    found = gradients(pieces, TWINS, size=112)
    means = [mean.low_frequency[0] for mean in found.means()]
    assert len(means) >= 3
    assert means == sorted(means)
    assert means[-1] > 2 * means[0]


def test_it_sees_what_the_demonstration_shows() -> None:
    classifier = embedded()
    for picture, seen in (("flower", {"daisy"}), ("china", {"palace", "bell cote", "monastery"})):
        image = load_image(find_picture(picture).path)
        side = min(image.shape[-2:])
        top, left = ((each - side) // 2 for each in image.shape[-2:])
        square = image[..., top : top + side, left : left + side]
        small = F.interpolate(square, (224, 224), mode="bilinear", antialias=True)
        assert classifier.classes[int(classifier(small).argmax())] in seen
