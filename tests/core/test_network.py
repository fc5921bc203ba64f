from __future__ import annotations

from collections.abc import Collection

import pytest
import torch
from torch import Tensor, nn

from invertkit.core.network import Model, Network
from invertkit.errors import RecipeError, TapError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.recipe.build import as_model
from tests.helpers import tiny_classifier, tiny_perceptual


class Grey(Network):
    def observe(self, image: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        return dict.fromkeys(layers, image.mean(1, keepdim=True))


def test_default_stands_for_the_default_layers_in_their_order() -> None:
    net = Grey(default_layers=["a", "b"])
    assert net.resolve(["b", "default", "a"]) == ("b", "a", "b", "a")
    assert net.resolve([]) == ()
    with pytest.raises(TapError, match=r"given from Python has no layer 'c'; it has: a, b\."):
        net.resolve(["default", "c"])
    with pytest.raises(TapError, match="it has: none"):
        Grey().resolve(["a"])


def test_a_network_without_observe_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Network()  # type: ignore[abstract]


def test_what_a_model_is_stands_on_one_line() -> None:
    for model in (tiny_classifier(), tiny_perceptual(), Grey(description="grey")):
        assert repr(model) == f"{type(model).__name__}({model.description})"
        assert "\n" not in repr(model)


def test_a_module_becomes_a_classifier_and_a_model_stays() -> None:
    module, net = nn.Conv2d(3, 2, 1), Grey()
    assert as_model(net, "classifier") is net
    wrapped = as_model(module, "classifier")
    assert isinstance(wrapped, Classifier)
    assert isinstance(wrapped, Model)
    assert wrapped.net is module
    assert wrapped.observe(torch.zeros(1, 3, 4, 4), ["logits"])["logits"].shape == (1, 2, 4, 4)
    with pytest.raises(RecipeError, match=r"models\.judge: expected a network.*got dict"):
        as_model({}, "judge")
