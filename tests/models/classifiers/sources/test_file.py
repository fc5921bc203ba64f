from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from invertkit.errors import RecipeError, WeightsError
from invertkit.models.classifiers import architectures
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.classifiers.sources.embedded import embedded
from invertkit.models.classifiers.verify import verify
from invertkit.models.loading.safetensors_file import read_facts
from tests.models.classifiers.samples import TIMM, card, logits
from tests.models.loading.checkpoints import (
    SMALL,
    state_of,
)


def test_a_file_of_training_says_what_it_is(tmp_path: Path) -> None:
    plan = {"attack": {"norm": "l2", "eps": 0.5}}
    facts = card(
        architecture="kitnet", widths=[4, 4, 8, 8], classes=["blue", "red"], mean=[0.1, 0.2, 0.3],
        std=[0.4, 0.5, 0.6], size=48, plan=plan,
    )  # fmt: skip
    with torch.device("meta"):
        like = architectures.build("kitnet", 2, widths=(4, 4, 8, 8)).state_dict()
    state = {key: torch.rand(v.shape) if v.is_floating_point() else v * 0 + 1
             for key, v in like.items() if v.ndim}  # fmt: skip
    path = tmp_path / "classifier.safetensors"
    save_file(state, path, metadata=facts)
    for classifier in (open_classifier(path), open_classifier(str(path)), embedded(weights=path)):
        assert classifier.classes == ("blue", "red")
        assert classifier.mean == (0.1, 0.2, 0.3)
        assert classifier.size == 48
        assert classifier.description.startswith(
            "classifier.safetensors KitNet (2 classes, l2 ε = 0.5 at 48×48, sha256 "
        )


def test_a_fine_tuned_network_of_timm_loads_by_its_file(tmp_path: Path) -> None:
    facts = card(architecture=f"timm:{TIMM}", classes=["a", "b", "c"], mean=[0.5] * 3,
                 std=[0.5] * 3, size=96, plan={})  # fmt: skip
    path = tmp_path / "c.safetensors"
    state = state_of(f"timm:{TIMM}", classes=3)
    save_file(state, path, metadata=facts)
    classifier = open_classifier(path)
    assert classifier.classes == ("a", "b", "c")
    assert classifier.size == 96
    assert logits(classifier).shape == (1, 3)
    assert classifier.default_layers
    with pytest.raises(RecipeError, match="is a file already"):
        open_classifier(path, weights=path)


@pytest.mark.parametrize(
    "facts",
    [
        {"architecture": "resnet18", "classes": 3},
        {"architecture": "kitnet", "classes": ["a"], "widths": 5},
        {"architecture": f"torchvision:{SMALL}", "classes": ["a"], "mean": [1]},
        {"architecture": f"torchvision:{SMALL}", "mean": [0, 0, 0], "std": [1, 1, 0]},
        {"architecture": f"torchvision:{SMALL}", "mean": "grey", "std": [1, 1, 1]},
        {"architecture": 3},
        {"architecture": "torch:hub"},
        {"architecture": "timm:resnet5x"},
        {"architecture": ["kitnet"]},
        {"architecture": "kitnet", "widths": [10**9] * 4},
        {"architecture": "kitnet", "widths": [9000] * 4},
        {"architecture": "kitnet", "widths": [-1, 8, 8, 8]},
        {"architecture": f"torchvision:{SMALL}", "size": float("inf")},
        {"architecture": f"torchvision:{SMALL}", "mean": [float("nan"), 0, 0], "std": [1, 1, 1]},
        {"architecture": "timm:vit_giant_patch14_clip_224"},
    ],
)
def test_metadata_that_make_no_sense_are_one_sentence(
    tmp_path: Path, network: dict[str, Tensor], facts: dict[str, Any]
) -> None:
    save_file(network, tmp_path / "c.safetensors", metadata=card(**facts))
    path = tmp_path / "c.safetensors"
    for read in (open_classifier, lambda path: verify(str(path))):
        with pytest.raises((WeightsError, RecipeError)) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_metadata_that_are_nested_without_end_are_text(
    tmp_path: Path, network: dict[str, Tensor]
) -> None:
    save_file(network, tmp_path / "c.safetensors", metadata={"plan": "[" * 100_000})
    assert read_facts(tmp_path / "c.safetensors")["plan"].startswith("[[")
