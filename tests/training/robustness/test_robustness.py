from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from invertkit.errors import InputError, ShapeError
from invertkit.models.classifiers.open import open_classifier
from invertkit.training.data.photographs import PhotographSet, plain_batches, resized
from invertkit.training.robustness import accuracy as accuracy_module
from invertkit.training.robustness import autoattack as autoattack_module
from invertkit.training.robustness import robustness as robustness_module
from invertkit.training.robustness.accuracy import class_numbers, measure_classifiers, shown
from invertkit.training.robustness.accuracy_plan import AccuracyPlan
from invertkit.training.robustness.attack import Attack
from invertkit.training.robustness.autoattack import autoattack
from invertkit.training.robustness.pgd import pgd
from invertkit.training.robustness.robustness import (
    RobustAccuracy,
    every,
    fooled,
    inside,
    measuring_attack,
    robust_accuracy,
    still_right,
    table,
)
from tests.faces import invertkit
from tests.helpers import KITNET, global_generators_unmoved, normal, tiny_classifier, uniform

Norm = Literal["l2", "linf"]
norms = st.sampled_from(["l2", "linf"])


class Linear(nn.Module):
    """Logits that are linear in the image: how far each other class is can be written down."""

    def __init__(self, classes: int = 5, side: int = 8, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weights = nn.Parameter(normal(classes, 3 * side * side, seed=3, dtype=dtype))

    def forward(self, images: Tensor) -> Tensor:
        return (images - 0.5).flatten(1) @ self.weights.T

    def distances(self, images: Tensor, labels: Tensor, norm: Norm) -> Tensor:
        """Of each image to the nearest change of its class, without the box."""
        logits = self(images).detach()
        found = []
        for row, label in zip(logits, labels, strict=True):
            others = [j for j in range(len(row)) if j != label]
            differences = self.weights[label] - self.weights[others]
            dual = differences.abs().sum(1) if norm == "linf" else differences.norm(dim=1)
            found.append(((row[label] - row[others]) / dual).min())
        return torch.stack(found).detach()


def grey(count: int, *, side: int = 8, dtype: torch.dtype = torch.float32) -> Tensor:
    """Images whose values are all far from 0 and 1."""
    return 0.5 + 0.1 * (uniform(count, 3, side, side, seed=8, dtype=dtype) - 0.5)


def labelled(model: nn.Module, *, size: int) -> PhotographSet:
    """Twelve photographs of 8×8; of their labels three are wrong for the model at `size`."""
    images = (uniform(12, 3, 8, 8, seed=4) * 255).to(torch.uint8)
    labels = model(resized(images / 255, size)).argmax(1)
    labels[::4] = (labels[::4] + 1) % 5
    return PhotographSet(images, labels, ("ant", "bee", "cat", "dog", "eel"))


# ---------------------------------------------------------------------- counting


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_it_counts_what_a_loop_over_photographs_counts(norm: Norm) -> None:
    model = Linear(side=16)
    photographs = labelled(model, size=16)
    radii = [0.0, 0.02, 0.1, 20.0] if norm == "l2" else [0.0, 0.001, 0.004, 0.9]
    right = [0] * len(radii)
    for images, labels in plain_batches(photographs, batch=1, size=16):
        for i, radius in enumerate(radii):
            was = bool(still_right(model, images, labels))
            attack = Attack(norm, radius, 3, 2.5 * radius / 3)
            right[i] += was and bool(still_right(model, pgd(attack, model, images, labels), labels))
    measured = robust_accuracy(
        model, photographs, radii=radii, norm=norm, attack="pgd-3", size=16, batch=5
    )
    assert [one.right for one in measured] == right
    assert [one.attack for one in measured] == ["none", "pgd-3", "pgd-3", "pgd-3"]
    assert {one.count for one in measured} == {12}
    assert right[0] == 9
    assert 0 < right[2] < 9
    assert right[3] == 0
    given_batches = robust_accuracy(
        model, plain_batches(photographs, batch=4, size=16), radii=radii, norm=norm, attack="pgd-3"
    )
    assert given_batches == measured


@given(norm=norms, eps=st.floats(0.001, 2))
def test_a_linear_model_is_right_exactly_where_no_class_is_near(norm: Norm, eps: float) -> None:
    model, images = Linear(dtype=torch.float64), grey(8, dtype=torch.float64)
    eps = eps if norm == "l2" else eps / 10
    labels = model(images).argmax(1)
    far = model.distances(images, labels, norm)
    if ((far - eps).abs() < 0.03 * eps).any():
        return  # PGD comes near the edge, not onto it
    (measured,) = robust_accuracy(
        model, [(images, labels)], radii=[eps], norm=norm, attack="pgd-40"
    )
    if eps < 0.4:  # away from the box
        assert measured.right == int((far > eps).sum())


def test_photographs_that_are_wrong_already_are_not_attacked() -> None:
    model, seen = Linear(), list[int]()
    handle = model.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    images = grey(6)
    labels = model(images).argmax(1)
    labels[:4] = (labels[:4] + 1) % 5
    seen.clear()
    robust_accuracy(model, [(images, labels)], radii=[0.1], attack="pgd-2")
    handle.remove()
    assert seen == [6, 2, 2, 2, 2]


def test_the_model_is_left_in_the_mode_it_was_in() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), Linear(), nn.Dropout()).train()
    model[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    robust_accuracy(model, [(grey(4), torch.zeros(4, dtype=torch.long))], radii=[0, 0.1])
    assert [part.training for part in model] == [False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(InputError, match="labels: expected classes 0 to 4 of the model, got 7 to"):
        robust_accuracy(model, [(grey(1), torch.tensor([7]))], radii=[0.0])
    assert [part.training for part in model] == [False, True, True]


@given(norm=norms, eps=st.floats(0.01, 1), share=st.floats(0, 3))
def test_only_points_of_the_ball_and_the_box_count(norm: Norm, eps: float, share: float) -> None:
    images = torch.full((2, 3, 4, 4), 0.5)
    offset = normal(2, 3, 4, 4, dtype=torch.float32)
    flat = offset.flatten(1)
    length = flat.norm(dim=1) if norm == "l2" else flat.abs().amax(1)
    points = images + share * eps * offset / length[:, None, None, None]
    in_box = ((points >= 0) & (points <= 1)).flatten(1).all(1)
    if abs(share - 1) > 1e-3:
        assert torch.equal(inside(points, images, norm, eps), in_box & torch.tensor(share < 1))
    points[0, 0, 0, 0] = torch.nan
    assert not inside(points, images, norm, eps)[0]
    assert not inside(images + 2, images + 2, norm, eps).any()


def test_a_point_beyond_the_ball_fools_nobody() -> None:
    model, images = Linear(), grey(4)
    labels = model(images).argmax(1)
    eps = 2 * float(model.distances(images, labels, "l2").max())
    points = pgd(Attack("l2", eps, 10), model, images, labels)
    assert fooled(model, points, images, labels, "l2", eps).all()
    assert not fooled(model, points, images, labels, "l2", eps / 2).any()
    assert not fooled(model, images, images, labels, "l2", eps).any()


def test_numbers_with_their_errors() -> None:
    one = RobustAccuracy("l2", 0.25, "pgd-20", right=632, count=1000)
    assert one.share == 0.632
    assert one.standard_error == pytest.approx((0.632 * 0.368 / 1000) ** 0.5)
    assert str(one) == "63.20 ± 1.53 %"
    clean = RobustAccuracy("l2", 0.0, "none", right=900, count=1000)
    assert table({"first": (clean, one), "b": (clean, clean)}).split("\n") == [
        "| classifier | clean          | l2 ε = 0.25    |",
        "| ---------- | -------------- | -------------- |",
        "| first      | 90.00 ± 0.95 % | 63.20 ± 1.53 % |",
        "| b          | 90.00 ± 0.95 % | 90.00 ± 0.95 % |",
    ]
    attack = measuring_attack("linf", 0.1)
    assert (attack.steps, attack.step_size) == (20, pytest.approx(0.0125))


def test_every_third_photograph() -> None:
    photographs = labelled(Linear(), size=8)
    fewer = every(photographs, 3)
    assert torch.equal(fewer.images, photographs.images[[0, 3, 6, 9]])
    assert torch.equal(fewer.labels, photographs.labels[[0, 3, 6, 9]])
    assert fewer.classes == photographs.classes
    with pytest.raises(InputError, match="every: expected a whole number from 1, got 0"):
        every(photographs, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radii": []}, "radii: expected at least one radius, got none"),
        ({"radii": [-1.0]}, "eps: expected a finite number not below 0, got -1.0"),
        ({"norm": "l1"}, "norm: expected l2 or linf, got 'l1'"),
        ({"attack": "pgd-0"}, "attack: expected pgd-N with N steps, such as pgd-20, or autoattack"),
        ({"attack": "fgsm"}, "got 'fgsm'"),
        ({"photographs": []}, "photographs: there are none to measure on"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(options: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {
        "photographs": [(grey(1), torch.tensor([0]))], "radii": [0.0], "norm": "l2"
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        robust_accuracy(Linear(), **{**usual, **options})


def test_a_model_without_logits_is_a_sentence() -> None:
    with pytest.raises(ShapeError, match=r"model: expected logits of shape \(2, classes\), got"):
        robust_accuracy(nn.Identity(), [(grey(2), torch.tensor([0, 0]))], radii=[0.0])


# ---------------------------------------------------------------------- AutoAttack


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_autoattack_fools_a_linear_model_exactly_where_a_class_is_near(norm: Norm) -> None:
    model, images = Linear(), grey(8)
    labels = model(images).argmax(1)
    far = model.distances(images, labels, norm)
    order = far.argsort()
    eps = float(far[order[-2:]].mean())  # all but the farthest can be fooled
    random_numbers = torch.get_rng_state()
    trace = sys.gettrace()
    with global_generators_unmoved():
        points = autoattack(model, images, labels, norm=norm, eps=eps)
    assert sys.gettrace() is trace
    assert torch.equal(torch.get_rng_state(), random_numbers)
    assert inside(points, images, norm, eps).all()
    assert torch.equal(model(points).argmax(1) == labels, far > eps)
    assert torch.equal(points[far > eps], images[far > eps])


def test_autoattack_depends_on_its_seed_alone() -> None:
    model, images = Linear(classes=12), grey(6)
    labels = model(images).argmax(1)
    layout = images.to(memory_format=torch.channels_last)
    first = autoattack(model, images, labels, norm="l2", eps=1.0, seed=0)
    torch.rand(3)
    assert torch.equal(first, autoattack(model, layout, labels, norm="l2", eps=1.0, seed=0))
    assert not torch.equal(first, autoattack(model, images, labels, norm="l2", eps=1.0, seed=1))
    assert autoattack(model, images[:0], labels[:0], norm="l2", eps=1.0).shape == (0, 3, 8, 8)


def test_autoattack_works_through_convolutions_in_channels_last_order() -> None:
    model = tiny_classifier(torch.float32).to(memory_format=torch.channels_last)
    images = uniform(3, 3, 16, 16, dtype=torch.float32)
    labels = model(images).argmax(1)
    measured = robust_accuracy(
        model, [(images, labels)], radii=[0.0, 8.0], attack="autoattack", norm="l2"
    )
    by_pgd = robust_accuracy(model, [(images, labels)], radii=[0.0, 8.0], norm="l2")
    assert [one.attack for one in measured] == ["none", "autoattack"]
    assert measured[0].right == 3
    assert measured[1].right <= by_pgd[1].right


def test_autoattack_says_what_it_cannot_attack() -> None:
    images, labels = grey(2), torch.tensor([0, 1])
    with pytest.raises(InputError, match="compare four classes, and the model has 3"):
        autoattack(Linear(classes=3), images, labels, norm="l2", eps=1.0)
    with pytest.raises(InputError, match="expected square images of at least 5 pixels a side"):
        autoattack(Linear(), images[..., :4], labels, norm="l2", eps=1.0)


def test_a_missing_extra_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)  # as if it were not installed
    with pytest.raises(
        InputError, match=r"not installed\. Run `pip install 'invertkit\[attack\]'`"
    ):
        robust_accuracy(Linear(), [], radii=[0.1], attack="autoattack")


def test_autoattack_is_imported_only_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyautoattack", "art"):
        monkeypatch.setitem(sys.modules, name, None)  # importing it now fails
    before = np.random.get_state()[1].tolist()
    for module in (accuracy_module, autoattack_module, robustness_module):
        spec = importlib.util.spec_from_file_location("afresh", module.__file__)
        assert spec is not None
        assert spec.loader is not None
        afresh = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "afresh", afresh)  # dataclasses look there
        spec.loader.exec_module(afresh)
    robust_accuracy(Linear(), [(grey(2), torch.tensor([0, 1]))], radii=[0.0, 0.1])
    assert np.random.get_state()[1].tolist() == before


# ---------------------------------------------------------------------- opened classifiers


@pytest.mark.parametrize(
    ("wanted", "known", "numbers"),
    [
        (["cat", "ant"], ["ant", "bee", "cat"], (2, 0)),
        (["Tabby_cat"], ["ant", "tabby cat"], (1,)),
    ],
)
def test_classes_are_matched_by_name(
    wanted: Sequence[str], known: Sequence[str], numbers: tuple[int, ...]
) -> None:
    assert class_numbers(wanted, known, data="d", classifier="c") == numbers


def test_classes_of_imagenet_may_be_numbered() -> None:
    from torchvision.models import ResNet18_Weights

    known = ResNet18_Weights.DEFAULT.meta["categories"]
    found = class_numbers(["n01440764", "n02123045"], known, data="d", classifier="c")
    assert [known[i] for i in found] == ["tench", "tabby"]
    assert class_numbers(["tench"], known, data="d", classifier="c") == (0,)


@pytest.mark.parametrize(
    ("wanted", "known", "message"),
    [
        (["cat", "gnu"], ["ant", "cat"], "d: gnu is not among the 2 classes of c .ant, cat."),
        (["ant"], [], "c: does not say which classes it knows"),
        (["crane"], ["crane", "crane"], "d: crane is the name of more than one class of c"),
        (["n01440764"], ["ant", "cat"], "d: n01440764 is not among the 2 classes of c"),
    ],
)
def test_classes_that_do_not_fit_are_a_sentence(
    wanted: Sequence[str], known: Sequence[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        class_numbers(wanted, known, data="d", classifier="c")


def test_what_a_classifier_sees_of_a_picture() -> None:
    """The central square, whole or cut at its borders, whatever the picture's shape."""
    rows = torch.arange(40).reshape(1, 40, 1).expand(3, 40, 60)
    columns = torch.arange(60).reshape(1, 1, 60).expand(3, 40, 60)
    for ramp, first in ((rows, 0), (columns, 10)):
        picture = Image.fromarray((ramp * 4).permute(1, 2, 0).numpy().astype(np.uint8))
        whole = shown(picture, size=40, crop=1.0)
        values = ramp[:, :, 10:50].float() * 4 / 255
        assert torch.allclose(whole, values, atol=1e-6)
        part = shown(picture, size=20, crop=0.5)
        assert torch.equal(part, whole[:, 10:30, 10:30])
        assert float(whole.amin()) == pytest.approx(first * 4 / 255)
        assert shown(picture, size=16, crop=0.875).shape == (3, 16, 16)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two pictures of noise of each of three classes of the small classifier."""
    numbers = np.random.default_rng(0)
    for name in ("Ship", "cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(2):
            values = numbers.integers(0, 255, (20, 24, 3)).astype(np.uint8)
            Image.fromarray(values).save(tmp_path / "pictures" / name / f"{i}.png")
    return tmp_path / "pictures"


def test_opened_classifiers_are_measured_on_their_own_size(pictures: Path) -> None:
    plan = AccuracyPlan(radii=(0.0, 0.3), attack="pgd-2", batch=4)
    (one,) = measure_classifiers([str(KITNET)], pictures, plan)
    assert one.size == 64
    assert one.crop == 1.0
    model = open_classifier(KITNET)
    right = [0, 0]
    for name in ("Ship", "cat", "dog"):
        for i in range(2):
            with Image.open(pictures / name / f"{i}.png") as picture:
                image = shown(picture, size=one.size, crop=1.0)[None]
            label = torch.tensor([model.classes.index(name.lower())])
            kept = bool(still_right(model, image, label))
            point = pgd(Attack("l2", 0.3, 2, 0.375), model, image, label)
            right[0] += kept
            right[1] += kept and bool(still_right(model, point, label))
    assert [result.right for result in one.results] == right
    assert [result.count for result in one.results] == [6, 6]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "expected whole numbers from 1, got every 0"),
        ({"batch": 0}, "expected whole numbers from 1"),
        ({"size": 0}, "expected whole numbers from 1"),
        ({"size": 1}, "size: .*kitnet.safetensors cannot take images of 1×1 .* made for 64×64"),
        ({"crop": 1.5}, "crop: expected a share above 0 and at most 1, got 1.5"),
        ({"attack": "none"}, "attack: expected pgd-N"),
        ({"names": [str(KITNET), str(KITNET)]}, "expected each classifier once"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(
    pictures: Path, options: dict[str, Any], message: str
) -> None:
    given = {"names": [str(KITNET)], "data": pictures, **options}
    names, data = given.pop("names"), given.pop("data")

    def measured() -> None:
        measure_classifiers(names, data, AccuracyPlan(**given))

    with pytest.raises(InputError, match=message):
        measured()


def test_the_command_prints_a_table_and_writes_numbers(pictures: Path, tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.json"
    answer = invertkit(
        "models", "accuracy", KITNET, "--data", pictures, "--eps", 0, "--eps", 0.1,
        "--attack", "pgd-1", "--every", 2, "--size", 16, "--json", numbers, "--device", "cpu",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    lines = answer.out.split("\n")
    assert lines[0].replace(" ", "").startswith("|classifier|clean|")
    assert "l2 ε = 0.1" in lines[0]
    assert lines[2].startswith(f"| {KITNET} ")
    assert "3 pictures; accuracy ± standard error; pgd-1; ε for images in [0, 1]" in answer.out
    assert "at the input size, 16×16." in answer.out
    assert f"{KITNET}: 3 photographs: " in answer.err
    read = json.loads(numbers.read_text())
    assert (read["every"], read["seed"], read["data"]) == (2, 0, str(pictures))
    (row,) = read["classifiers"]
    assert row["size"] == 16
    assert [result["eps"] for result in row["results"]] == [0.0, 0.1]
    assert all(result["count"] == 3 for result in row["results"])
    assert f"{100 * row['results'][1]['accuracy']:.2f} ±" in lines[2]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--norm", "l1"], "norm: expected l2 or linf, got 'l1'."),
        (["--eps", "-1"], "eps: expected a finite number not below 0, got -1.0."),
        (["--attack", "cw"], "attack: expected pgd-N"),
        (["--json", "no/such/folder.json"], "no/such/folder.json: cannot be written"),
        (["--data", "nowhere"], "nowhere: no such folder or zip file."),
    ],
)
def test_a_mistake_on_the_command_line_is_a_sentence(
    pictures: Path, options: list[str], sentence: str
) -> None:
    usual = [] if "--data" in options else ["--data", str(pictures)]
    answer = invertkit("models", "accuracy", KITNET, *usual, *options)
    assert sentence in answer.sentence
