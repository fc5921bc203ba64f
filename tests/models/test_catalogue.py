from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from invertkit.errors import RecipeError, WeightsError
from invertkit.models.catalogue import embedded, from_timm, from_torchvision, robust
from invertkit.models.classifier import Classifier
from tests.helpers import global_generators_unmoved, uniform

TIMM = "lcnet_035"
TORCHVISION = "shufflenet_v2_x0_5"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def logits(classifier: Classifier) -> Tensor:
    with torch.no_grad():
        return classifier(uniform(1, 3, 64, 64, dtype=torch.float32))


def test_the_embedded_classifier_says_what_it_is() -> None:
    classifier = embedded()
    assert len(classifier.classes) == 10
    assert "automobile" in classifier.classes
    assert classifier.description.startswith("the embedded KitNet (10 classes, l2 ε = 0.05 at ")
    assert logits(classifier).shape == (1, 10)
    for layer in classifier.resolve(["default"]):
        assert classifier.layer(layer) is not None


@pytest.mark.parametrize("make", [from_timm, from_torchvision])
def test_a_library_classifier_is_built_without_weights_and_from_a_file(
    make: object, tmp_path: Path
) -> None:
    assert callable(make)
    name = TIMM if make is from_timm else TORCHVISION
    with global_generators_unmoved():
        drawn = make(name=name, pretrained=False)
    assert "random weights" in drawn.description
    save_file(drawn.net.state_dict(), tmp_path / "w.safetensors")
    loaded = make(name=name, weights=tmp_path / "w.safetensors")
    assert "w.safetensors, sha256 " in loaded.description
    assert torch.equal(logits(loaded), logits(drawn))
    chosen = make(name=name, weights=tmp_path / "w.safetensors", layers=["conv1"])
    assert chosen.default_layers == ("conv1",)


def test_a_timm_classifier_has_the_normalisation_and_layers_of_its_own() -> None:
    classifier = from_timm(name="resnet10t", pretrained=False)
    assert classifier.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-3)
    assert set(classifier.default_layers) >= {"layer1", "layer2", "layer3"}
    assert classifier.resolve(["default"]) == classifier.default_layers


def test_a_resnet_of_torchvision_has_the_four_layers_of_magic() -> None:
    classifier = from_torchvision(name="resnet18", pretrained=False)
    assert classifier.default_layers == ("relu", "layer1", "layer2", "layer3")


def test_weights_of_torchvision_come_from_its_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    state = from_torchvision(name=TORCHVISION, pretrained=False).net.state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *a, **k: state)
    classifier = from_torchvision(name=TORCHVISION)
    assert "its own weights" in classifier.description
    assert len(classifier.classes) == 1000
    assert torch.equal(classifier.net.state_dict()["fc.bias"], state["fc.bias"])


def test_weights_of_timm_that_are_not_in_the_cache_are_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"The weights of timm's {TIMM} are not in the cache"):
        from_timm(name=TIMM)


def test_a_robust_classifier_is_fetched_from_its_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = from_torchvision(name=TORCHVISION, pretrained=False).net.state_dict()
    path = tmp_path / "fetched.ckpt"
    torch.save({"model": {f"module.model.{k}": v for k, v in state.items()}}, path)
    asked: list[tuple[str, str]] = []

    def fetch(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    classifier = robust(name=f"{TORCHVISION}-linf-eps4.0")
    assert asked == [("madrylab/robust-imagenet-models", f"{TORCHVISION}_linf_eps4.0.ckpt")]
    assert classifier.description.startswith(f"{TORCHVISION}-linf-eps4.0 (fetched.ckpt, sha256 ")


@pytest.mark.parametrize("name", ["resnet51-l2-eps1", "resnet50", "resnet50-l2-eps", ""])
def test_a_robust_name_of_another_form_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="expected ARCHITECTURE-NORM-epsRADIUS such as"):
        robust(name=name)
