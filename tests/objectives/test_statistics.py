from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from invertkit.core.randomness import Randomness
from invertkit.core.scene import Scene
from invertkit.core.view import View
from invertkit.errors import InputError, RecipeError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.objectives.statistics import BatchNormStatistics, FeatureStatistics
from tests.helpers import (
    LAYERS,
    REGIONS,
    SIZE,
    gradcheck,
    gradient,
    make_scene,
    rectangle,
    scene_of,
    score,
    setting,
    uniform,
)

SMALL = (8, 10)
Form = Literal["mse", "norm"]
forms = pytest.mark.parametrize("form", ["mse", "norm"])
OBJECTIVES: dict[str, Any] = {
    "mse": lambda: FeatureStatistics(),
    "norm": lambda: FeatureStatistics(form="norm"),
    "batch norm": lambda: BatchNormStatistics(),
    "batch norm, divergence": lambda: BatchNormStatistics(form="divergence"),
}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def column(features: Tensor, image: int, channel: int) -> list[float]:
    numbers: list[float] = features[image, channel].flatten().tolist()
    return numbers


def mean_and_deviation(pixels: list[float]) -> tuple[float, float]:
    mean = sum(pixels) / len(pixels)
    squares = sum((pixel - mean) ** 2 for pixel in pixels)
    return mean, math.sqrt(squares / (len(pixels) - 1) + 1e-5)


def slow_feature_statistics(
    here: list[list[list[float]]], wanted: list[list[list[float]]], form: Form
) -> float:
    """Of one image: its pixels and the reference's, by layer and channel."""
    total = 0.0
    for layer_here, layer_wanted in zip(here, wanted, strict=True):
        squares = [0.0, 0.0]
        for pixels, goal in zip(layer_here, layer_wanted, strict=True):
            for i, (a, b) in enumerate(
                zip(mean_and_deviation(pixels), mean_and_deviation(goal), strict=True)
            ):
                squares[i] += (a - b) ** 2
        if form == "mse":
            total += sum(square / len(layer_here) for square in squares)
        else:
            total += sum(math.sqrt(square) for square in squares)
    return total


@forms
def test_feature_statistics_equal_their_slow_loop(form: Form, classifier: Classifier) -> None:
    objective = FeatureStatistics(form=form)
    scene, images = setting(objective), uniform(2, 3, *SIZE)
    here = classifier.observe(images, LAYERS)
    assert scene.reference is not None
    there = classifier.observe(scene.reference, LAYERS)
    for i, value in enumerate(score(objective, scene, images)):
        slow = slow_feature_statistics(
            [[column(here[n], i, c) for c in range(here[n].shape[1])] for n in LAYERS],
            [[column(there[n], 0, c) for c in range(there[n].shape[1])] for n in LAYERS],
            form,
        )
        assert value.item() == pytest.approx(slow)


@forms
def test_feature_statistics_in_a_binary_region_are_those_of_its_pixels(
    form: Form, classifier: Classifier
) -> None:
    """The rectangles fill whole cells of every layer, so that the shares are 0 and 1."""
    layers, double = ("stem", "layer1", "layer2"), torch.float64
    scene = make_scene((16, 16))
    mask = rectangle((16, 16), slice(0, 8), slice(4, 12), double)
    target = rectangle((16, 16), slice(8, 16), slice(0, 12), double)
    scene = scene_of((16, 16), scene.reference, mask, target)
    objective = FeatureStatistics(layers=layers, form=form)
    scene, images = setting(objective, scene, region="object"), uniform(2, 3, 16, 16)
    here = classifier.observe(images, layers)
    there = classifier.observe(scene.reference, layers)  # type: ignore[arg-type]

    def cells(features: Tensor, image: int, weights: Tensor) -> list[list[float]]:
        step = 16 // features.shape[-1]
        chosen = weights[0, 0, ::step, ::step].bool()
        return [row[chosen].tolist() for row in features[image]]

    for i, value in enumerate(score(objective, scene, images, region="object")):
        slow = slow_feature_statistics(
            [cells(here[n], i, target) for n in layers],
            [cells(there[n], 0, mask) for n in layers],
            form,
        )
        assert value.item() == pytest.approx(slow)


@forms
@pytest.mark.parametrize("region", ["everywhere", *REGIONS])
def test_feature_statistics_vanish_at_the_reference(form: Form, region: str) -> None:
    scene = make_scene()
    if region == "vacated":  # nothing is vacated where the masks agree
        scene = scene_of(SIZE, scene.reference, scene.inputs["mask"], 1 - scene.inputs["mask"])  # type: ignore[operator]
    else:
        scene = scene_of(SIZE, scene.reference, scene.inputs["mask"], scene.inputs["mask"])
    objective = FeatureStatistics(form=form)
    scene = setting(objective, scene, region=region)
    assert scene.reference is not None
    value = score(objective, scene, scene.reference, region=region)
    assert value.item() == pytest.approx(0, abs=1e-14)


def test_feature_statistics_do_not_see_where_features_are() -> None:
    """One convolution with circular padding: a shifted image has shifted features."""
    with torch.random.fork_rng(devices=[]):
        net = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular").double()
    models = {"classifier": Classifier(nn.Sequential(net)).double()}
    objective, scene = FeatureStatistics(layers=["0"]), make_scene(SMALL)
    scene = replace(scene, models=models, needs=objective.needs(models))
    assert scene.reference is not None
    objective.prepare(View(scene.reference, scene, Randomness((0,)), is_reference=True))
    images = uniform(2, 3, *SMALL)
    values = score(objective, scene, images)
    assert (values > 1e-6).all()
    torch.testing.assert_close(score(objective, scene, images.roll((3, 4), (2, 3))), values)


def slow_batch_norm_statistics(
    classifier: Classifier, images: Tensor, first: float, weights: Tensor | None = None
) -> float:
    """Over all pixels of all images, as one training batch would be."""
    total = 0.0
    norms = classifier.batch_norms()
    seen = classifier.observe(images, [f"{name}:input" for name in norms])
    for k, (name, norm) in enumerate(norms.items()):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        features = seen[f"{name}:input"]
        squares = [0.0, 0.0]
        for c in range(features.shape[1]):
            pixels = [p for i in range(len(images)) for p in column(features, i, c)]
            mean = sum(pixels) / len(pixels)
            var = sum((p - mean) ** 2 for p in pixels) / len(pixels)
            squares[0] += (mean - norm.running_mean[c].item()) ** 2
            squares[1] += (var - norm.running_var[c].item()) ** 2
        total += (first if k == 0 else 1.0) * sum(math.sqrt(square) for square in squares)
    return total


@pytest.mark.parametrize("first", [10.0, 1.0, 3.5])
def test_batch_norm_statistics_equal_their_slow_loop(first: float, classifier: Classifier) -> None:
    objective = BatchNormStatistics(first_multiplier=first)
    scene, images = setting(objective), uniform(2, 3, *SIZE)
    slow = [slow_batch_norm_statistics(classifier, image[None], first) for image in images]
    assert score(objective, scene, images).tolist() == pytest.approx(slow)


def normal_divergence(mean: float, variance: float, to: tuple[float, float]) -> float:
    """KL divergence of one normal distribution from another, by its definition on a fine grid."""
    a, b = (
        torch.distributions.Normal(torch.tensor(m, dtype=torch.float64), v**0.5)
        for m, v in ((mean, variance), to)
    )
    x = a.mean + a.stddev * torch.linspace(-12, 12, 20001, dtype=torch.float64)
    density = a.log_prob(x).exp()
    return torch.trapezoid(density * (a.log_prob(x) - b.log_prob(x)), x).item()


def slow_divergence(classifier: Classifier, images: Tensor, first: float) -> float:
    """Over the whole batch, channel by channel."""
    norms, total = classifier.batch_norms(), 0.0
    for i, (name, norm) in enumerate(norms.items()):
        seen = classifier.observe(images, [f"{name}:input"])[f"{name}:input"]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        channels = [
            normal_divergence(
                seen[:, c].mean().item(),
                seen[:, c].var(unbiased=False).item() + norm.eps,
                (norm.running_mean[c].item(), norm.running_var[c].item() + norm.eps),
            )
            for c in range(seen.shape[1])
        ]
        total += (first if i == 0 else 1) * sum(channels) / len(channels)
    return total / len(norms)


@pytest.mark.parametrize("first", [1.0, 3.5])
def test_the_divergence_is_that_of_normal_distributions(
    first: float, classifier: Classifier
) -> None:
    objective = BatchNormStatistics(form="divergence", first_multiplier=first)
    scene, images = setting(objective), uniform(2, 3, *SIZE)
    slow = [slow_divergence(classifier, image[None], first) for image in images]
    assert score(objective, scene, images).tolist() == pytest.approx(slow)


@pytest.mark.parametrize("form", ["norm", "divergence"])
@pytest.mark.parametrize("region", ["everywhere", "all of it"])
def test_coupled_batch_norm_statistics_are_those_of_the_batch(
    region: str, form: Literal["norm", "divergence"], classifier: Classifier
) -> None:
    objective = BatchNormStatistics(coupled=True, form=form)
    images = uniform(3, 3, *SIZE)
    nothing = torch.zeros(1, 1, *SIZE, dtype=torch.float64)
    scene = setting(objective, scene_of(SIZE, mask=nothing, target=1 - nothing))
    values = score(
        objective, scene, images, region="object" if region == "all of it" else "everywhere"
    )
    assert values.shape == (3,)
    slowly = slow_batch_norm_statistics if form == "norm" else slow_divergence
    slow = slowly(classifier, images, 10.0)
    assert values.sum().item() == pytest.approx(slow)
    torch.testing.assert_close(values, values[:1].expand(3))


def test_batch_norm_statistics_vanish_where_the_stored_ones_are_the_images_own(
    classifier: Classifier,
) -> None:
    image = uniform(1, 3, *SIZE)
    norms = classifier.batch_norms()
    for name, norm in norms.items():  # in forward order: a layer's input depends on those before
        seen = classifier.observe(image, [f"{name}:input"])[f"{name}:input"]
        norm.running_mean = seen.mean((0, 2, 3))
        norm.running_var = seen.var((0, 2, 3), unbiased=False)
    for form in ("norm", "divergence"):
        objective, models = BatchNormStatistics(form=form), {"classifier": classifier}
        scene = Scene(SIZE, models=models, needs=objective.needs(models))
        assert score(objective, scene, image).item() == pytest.approx(0, abs=1e-12)


@every_objective
def test_statistics_of_an_image_do_not_depend_on_its_company(name: str) -> None:
    for region in ("everywhere", "object"):
        objective = OBJECTIVES[name]()
        scene, images = setting(objective, region=region), uniform(3, 3, *SIZE)
        values = score(objective, scene, images, region=region)
        assert values.shape == (3,)
        assert values.isfinite().all()
        alone = [score(objective, scene, image[None], region=region) for image in images]
        torch.testing.assert_close(values, torch.cat(alone), rtol=1e-12, atol=0)


@every_objective
@pytest.mark.parametrize("region", ["everywhere", "object", "vacated"])
def test_the_gradient_of_statistics_agrees_with_finite_differences(name: str, region: str) -> None:
    objective = OBJECTIVES[name]()
    scene = setting(objective, make_scene(SMALL), region=region)
    gradcheck(lambda x: score(objective, scene, x, region=region), uniform(2, 3, *SMALL))


@every_objective
def test_statistics_in_a_region_that_is_everything_are_those_of_the_image(name: str) -> None:
    images, double = uniform(2, 3, *SIZE), torch.float64
    ones = torch.ones(1, 1, *SIZE, dtype=double)
    reference, values = make_scene().reference, []
    for region in ("everywhere", "object"):
        objective = OBJECTIVES[name]()
        scene = setting(objective, scene_of(SIZE, reference, ones, ones), region=region)
        values.append(score(objective, scene, images, region=region))
    torch.testing.assert_close(*values)


@every_objective
def test_statistics_of_an_empty_region_are_finite(name: str) -> None:
    zeros = torch.zeros(1, 1, *SIZE, dtype=torch.float64)
    objective = OBJECTIVES[name]()
    scene = setting(
        objective, scene_of(SIZE, make_scene().reference, zeros, zeros), region="object"
    )
    images = uniform(2, 3, *SIZE)
    assert score(objective, scene, images, region="object").isfinite().all()
    slope = gradient(lambda x: score(objective, scene, x, region="object"), images)
    assert slope.isfinite().all()


def test_what_cannot_be_computed_is_said() -> None:
    with pytest.raises(InputError, match="compares with a reference"):
        setting(FeatureStatistics(), make_scene(reference=False))
    with pytest.raises(RecipeError, match="Choose a layer with places"):
        setting(FeatureStatistics(layers=["fc"]))
    bare = {"classifier": Classifier(nn.Sequential(nn.Conv2d(3, 2, 1)))}
    with pytest.raises(RecipeError, match="no default layers"):
        FeatureStatistics().needs(bare)
    with pytest.raises(RecipeError, match="no batch-norm layer"):
        BatchNormStatistics().needs(bare)


class WithHead(nn.Module):
    """A frozen and a synchronised norm on the way, and one in a head that serves training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 3), FrozenBatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 5, 3), nn.SyncBatchNorm(5)
        for norm in (self.norm1, self.norm2):
            norm.running_mean.copy_(uniform(len(norm.running_mean), seed=1))  # type: ignore[union-attr,arg-type]
            norm.running_var.copy_(uniform(len(norm.running_var), seed=2) + 0.5)  # type: ignore[union-attr,arg-type,operator]

    def forward(self, image: Tensor) -> Tensor:
        features = self.norm1(self.conv1(image)).relu()
        if self.training:
            self.head(features)
        return self.norm2(self.conv2(features)).mean((2, 3))


@pytest.mark.parametrize("form", ["norm", "divergence"])
def test_norms_of_every_kind_count_if_they_run(
    form: Literal["norm", "divergence"], caplog: pytest.LogCaptureFixture
) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = WithHead()
    classifier, images = Classifier(net).double(), uniform(2, 3, *SIZE)
    objective = BatchNormStatistics(form=form)
    values = score(objective, setting(objective, models={"classifier": classifier}), images)
    assert (
        "1 of 3 batch norms of model 'classifier' do not run (head.1) and are left" in caplog.text
    )
    without = copy.deepcopy(classifier)
    del without.net.head
    wanted = BatchNormStatistics(form=form)
    scene = setting(wanted, models={"classifier": without})
    assert torch.equal(values, score(wanted, scene, images))
    # The value of a network of ordinary norms that hold the same statistics.
    plain = copy.deepcopy(without)
    for name in ("norm1", "norm2"):
        norm = getattr(without.net, name)
        setattr(plain.net, name, other := nn.BatchNorm2d(len(norm.running_mean)).double().eval())
        other.load_state_dict(norm.state_dict(), strict=False)
        other.requires_grad_(requires_grad=False)
    scene = setting(wanted, models={"classifier": plain})
    torch.testing.assert_close(values, score(wanted, scene, images))
    slope = gradient(lambda x: score(wanted, scene, x), images)
    assert slope.flatten(1).any(1).all()


def test_norms_that_never_run_are_no_statistics() -> None:
    net = WithHead()
    net.norm1 = net.norm2 = nn.Identity()
    objective = BatchNormStatistics()
    scene = setting(objective, models={"classifier": Classifier(net).double()})
    with pytest.raises(RecipeError, match=r"None of the batch norms.*\(head.1\) runs"):
        score(objective, scene, uniform(1, 3, *SIZE))
