from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from invertkit.errors import RecipeError, WeightsError
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.classifiers.sources.torchvision import from_torchvision
from invertkit.models.loading.weights_file import sha256
from tests.models.loading.checkpoints import (
    SMALL,
)


def test_a_resnet_of_torchvision_has_the_four_layers_of_magic() -> None:
    classifier = from_torchvision(name="resnet18", pretrained=False)
    assert classifier.default_layers == ("relu", "layer1", "layer2", "layer3")


def test_weights_of_torchvision_come_from_its_cache(
    network: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import get_model_weights
    from torchvision.models._api import Weights, WeightsEnum

    shelf = tmp_path / "torch" / "hub" / "checkpoints"
    shelf.mkdir(parents=True)
    published = shelf / get_model_weights(SMALL).DEFAULT.url.rpartition("/")[2]
    torch.save(network, published)
    with pytest.raises(WeightsError, match="is not the published file"):
        open_classifier(f"torchvision:{SMALL}")  # its name has the first digits of its hash
    with pytest.raises(RecipeError, match="has no weights 'V9'; it has IMAGENET1K_V1"):
        open_classifier(f"torchvision:{SMALL}.V9")

    own = published.rename(shelf / f"own-{sha256(published)[:8]}.pth")

    class Own(WeightsEnum):
        OTHER = Weights(f"https://example.org/{own.name}", transforms=lambda: None, meta={})
        DEFAULT = OTHER

    monkeypatch.setattr("torchvision.models.get_model_weights", lambda name: Own)
    for name in (SMALL, f"{SMALL}.OTHER"):
        classifier = open_classifier(f"torchvision:{name}")
        assert f"(its own weights, {own.name}, sha256 " in classifier.description
        assert len(classifier.classes) == 1000
        assert torch.equal(classifier.net.state_dict()["fc.bias"], network["fc.bias"])
