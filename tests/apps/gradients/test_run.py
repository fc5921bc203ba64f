from __future__ import annotations

import csv
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from invertkit.apps.gradients.input_gradient import input_gradient
from invertkit.apps.gradients.run import gradients
from invertkit.apps.gradients.table import NUMBERS, Gradients, shown
from invertkit.apps.labels import named_classifiers
from invertkit.core.images.save import to_picture
from invertkit.errors import InputError, WeightsError
from invertkit.metrics.gradients import (
    edge_alignment,
)
from tests.faces import invertkit
from tests.helpers import KITNET, global_generators_unmoved, tiny_classifier, uniform


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    paths = []
    for i in range(3):
        paths.append(tmp_path / f"photo{i}.png")
        image = F.interpolate(uniform(1, 3, 7, 8, seed=i, dtype=torch.float32), (28, 32))
        to_picture(image[0]).save(paths[-1])
    return paths


def folder_of_classes(folder: Path, names: tuple[str, ...], each: int = 3) -> Path:
    for k, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            image = uniform(3, 20, 20, seed=10 * k + i, dtype=torch.float32)
            to_picture(image).save(folder / name / f"{i}.png")
    return folder


def tiny(**changes: Any) -> Gradients:
    options = {"classifiers": {"tiny": tiny_classifier(torch.float32)}, "size": 16,
               "progress": False, **changes}  # fmt: skip
    images = options.pop("images", None)
    return gradients(images, **options)


def test_every_photograph_meets_every_classifier(photographs: list[Path]) -> None:
    two = {"a": tiny_classifier(torch.float32), "b": tiny_classifier(torch.float64)}
    with global_generators_unmoved():
        result = tiny(images=photographs, classifiers=two, fit="stretch")
    order = [(cell.photograph, cell.classifier) for cell in result.cells]
    assert order == [(f"photo{i}", name) for i in range(3) for name in "ab"]
    cell = result.of("photo1", "a")
    assert cell.image is not None
    assert cell.gradient is not None
    assert cell.image.shape == cell.gradient.shape == (3, 16, 16)
    classifier = two["a"]
    label = classifier(cell.image[None]).argmax(1)
    exact, logits = input_gradient(classifier, cell.image[None], label)
    assert torch.allclose(cell.gradient, exact[0], rtol=1e-4)
    assert cell.label == cell.predicted == label.item()
    assert cell.class_name == classifier.classes[cell.label]
    assert cell.loss == pytest.approx(F.cross_entropy(logits, label).item(), rel=1e-4)
    assert cell.probability == pytest.approx(math.exp(-cell.loss))
    assert cell.norm == pytest.approx(exact.norm().item(), rel=1e-4)
    alignment = edge_alignment(exact, cell.image[None]).item()
    assert cell.alignment == pytest.approx(alignment, rel=1e-3)
    other = result.of("photo1", "b")
    for number in NUMBERS:
        assert getattr(other, number) == pytest.approx(getattr(cell, number), rel=1e-2, abs=1e-3)


def test_a_batch_gives_what_one_by_one_does(photographs: list[Path]) -> None:
    together, alone = (tiny(images=photographs, batch=batch) for batch in (16, 1))
    for a, b in zip(together.cells, alone.cells, strict=True):
        assert a.gradient is not None
        assert b.gradient is not None
        assert torch.allclose(a.gradient, b.gradient, rtol=1e-3, atol=1e-9)
        assert a.alignment == pytest.approx(b.alignment, rel=1e-4)


def test_the_kept_shape_is_that_of_the_photograph(photographs: list[Path]) -> None:
    cell = tiny(images=photographs[0], fit="keep").cells[0]
    assert cell.image is not None
    assert cell.image.shape == (3, 15, 17)


@pytest.mark.parametrize(
    ("label", "expected"), [("cat", 2), (4, 4), ("3", 3), ("predicted", None), (None, None)]
)
def test_the_class_may_be_a_name_a_number_or_predicted(
    photographs: list[Path], label: Any, expected: int | None
) -> None:
    for cell in tiny(images=photographs, label=label).cells:
        assert cell.label == (cell.predicted if expected is None else expected)


def test_folders_name_the_classes_where_every_classifier_knows_them(tmp_path: Path) -> None:
    data = folder_of_classes(tmp_path / "known", ("cat", "eel"))
    known = tiny(data=data)
    assert [cell.label for cell in known.cells] == [2, 2, 2, 4, 4, 4]
    right = sum(cell.predicted == cell.label for cell in known.cells) / 6
    assert known.means()[0].accuracy == pytest.approx(right)
    assert tiny(data=data, label="predicted").means()[0].accuracy is None
    other = tiny(data=folder_of_classes(tmp_path / "unknown", ("cat", "unicorn")))
    assert all(cell.label == cell.predicted for cell in other.cells)


def test_a_zip_and_a_flat_folder_are_read_too(tmp_path: Path) -> None:
    data = folder_of_classes(tmp_path / "data", ("cat", "eel"))
    packed = tmp_path / "data.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(data.rglob("*.png")):
            archive.write(path, path.relative_to(data).as_posix())
    from_zip, from_folder = tiny(data=packed), tiny(data=data)
    assert from_zip.photographs == from_folder.photographs == (
        "cat/0", "cat/1", "cat/2", "eel/0", "eel/1", "eel/2",
    )  # fmt: skip
    assert [c.norm for c in from_zip.cells] == [c.norm for c in from_folder.cells]
    assert tiny(data=data / "cat").photographs == ("0", "1", "2")


@pytest.mark.parametrize(
    ("every", "limit", "expected"),
    [(1, None, [0, 1, 2, 3, 4, 5]), (2, None, [0, 2, 4]), (1, 2, [0, 3]), (2, 2, [0, 2]),
     (1, 99, [0, 1, 2, 3, 4, 5])],
)  # fmt: skip
def test_some_of_the_photographs_are_taken_evenly(
    tmp_path: Path, every: int, limit: int | None, expected: list[int]
) -> None:
    data = folder_of_classes(tmp_path / "data", ("cat", "eel"))
    names = ("cat/0", "cat/1", "cat/2", "eel/0", "eel/1", "eel/2")
    result = tiny(data=data, every=every, limit=limit, show=1)
    assert result.photographs == tuple(names[i] for i in expected)
    kept = [cell.photograph for cell in result.cells if cell.image is not None]
    assert kept == ["cat/0"]


def test_means_have_their_standard_errors(tmp_path: Path) -> None:
    result = tiny(data=folder_of_classes(tmp_path / "data", ("cat", "eel")))
    (mean,) = result.means()
    values = torch.tensor([cell.low_frequency for cell in result.cells], dtype=torch.float64)
    assert mean.count == 6
    assert mean.low_frequency[0] == pytest.approx(values.mean().item())
    assert mean.low_frequency[1] == pytest.approx(values.std().item() / 6**0.5)
    assert f"{mean.low_frequency[0]:.3f} ± {mean.low_frequency[1]:.3f}" in result.table()


def test_a_flat_photograph_is_left_out_of_the_means(photographs: list[Path]) -> None:
    flat = torch.full((3, 16, 16), 0.5)
    result = tiny(images={"flat": flat, "photo": photographs[0]})
    assert math.isnan(result.of("flat", "tiny").alignment)
    assert result.means()[0].count == 1
    assert result.means()[0].alignment[0] == result.of("photo", "tiny").alignment


def test_the_folder_holds_pictures_and_numbers(tmp_path: Path, photographs: list[Path]) -> None:
    two = {"ε = 0": tiny_classifier(torch.float32), "ε/1": tiny_classifier(torch.float64)}
    flat = torch.full((3, 16, 16), 0.5)
    images = {"first": photographs[0], "flat/one": flat}
    result = tiny(images=images, classifiers=two, out=tmp_path / "out")
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "gradients.csv", "gradients.json", "means.csv", "pictures", "sheet.png",
    ]  # fmt: skip
    names = sorted(path.name for path in (out / "pictures").iterdir())
    assert len(names) == 4
    assert names[0] == "0-first_0-eps-=-0.png"
    with Image.open(out / "pictures" / names[0]) as picture:
        cell = result.cells[0]
        assert cell.gradient is not None
        assert picture.tobytes() == to_picture(shown(cell.gradient)).tobytes()
    page = json.loads((out / "gradients.json").read_text())
    assert page["gradients"][0]["alignment"] == pytest.approx(result.cells[0].alignment)
    assert page["gradients"][2]["alignment"] is None
    assert page["classifiers"]["ε = 0"] == "a tiny network"
    with (out / "gradients.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["classifier"] for row in rows] == ["ε = 0", "ε/1"] * 2
    assert float(rows[0]["low_frequency"]) == pytest.approx(result.cells[0].low_frequency)
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width == 3 * 160 + 2 * 4
    with pytest.raises(InputError, match="not empty"):
        result.save(out)


# ---------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": []}, "at least one photograph"),
        ({"images": torch.full((3, 20, 20), math.nan)}, "NaN"),
        ({"images": "nowhere.jpg"}, "no such file"),
        ({"data": "nowhere"}, "nowhere"),
        ({"images": [], "data": "x"}, "not both"),
        ({"label": "cap"}, "Did you mean 'cat'?"),
        ({"label": 5}, "from 0 to 4"),
        ({"label": -1}, "from 0 to 4"),
        ({"classifiers": []}, "at least one"),
        ({"classifiers": {}}, "at least one"),
        ({"classifiers": ["a=embedded", "a=embedded"]}, "two are called 'a'"),
        ({"classifiers": ["embedded", "embedded"]}, "two are called 'embedded'"),
        ({"size": 4}, "size"),
        ({"every": 0}, "every"),
        ({"limit": 0}, "limit"),
        ({"cutoff": 0.0}, "cutoff"),
        ({"cutoff": math.nan}, "cutoff"),
        ({"blur": -1.0}, "blur"),
        ({"fit": "squash"}, "expected stretch, crop, keep"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    image = uniform(3, 20, 20, dtype=torch.float32)
    options = {} if "data" in changes and "images" not in changes else {"images": image}
    with pytest.raises(InputError) as caught:
        tiny(**{**options, **changes}, out=tmp_path / "out")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_file_and_a_damaged_network_are_told_of(photographs: list[Path]) -> None:
    with pytest.raises(WeightsError, match="no such"):
        tiny(images=photographs, classifiers=["nowhere.safetensors"])
    with pytest.raises(InputError, match="is given twice"):
        tiny(images=[photographs[0], photographs[0]])
    broken = tiny_classifier(torch.float32)
    with torch.no_grad():
        next(broken.parameters()).fill_(math.nan)
    with pytest.raises(InputError, match="broken: its gradient on photo0 is not finite"):
        tiny(images=photographs, classifiers={"broken": broken})


def test_a_size_that_a_classifier_cannot_take_is_told_of(
    photographs: list[Path], tmp_path: Path
) -> None:
    narrow = nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 20, 5))
    with pytest.raises(InputError, match=r"size: narrow cannot take images of 16×16 \(.*mat1 .*\)"):
        tiny(images=photographs, classifiers={"narrow": narrow}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert tiny(images=photographs, classifiers={"narrow": narrow}, size=20).cells


def test_labels_come_from_words_and_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.safetensors").touch()
    paths = [str(tmp_path / folder / "net.safetensors") for folder in ("a", "b")]
    assert list(named_classifiers(paths)) == ["a/net", "b/net"]
    assert named_classifiers([f"ε=0={paths[0]}", "embedded"]) == {
        "ε=0": paths[0], "embedded": "embedded",
    }  # fmt: skip
    odd = tmp_path / "a=b.safetensors"
    odd.touch()
    assert named_classifiers([str(odd)]) == {"a=b": str(odd)}
    assert list(named_classifiers([tiny_classifier(), tiny_classifier()])) == [
        "Classifier 1", "Classifier 2",
    ]  # fmt: skip
    assert named_classifiers("embedded") == {"embedded": "embedded"}


# ---------------------------------------------------------------------- the command


def test_the_command_draws_the_sheet(tmp_path: Path, photographs: list[Path]) -> None:
    out = tmp_path / "out"
    answer = invertkit(
        "gradients", "--image", photographs[0], "--image", photographs[1], "--classifier",
        f"one={KITNET}", "--classifier", f"file={KITNET}", "--class", "cat", "--size", 32,
        "--out", out,
    )  # fmt: skip
    assert answer.code == 0, answer
    assert answer.out == f"{out / 'sheet.png'}\n"
    assert "edge alignment" in answer.err
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width == 3 * 160 + 2 * 4
    page = json.loads((out / "gradients.json").read_text())
    assert [mean["classifier"] for mean in page["means"]] == ["one", "file"]
    assert {cell["class_name"] for cell in page["gradients"]} == {"cat"}
    by_name = {cell["classifier"]: cell["norm"] for cell in page["gradients"][:2]}
    assert by_name["one"] == by_name["file"]


def test_without_a_photograph_the_command_takes_the_demonstration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = invertkit("gradients", "-q", "--size", 32)
    assert answer.code == 0, answer
    assert answer.err == ""
    (place,) = (tmp_path / "runs").iterdir()
    assert place.name.startswith("gradients-")
    assert answer.out == f"{Path('runs') / place.name / 'sheet.png'}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--image", "nowhere.jpg"], "nowhere.jpg: no such file."),
        (["--class", "golfdish"], "Did you mean 'goldfish'?"),
        (["--data", "nowhere"], "nowhere"),
        (["--classifier", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_the_commands_mistakes_are_one_sentence(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    out = tmp_path / "out"
    answer = invertkit("gradients", "-q", *arguments, "--out", out)
    assert words in answer.sentence
    assert not out.exists()
