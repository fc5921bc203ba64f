from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from invertkit.errors import RecipeError, WeightsError
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.classifiers.sources.timm import from_timm
from invertkit.models.classifiers.sources.torchvision import from_torchvision
from tests.helpers import global_generators_unmoved
from tests.models.classifiers.samples import TIMM, logits
from tests.models.loading.checkpoints import (
    SMALL,
    Payload,
    robustness_layout,
    state_of,
)


@pytest.mark.parametrize("prefix", ["timm:", "torchvision:"])
def test_a_library_classifier_is_built_without_weights_and_from_a_file(
    prefix: str, tmp_path: Path
) -> None:
    name = prefix + (TIMM if prefix == "timm:" else SMALL)
    with global_generators_unmoved():
        drawn = open_classifier(name, pretrained=False)
    assert "random weights" in drawn.description
    save_file(drawn.net.state_dict(), tmp_path / "w.safetensors")
    loaded = open_classifier(name, weights=tmp_path / "w.safetensors")
    assert "w.safetensors, sha256 " in loaded.description
    assert torch.equal(logits(loaded), logits(drawn))
    make = from_timm if prefix == "timm:" else from_torchvision
    chosen = make(name=name.partition(":")[2], weights=tmp_path / "w.safetensors", layers=["conv1"])
    assert chosen.default_layers == ("conv1",)


@pytest.mark.parametrize("name", [f"timm:{TIMM}", f"torchvision:{SMALL}"])
def test_weights_of_a_library_network_with_other_classes(name: str, tmp_path: Path) -> None:
    save_file(state_of(name, classes=7), tmp_path / "w.safetensors")
    assert logits(open_classifier(name, weights=tmp_path / "w.safetensors")).shape == (1, 7)


def test_weights_that_are_not_in_the_cache_are_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"The weights of timm's {TIMM} are not in the cache"):
        from_timm(name=TIMM)
    with pytest.raises(WeightsError, match=r"cannot be fetched \(HF_HUB_OFFLINE is set\)"):
        open_classifier("resnet50-l2-eps0.05")
    with pytest.raises(WeightsError, match=r"fetch https://download.pytorch.org/models/shuffle"):
        open_classifier(f"torchvision:{SMALL}")


def test_a_word_that_is_nothing_gets_a_suggestion_of_both_lists() -> None:
    with pytest.raises(RecipeError, match=r"timm has no classifier 'resnet5x'\. Did you mean"):
        open_classifier("resnet5x")
    with pytest.raises(RecipeError, match="Or, of the catalogue, 'resnet50-l2-eps0"):
        open_classifier("resnet50-l2-ep0.05")


@pytest.mark.parametrize("name", ["PATH", "resnet50-l2-eps0.05", f"torchvision:{SMALL}",
                                  f"timm:{TIMM}", "embedded"])  # fmt: skip
@pytest.mark.parametrize("zipped", ["zip", "older"])
def test_a_hostile_file_runs_through_no_door(
    tmp_path: Path, network: dict[str, Tensor], name: str, zipped: str
) -> None:
    path = tmp_path / "w.pt"
    torch.save(
        {"model": robustness_layout(network), "extra": Payload(tmp_path / "ran")},
        path,
        _use_new_zipfile_serialization=zipped == "zip",
    )
    options = {"name": path} if name == "PATH" else {"name": name, "weights": path}
    with pytest.raises(WeightsError) as caught:
        open_classifier(**options)
    assert "would run code" in str(caught.value) or name == "embedded"
    assert not (tmp_path / "ran").exists()
