from __future__ import annotations

import csv
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.apps.gradients.run import gradients, input_gradient
from invertkit.apps.gradients.table import NUMBERS, Gradients, shown
from invertkit.apps.labels import named_classifiers
from invertkit.core.images.demo import demo_inputs
from invertkit.core.images.save import to_picture
from invertkit.errors import InputError, WeightsError
from invertkit.metrics.gradients import (
    edge_alignment,
    edges,
    low_frequencies,
    low_frequency_share,
    orientation_agreement,
)
from invertkit.models.classifiers.classifier import Classifier
from invertkit.models.classifiers.sources.embedded import EMBEDDED
from tests.faces import invertkit
from tests.helpers import global_generators_unmoved, normal, tiny_classifier, uniform

SHAPES = st.tuples(st.integers(1, 3), st.integers(6, 17), st.integers(6, 17))
SEEDS = st.integers(0, 9)
METRICS = [edge_alignment, orientation_agreement, lambda g, x: low_frequency_share(g)]


def bars(size: tuple[int, int] = (24, 20)) -> Tensor:
    """Upright bars, brighter towards the right: edges of all strengths."""
    columns = torch.arange(size[1], dtype=torch.float64)
    row = ((columns // 4) % 2) * columns / size[1]
    return row.expand(1, 3, *size).clone()


# ---------------------------------------------------------------------- the numbers


@pytest.mark.parametrize("metric", METRICS)
@given(shape=SHAPES, seed=SEEDS, power=st.integers(-30, 30))
def test_no_number_depends_on_the_gradients_scale(
    metric: Any, shape: tuple[int, int, int], seed: int, power: int
) -> None:
    gradient, image = normal(2, *shape, seed=seed), uniform(2, 3, *shape[1:], seed=seed)
    scaled = metric(gradient * 10.0**power, image)
    assert torch.allclose(scaled, metric(gradient, image), rtol=1e-9, atol=1e-9)
    assert torch.allclose(metric(-gradient, image), metric(gradient, image))


@pytest.mark.parametrize("metric", METRICS)
@given(shape=SHAPES, seed=SEEDS)
def test_every_number_is_in_its_range_and_its_own_images(
    metric: Any, shape: tuple[int, int, int], seed: int
) -> None:
    gradient, image = normal(3, *shape, seed=seed), uniform(3, 3, *shape[1:], seed=seed)
    together = metric(gradient, image)
    low = 0 if metric is METRICS[2] else -1
    assert ((together >= low) & (together <= 1)).all()
    alone = [metric(gradient[i : i + 1], image[i : i + 1]) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-9)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("axes", [(2,), (3,), (2, 3)])
@given(shape=SHAPES, seed=SEEDS)
def test_mirrored_pictures_have_the_same_numbers(
    metric: Any, axes: tuple[int, ...], shape: tuple[int, int, int], seed: int
) -> None:
    gradient, image = normal(1, *shape, seed=seed), uniform(1, 3, *shape[1:], seed=seed)
    mirrored = metric(gradient.flip(axes), image.flip(axes))
    assert torch.allclose(mirrored, metric(gradient, image), rtol=1e-9, atol=1e-12)


@given(shape=SHAPES, seed=SEEDS, blur=st.sampled_from([0.0, 0.7, 1.0, 2.5]))
def test_a_gradient_that_is_the_images_edges_is_aligned(
    shape: tuple[int, int, int], seed: int, blur: float
) -> None:
    image = uniform(1, 3, *shape[1:], seed=seed)
    own = edges(image) * 3
    assert edge_alignment(own, image, blur=blur).item() == pytest.approx(1, abs=1e-9)
    noise = normal(1, 1, *shape[1:], seed=seed).sign()
    assert edge_alignment(own * noise, image, blur=blur).item() == pytest.approx(1, abs=1e-9)
    colours = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64).reshape(1, 3, 1, 1)
    assert edge_alignment(own * colours, image, blur=blur).item() == pytest.approx(1, abs=1e-9)


def test_a_gradient_beside_the_edges_is_not_aligned() -> None:
    image = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    image[..., 16:] = 1
    beside = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    beside[..., 4:6] = 1
    assert edge_alignment(beside, image).item() < 0
    assert edge_alignment(beside.roll(11, 3), image).item() > 0.9


def test_noise_is_neither_aligned_nor_oriented() -> None:
    image = uniform(1, 3, 64, 64).cumsum(3).fmod(7) / 7
    noise = normal(40, 3, 64, 64)
    images = image.expand(40, -1, -1, -1)
    for metric in (edge_alignment, orientation_agreement):
        values = metric(noise, images)
        assert abs(values.mean()) < 4 * values.std() / 40**0.5 + 0.01


def test_strokes_along_the_edges_agree_and_strokes_across_them_disagree() -> None:
    image = bars((32, 32))
    along, across = image.flip(3), image.transpose(2, 3)
    assert orientation_agreement(along, image).item() == pytest.approx(1)
    assert orientation_agreement(across, image).item() < -0.9
    assert orientation_agreement(image + 5, image).item() == pytest.approx(1)


def test_oblique_strokes_have_their_angle_too() -> None:
    rows, columns = torch.meshgrid(*[torch.arange(48, dtype=torch.float64)] * 2, indexing="ij")
    falling, rising, upright = (
        torch.sin(wave * 0.4).expand(1, 3, 48, 48)
        for wave in (rows + columns, rows - columns, columns * 2**0.5)
    )
    assert orientation_agreement(falling, falling).item() > 0.95
    assert orientation_agreement(rising, falling).item() < -0.95
    assert abs(orientation_agreement(upright, falling).item()) < 0.1


@given(shape=SHAPES, seed=SEEDS)
def test_edges_agree_with_a_slow_loop(shape: tuple[int, int, int], seed: int) -> None:
    image = uniform(1, *shape, seed=seed)
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")[0]
    across = {-1: 0.25, 0: 0.5, 1: 0.25}
    y, x = shape[1] // 2, shape[2] - 1
    total = 0.0
    for channel in padded:
        at = {(i, j): channel[y + 1 + i, x + 1 + j].item() for i in across for j in across}
        total += sum(across[i] * (at[i, 1] - at[i, -1]) / 2 for i in across) ** 2
        total += sum(across[j] * (at[1, j] - at[-1, j]) / 2 for j in across) ** 2
    assert edges(image)[0, 0, y, x].item() == pytest.approx(math.sqrt(total))


@given(shape=SHAPES, seed=SEEDS, cutoff=st.sampled_from([0.1, 0.25, 0.5, 0.9]))
def test_low_and_high_frequencies_add_up(
    shape: tuple[int, int, int], seed: int, cutoff: float
) -> None:
    gradient = normal(1, *shape, seed=seed)
    inside = low_frequencies(*shape[1:], cutoff=cutoff)
    low, high = (
        torch.fft.ifft2(torch.fft.fft2(gradient) * part).real for part in (inside, 1 - inside)
    )
    whole = gradient.square().sum()
    assert torch.allclose(low.square().sum() + high.square().sum(), whole)
    share = low_frequency_share(gradient, cutoff=cutoff).item()
    assert share == pytest.approx((low.square().sum() / whole).item())
    assert low_frequency_share(low, cutoff=cutoff).item() == pytest.approx(1)
    if high.abs().max() > 1e-9:
        assert low_frequency_share(high, cutoff=cutoff).item() == pytest.approx(0, abs=1e-9)
    assert low_frequency_share(gradient, cutoff=2**0.5).item() == pytest.approx(1)


@pytest.mark.parametrize("cutoff", [0.2, 0.25, 0.5, 1.0])
def test_white_noise_has_the_share_of_the_discs_area(cutoff: float) -> None:
    shares = low_frequency_share(normal(64, 3, 48, 40), cutoff=cutoff)
    area = low_frequencies(48, 40, cutoff=cutoff).mean().item()
    assert abs(shares.mean().item() - area) < 4 * shares.std().item() / 8
    assert area == pytest.approx(math.pi * cutoff**2 / 4, rel=0.12)


def test_waves_are_low_up_to_the_cutoff_and_along_every_axis() -> None:
    steps = torch.arange(64, dtype=torch.float64)
    for period, low in ((16, 1), (8, 1), (4, 0), (2, 0)):
        wave = torch.cos(2 * math.pi * steps / period)
        for picture in (wave.expand(64, 64), wave[:, None].expand(64, 64)):
            share = low_frequency_share(picture[None, None], cutoff=0.25).item()
            assert share == pytest.approx(low, abs=1e-9)


def test_what_is_undefined_is_no_number() -> None:
    image, flat = uniform(1, 3, 9, 9), torch.full((1, 3, 9, 9), 0.5, dtype=torch.float64)
    none = torch.zeros_like(image)
    assert edge_alignment(none, image).isnan().all()
    assert edge_alignment(image, flat).isnan().all()
    assert low_frequency_share(none).isnan().all()
    assert orientation_agreement(none, image).isnan().all()


# ---------------------------------------------------------------------- the gradient


@given(seed=SEEDS, count=st.integers(1, 3))
def test_the_gradient_is_that_of_the_cross_entropy(seed: int, count: int) -> None:
    classifier, images = tiny_classifier(), uniform(count, 3, 16, 20, seed=seed)
    labels = torch.arange(count) % 5
    found, logits = input_gradient(classifier, images, labels)
    wanted = images.clone().requires_grad_()
    F.cross_entropy(classifier(wanted), labels, reduction="sum").backward()
    assert torch.allclose(found, wanted.grad, rtol=1e-9, atol=1e-15)  # type: ignore[arg-type]
    assert torch.allclose(logits, classifier(images))
    step = normal(count, 3, 16, 20, seed=seed + 1) * 1e-6
    change = F.cross_entropy(classifier(images + step), labels, reduction="sum") - F.cross_entropy(
        classifier(images - step), labels, reduction="sum"
    )
    assert change.item() == pytest.approx(2 * (found * step).sum().item(), rel=1e-3, abs=1e-12)


def test_a_certain_classifier_keeps_its_gradient() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))
    with torch.no_grad():
        net[1].weight.copy_(normal(3, 192, dtype=torch.float32))
        net[1].bias.copy_(torch.tensor([200.0, 0.0, 0.0]))
    classifier = Classifier(net, mean=(0, 0, 0), std=(1, 1, 1))
    image = uniform(1, 3, 8, 8, dtype=torch.float32) * 0.1
    label = torch.tensor([0])
    found, _ = input_gradient(classifier, image, label)
    exact, _ = input_gradient(classifier.double(), image.double(), label)
    assert 0 < exact.abs().max() < 1e-60
    assert torch.allclose(found, exact, rtol=1e-2, atol=0)
    assert edge_alignment(found, image).isfinite().all()


def test_a_picture_of_a_gradient_is_clipped_at_three_sigma() -> None:
    gradient = normal(3, 20, 20)
    gradient[0, 0, 0], gradient[1, 1, 1] = 50, -50
    mean, sigma = gradient.mean(), gradient.std(correction=0)
    picture = shown(gradient)
    assert picture[0, 0, 0] == 1
    assert picture[1, 1, 1] == 0
    inside = (gradient - mean).abs() < 3 * sigma
    straight = ((gradient - mean) / (6 * sigma) + 0.5).float()
    assert torch.allclose(picture[inside], straight[inside], atol=1e-6)
    assert torch.allclose(shown(gradient * 1e-20), picture, atol=1e-6)
    assert (shown(torch.zeros(3, 4, 4)) == 0.5).all()


# ---------------------------------------------------------------------- many at once


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
        "embedded", "--classifier", f"file={EMBEDDED}", "--class", "cat", "--size", 32,
        "--out", out,
    )  # fmt: skip
    assert answer.code == 0, answer
    assert answer.out == f"{out / 'sheet.png'}\n"
    assert "edge alignment" in answer.err
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.width == 3 * 160 + 2 * 4
    page = json.loads((out / "gradients.json").read_text())
    assert [mean["classifier"] for mean in page["means"]] == ["embedded", "file"]
    assert {cell["class_name"] for cell in page["gradients"]} == {"cat"}
    by_name = {cell["classifier"]: cell["norm"] for cell in page["gradients"][:2]}
    assert by_name["embedded"] == by_name["file"]


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
        (["--class", "kat"], "Did you mean 'cat'?"),
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


# ---------------------------------------------------------------------- the twins


def test_gradients_of_the_twins_grow_smoother_with_the_radius() -> None:
    twins = ["embedded-eps0", "embedded-eps0.05", "embedded-eps1"]
    photograph = demo_inputs().image
    assert photograph is not None
    pieces = F.interpolate(photograph, (128, 192), mode="area").unfold(2, 64, 32).unfold(3, 64, 32)
    images = pieces.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 64, 64)
    found = gradients(list(images), twins, size=64)
    means = [mean.low_frequency[0] for mean in found.means()]
    assert means[0] * 1.5 < means[1] < means[2] / 1.5
