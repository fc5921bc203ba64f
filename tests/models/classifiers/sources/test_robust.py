from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from invertkit.errors import RecipeError, WeightsError
from invertkit.models.classifiers.catalogue import (
    CIFAR10,
    CIFAR10_CLASSES,
)
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.classifiers.sources.file import from_file
from invertkit.models.classifiers.sources.robust import robust
from tests.models.classifiers.samples import logits
from tests.models.loading.checkpoints import (
    SMALL,
    checkpoint_of_training,
    robustness_layout,
    state_of,
)


@pytest.mark.parametrize("name", ["resnet51-l2-eps1", "resnet50-l2-eps", "resnet50-l2-eps0.06"])
def test_a_robust_name_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="expected ARCHITECTURE-NORM-epsRADIUS such as") as caught:
        open_classifier(name)
    assert "Did you mean 'resnet" in str(caught.value)


@pytest.mark.parametrize("given", ["file", "folder"])
def test_a_robust_classifier_from_its_file_or_its_folder(tmp_path: Path, given: str) -> None:
    state = state_of("shufflenet_v2_x1_0")
    mean, std = (0.5, 0.25, 0.125), (0.5, 0.5, 0.25)
    data = checkpoint_of_training(robustness_layout(state, mean=mean, std=std))
    path = tmp_path / "shufflenet_l2_eps3.ckpt"
    torch.save(data, path)
    classifier = open_classifier(
        "shufflenet-l2-eps3.0", weights=path if given == "file" else tmp_path
    )
    assert all(torch.equal(classifier.net.state_dict()[k], v) for k, v in state.items())
    assert (classifier.mean, classifier.std) == (mean, std), "the file's own, not the catalogue's"
    assert len(classifier.classes) == 1000
    assert classifier.description.startswith(f"shufflenet-l2-eps3 ({path.name}, sha256 ")
    assert classifier.resolve(["default"]) == ("conv1", "maxpool", "stage2", "stage3")


def test_a_robust_file_of_another_architecture_of_torchvision(
    tmp_path: Path, network: dict[str, Tensor]
) -> None:
    torch.save({"model": robustness_layout(network)}, tmp_path / "w.ckpt")
    classifier = robust(name=f"{SMALL}-linf-eps4.0", weights=tmp_path / "w.ckpt")
    assert classifier.description.startswith(f"{SMALL}-linf-eps4.0 (w.ckpt, sha256 ")
    with pytest.raises(RecipeError, match="unknown robust classifier"):
        robust(name=f"{SMALL}-linf-eps4.0")


def test_the_library_s_cifar_classifier(tmp_path: Path) -> None:
    state = state_of("cifar_resnet50", classes=10)
    cifar = {"mean": CIFAR10.mean, "std": CIFAR10.std}
    torch.save({"state_dict": robustness_layout(state, **cifar)}, tmp_path / "cifar_l2_0_5.pt",
               _use_new_zipfile_serialization=False)  # fmt: skip
    classifier = open_classifier("cifar10-resnet50-l2-eps0.5", weights=tmp_path)
    assert classifier.classes == CIFAR10_CLASSES
    assert classifier.size == 32
    assert classifier.mean == pytest.approx(CIFAR10.mean)
    assert logits(classifier, 32).shape == (1, 10)
    assert classifier.resolve(["default"]) == ("relu", "layer1", "layer2", "layer3")
    again = from_file(path=tmp_path / "cifar_l2_0_5.pt")
    assert torch.equal(logits(again, 32), logits(classifier, 32))
    assert again.classes == CIFAR10_CLASSES


def test_wrong_files_are_told(tmp_path: Path, network: dict[str, Tensor]) -> None:
    torch.save(network, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="belongs to another network than ShuffleNetV2: of"):
        robust(name="shufflenet-l2-eps0", weights=tmp_path / "w.pt")
    torch.save({"nothing": torch.zeros(3)}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="belongs to another network"):
        robust(name="shufflenet-l2-eps0", weights=tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="does not say what network it is"):
        open_classifier(tmp_path / "w.pt")
