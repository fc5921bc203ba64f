from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from invertkit.errors import RecipeError, WeightsError
from invertkit.models.classifiers import architectures
from invertkit.models.classifiers.catalogue import (
    CIFAR10,
    CIFAR10_CLASSES,
    ENTRIES,
    find,
    near,
    select,
)
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.open import open_classifier
from invertkit.models.classifiers.sources.embedded import embedded
from invertkit.models.classifiers.sources.file import from_file
from invertkit.models.classifiers.sources.robust import robust
from invertkit.models.classifiers.sources.timm import from_timm
from invertkit.models.classifiers.sources.torchvision import from_torchvision
from invertkit.models.classifiers.verify import verify
from invertkit.models.classifiers.words import is_file_name
from invertkit.models.loading.safetensors_file import read_facts
from invertkit.models.loading.weights_file import sha256
from tests.helpers import global_generators_unmoved, uniform
from tests.models.loading.checkpoints import (
    SMALL,
    Payload,
    checkpoint_of_training,
    robustness_layout,
    state_of,
)

TIMM = "lcnet_035"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(scope="module")
def network() -> dict[str, Tensor]:
    return state_of(SMALL)


def logits(classifier: Classifier, side: int = 64) -> Tensor:
    with torch.no_grad():
        return classifier(uniform(1, 3, side, side, dtype=torch.float32))


def card(**facts: Any) -> dict[str, str]:
    return {key: json.dumps(value) for key, value in facts.items()}


# ---------------------------------------------------------------------- the table


def test_every_published_model_has_its_line() -> None:
    """Salman et al.: four architectures over ten l2 radii, three over five linf, six at two."""
    published = [entry for entry in ENTRIES.values() if entry.source == "salman2020"]
    assert len(published) == 4 * 10 + 3 * 5 + 6 * 2
    assert len(select(architecture="wide_resnet50_4")) == 10
    assert {entry.eps for entry in select(norm="linf", source="salman2020")} == {0.5, 1, 2, 4, 8}
    for entry in published:
        assert entry.file == entry.name.replace("-", "_") + ".ckpt"
        assert entry.accuracy is not None
        assert 40 < entry.accuracy < 80
    files = [entry.file for entry in ENTRIES.values() if entry.file]
    assert len(set(files)) == len(files)
    library = {(e.dataset, e.norm, e.eps) for e in select(source="robustness")}
    assert library == {
        ("cifar10", "l2", 0), ("cifar10", "l2", 0.25), ("cifar10", "l2", 0.5), ("cifar10", "l2", 1),
        ("cifar10", "linf", 8), ("imagenet", "l2", 3), ("imagenet", "linf", 4),
        ("imagenet", "linf", 8), ("imagenet", "none", 0),
    }  # fmt: skip


def test_accuracy_falls_with_the_radius_in_every_family() -> None:
    """Except for noise at the smallest radii."""
    for architecture in ("resnet18", "resnet50", "wide_resnet50_2", "wide_resnet50_4"):
        for norm in ("l2", "linf"):
            found = select(architecture=architecture, norm=norm, source="salman2020")
            by_radius = [e.accuracy for e in sorted(found, key=lambda e: e.eps) if e.eps >= 0.1]
            assert by_radius == sorted(by_radius, reverse=True)
    eps = find("resnet50-l2-eps0.05")
    assert eps is not None
    assert eps.accuracy == 75.59
    assert "MAGIC" in eps.note


@pytest.mark.parametrize("name", list(ENTRIES))
def test_every_architecture_of_the_table_can_be_built(name: str) -> None:
    entry = ENTRIES[name]
    shapes = architectures._own_shapes(entry.architecture, 1000)
    assert shapes
    assert len(entry.mean) == len(entry.std) == 3
    assert entry.licence
    assert entry.paper


def test_names_are_found_however_the_radius_is_written() -> None:
    assert find("resnet50-l2-eps3.0") is ENTRIES["resnet50-l2-eps3"]
    assert find("resnet50-linf-eps4") is ENTRIES["resnet50-linf-eps4.0"]
    assert find("resnet50-l2-eps3.01") is None
    assert find("resnet50") is None
    assert near("resnet50-l2-eps0.06") == ["resnet50-l2-eps0.05"]


def test_filters() -> None:
    assert {e.architecture for e in select(architecture="resnet50")} == {"resnet50"}
    assert {e.architecture for e in select(architecture="wide")} == {
        "wide_resnet50_2", "wide_resnet50_4",
    }  # fmt: skip
    assert all(e.eps == 0.5 for e in select(eps=0.5))
    assert all(e.eps <= 0.05 for e in select(max_eps=0.05))
    assert all(e.eps == 0 or e.norm == "none" for e in select(norm="none"))
    assert len(select(norm="none")) > 8
    assert [e.name for e in select(words=["aaai"])] == ["resnet50-l2-eps0.05"]
    assert select(words=["no such word"]) == []
    assert select() == list(ENTRIES.values())


def test_listing_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from unittest import mock\n"
        "from invertkit.cli import main\n"
        "for words in (['models'], ['models', 'show', 'resnet50-l2-eps0.05'], ['models', '--json'],"
        " ['--help'], ['models', 'fetch', 'embedded']):\n"
        "    with mock.patch.object(sys, 'argv', ['invertkit', *words]):\n"
        "        try: main()\n"
        "        except SystemExit as end: assert not end.code, end.code\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip().endswith("False")


# ---------------------------------------------------------------------- by one word


def test_the_embedded_classifier_says_what_it_is() -> None:
    classifier = embedded()
    assert len(classifier.classes) == 10
    assert "automobile" in classifier.classes
    assert classifier.description.startswith("the embedded KitNet (10 classes, l2 ε = 0.05 at ")
    assert logits(classifier).shape == (1, 10)
    for layer in classifier.resolve(["default"]):
        assert classifier.layer(layer) is not None
    assert open_classifier("embedded").description == classifier.description


@pytest.mark.parametrize(
    ("word", "is_file"),
    [
        ("resnet50-l2-eps0.05", False), ("timm:resnet50.a1_in1k", False), ("resnet50", False),
        ("hf-hub:own/model", False), ("torchvision:resnet50.IMAGENET1K_V1", False),
        ("model.safetensors", True), ("runs/x/classifier.safetensors", True), ("w.ckpt", True),
        ("checkpoint.pt.latest", True), ("./w", True), ("w.pth.tar", True),
    ],
)  # fmt: skip
def test_words_that_name_files(word: str, is_file: bool) -> None:  # noqa: FBT001
    assert is_file_name(word) is is_file


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


def test_a_timm_classifier_has_the_normalisation_and_layers_of_its_own() -> None:
    classifier = open_classifier("timm:resnet10t", pretrained=False)
    assert classifier.mean == pytest.approx((0.485, 0.456, 0.406), abs=1e-3)
    assert set(classifier.default_layers) >= {"layer1", "layer2", "layer3"}
    assert classifier.resolve(["default"]) == classifier.default_layers


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


def test_weights_that_are_not_in_the_cache_are_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"The weights of timm's {TIMM} are not in the cache"):
        from_timm(name=TIMM)
    with pytest.raises(WeightsError, match=r"cannot be fetched \(HF_HUB_OFFLINE is set\)"):
        open_classifier("resnet50-l2-eps0.05")
    with pytest.raises(WeightsError, match=r"fetch https://download.pytorch.org/models/shuffle"):
        open_classifier(f"torchvision:{SMALL}")


@pytest.mark.parametrize("name", ["resnet51-l2-eps1", "resnet50-l2-eps", "resnet50-l2-eps0.06"])
def test_a_robust_name_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="expected ARCHITECTURE-NORM-epsRADIUS such as") as caught:
        open_classifier(name)
    assert "Did you mean 'resnet" in str(caught.value)


def test_a_word_that_is_nothing_gets_a_suggestion_of_both_lists() -> None:
    with pytest.raises(RecipeError, match=r"timm has no classifier 'resnet5x'\. Did you mean"):
        open_classifier("resnet5x")
    with pytest.raises(RecipeError, match="Or, of the catalogue, 'resnet50-l2-eps0"):
        open_classifier("resnet50-l2-ep0.05")


# ---------------------------------------------------------------------- robust, by file


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


# ---------------------------------------------------------------------- local files


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


# ---------------------------------------------------------------------- hostile files


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
