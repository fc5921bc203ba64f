from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from invertkit.errors import RecipeError
from invertkit.models.classifiers.classifier import Classifier
from invertkit.objectives.base import Objective
from invertkit.objectives.feature_cosine import FeatureCosine
from invertkit.objectives.maps import channel_axis, token_grid
from invertkit.objectives.outputs import Activation, Attention
from invertkit.objectives.statistics import FeatureStatistics
from invertkit.objectives.style import FeatureDistance, GramMatrices
from tests.helpers import REGIONS, SIZE, make_scene, score, setting, uniform

# ---------------------------------------------------------------------- the axis by the shape

sides = st.integers(8, 300)


@given(height=sides, width=sides, stride=st.integers(1, 32), channels=st.integers(1, 300))
def test_maps_of_padded_convolutions_have_channels_first(
    height: int, width: int, stride: int, channels: int
) -> None:
    shape = (2, channels, -(-height // stride), -(-width // stride))
    assert channel_axis(shape, (height, width)) == 1


@given(height=sides, width=sides, stride=st.integers(1, 32), channels=st.integers(1, 300))
def test_maps_with_channels_last_are_told_if_the_other_reading_is_not_the_image(
    height: int, width: int, stride: int, channels: int
) -> None:
    rows, columns = -(-height // stride), -(-width // stride)
    as_if_first = abs(columns * width - channels * height) / max(height, width)
    assume(as_if_first >= (1 if height == width else 3))
    assert channel_axis((2, rows, columns, channels), (height, width)) == 3


@given(
    rows=st.integers(1, 40), columns=st.integers(1, 40), patch=st.integers(2, 32),
    prefix=st.sampled_from([0, 1, 2, 4, 5, 8, 9]),
)  # fmt: skip
def test_tokens_lie_as_the_image_does(rows: int, columns: int, patch: int, prefix: int) -> None:
    size = (rows * patch, columns * patch)
    count = rows * columns + prefix
    assert token_grid(count, size, prefix=prefix) == (rows, columns, prefix)
    found = token_grid(count, size)
    assert found is not None
    assert found[0] * found[1] + found[2] == count
    assert found[2] <= prefix


# ---------------------------------------------------------------------- equal values in any layout

CHANNELS, GRID = 11, (4, 5)
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "first": lambda x: x,
    "last": lambda x: x.permute(0, 2, 3, 1),
    "tokens": lambda x: x.flatten(2).mT,
    "class token": lambda x: torch.cat([x.mean((2, 3))[:, None], x.flatten(2).mT], 1),
    "unusual": lambda x: x.flatten(2),
}


class Lay(nn.Module):
    def __init__(self, layout: str) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, features: Tensor) -> Tensor:
        return LAYOUTS[self.layout](features)


class Laid(nn.Module):
    """The same function and features, shown in one of several layouts."""

    def __init__(self, layout: str) -> None:
        super().__init__()
        self.stem, self.lay, self.head = nn.Conv2d(3, CHANNELS, 4, 4), Lay(layout), nn.Linear(11, 5)

    def forward(self, image: Tensor) -> Tensor:
        shown = self.lay(self.stem(image).tanh())
        maps = shown
        if self.lay.layout == "last":
            maps = shown.permute(0, 3, 1, 2)
        elif self.lay.layout in ("tokens", "class token"):
            maps = shown[:, -20:].mT.unflatten(2, GRID)
        elif self.lay.layout == "unusual":
            maps = shown.unflatten(2, GRID)
        return self.head(maps.square().mean((2, 3)))


def of_layout(layout: str) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Classifier(Laid(layout)).double()


OBJECTIVES: dict[str, Callable[[int | None], Objective]] = {
    "feature_statistics": lambda axis: FeatureStatistics(layers=["lay"], axis=axis),
    "gram_matrices": lambda axis: GramMatrices(layers=["lay"], axis=axis),
    "feature_distance": lambda axis: FeatureDistance(layers=["lay"], axis=axis),
    "feature_cosine": lambda axis: FeatureCosine(layers=["lay"], axis=axis, model="classifier"),
    "activation": lambda axis: Activation(layer="lay", channel=7, axis=axis),
    "attention": lambda axis: Attention(layer="lay", axis=axis),
}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "first"])
def test_an_objective_does_not_see_how_features_are_laid(name: str, layout: str) -> None:
    images = uniform(2, 3, *SIZE)
    for region in ("everywhere", *REGIONS):
        if name == "feature_cosine" and region == "everywhere":
            continue  # one vector an image, whatever its order; a class token is a part of it
        values = []
        for shown, axis in (("first", None), (layout, 1 if layout == "unusual" else None)):
            objective = OBJECTIVES[name](axis)
            models: dict[str, Any] = {"classifier": of_layout(shown)}
            scene = setting(objective, make_scene(), models=models, region=region)
            values.append(score(objective, scene, images, region=region))
        torch.testing.assert_close(values[1], values[0], rtol=1e-10, atol=1e-12)


def test_an_axis_that_there_is_not_is_told() -> None:
    objective = FeatureStatistics(layers=["lay"], axis=4)
    with pytest.raises(
        RecipeError, match=r"'lay' puts out shape \(1, 4, 5, 11\) without an axis 4"
    ):
        setting(objective, make_scene(), models={"classifier": of_layout("last")})
    objective = FeatureStatistics(layers=["head"])
    with pytest.raises(RecipeError, match=r"\(1, 5\); `feature_statistics` needs \(b, c, h, w\)"):
        setting(objective, make_scene(), models={"classifier": of_layout("last")})


def test_tokens_without_a_grid_are_refused_in_a_region_alone() -> None:
    class Cut(Lay):
        def forward(self, features: Tensor) -> Tensor:
            return features.flatten(2).mT[:, :7]

    class Net(Laid):
        def forward(self, image: Tensor) -> Tensor:
            return self.head(self.lay(self.stem(image)).mean(1))

    net = Net("tokens")
    net.lay = Cut("tokens")
    models: dict[str, Any] = {"classifier": Classifier(net).double()}
    objective = GramMatrices(layers=["lay"])
    scene = setting(objective, make_scene(), models=models)
    assert score(objective, scene, uniform(2, 3, *SIZE)).shape == (2,)
    with pytest.raises(RecipeError, match="7 tokens, which fill no grid of an image of 16×20"):
        setting(objective, make_scene(), models=models, region="object")


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_mambaout", "test_vit"])
def test_networks_of_timm_show_as_many_channels_as_they_say(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        net: Any = timm.create_model(name)
    side, classifier = net.pretrained_cfg["input_size"][-1], Classifier(net).double()
    places = [each["module"] for each in net.feature_info][:3]
    objective = GramMatrices(layers=places)
    scene = setting(objective, make_scene((side, side)), models={"classifier": classifier})
    assert score(objective, scene, uniform(1, 3, side, side)).isfinite().all()
    found = [objective._wanted[place].shape[1] for place in places]
    assert found == [each["num_chs"] for each in net.feature_info][:3]
