from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from urllib.error import URLError

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from invertkit.errors import InputError, TapError, WeightsError
from invertkit.models.classifiers import architectures
from invertkit.models.classifiers.sources.embedded import embedded
from invertkit.models.perceptual.lpips import lpips
from invertkit.models.perceptual.network import PerceptualNet, distance_map, unit_channels
from tests.helpers import (
    KITNET,
    LAYERS,
    global_generators_unmoved,
    gradcheck,
    normal,
    tiny_perceptual,
    uniform,
)

Net = Literal["alex", "vgg", "squeeze"]
BUILDERS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
SMALLEST = {"alex": 31, "vgg": 16, "squeeze": 17}
nets = pytest.mark.parametrize("net", BUILDERS)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)


def random_trunk(net: str) -> nn.Sequential:
    """The feature modules of torchvision's network, with seeded weights that keep the signal."""
    with torch.device("meta"):
        features = models.get_model(BUILDERS[net], weights=None).features
    features.to_empty(device="cpu")
    for i, weight in enumerate(features.parameters()):
        scale = (2 / weight[0].numel()) ** 0.5 if weight.ndim == 4 else 0.1
        weight.data = scale * normal(*weight.shape, seed=i, dtype=torch.float32)
    trunk: nn.Sequential = features
    return trunk


def save_trunk(trunk: nn.Module, path: Path) -> Path:
    """As torchvision's files are: with a classifier behind it, which nothing here reads."""
    state = {f"features.{name}": value for name, value in trunk.state_dict().items()}
    file = {**state, "classifier.1.bias": torch.zeros(3)}
    if path.suffix == ".safetensors":
        save_file(file, path)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(file, path)
    return path


def their_lpips(
    net: str, trunk: nn.Sequential, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> nn.Module:
    """The network of the `lpips` package on this trunk."""
    import lpips as theirs

    made = SimpleNamespace(features=trunk)
    monkeypatch.setattr(f"torchvision.models.{BUILDERS[net]}", lambda pretrained: made)
    network: nn.Module = theirs.LPIPS(net=net, verbose=False, **options)
    return network


# ---------------------------------------------------------------------- published


@nets
def test_published_lpips_has_the_values_of_its_package(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk = random_trunk(net)
    path = save_trunk(trunk, tmp_path / "trunk.safetensors")
    with global_generators_unmoved():
        ours = lpips(net=net, weights=path)
    theirs = their_lpips(net, trunk, monkeypatch)
    a, b = (uniform(2, 3, 40, 48, seed=seed, dtype=torch.float32) for seed in (1, 2))
    with torch.no_grad():
        wanted, layers = theirs(a, b, normalize=True, retPerLayer=True)
        torch.testing.assert_close(ours(a, b), wanted.flatten(), rtol=1e-6, atol=1e-6)
        assert (wanted > 1e-2).all()
        here, there = (ours.observe(each, ours.default_layers) for each in (a, b))
    assert len(ours.heads) == len(layers)
    for (name, head), one in zip(ours.heads.items(), layers, strict=True):
        distances = distance_map(unit_channels(here[name]), unit_channels(there[name]), head)
        torch.testing.assert_close(distances.mean((1, 2, 3)), one.flatten(), rtol=1e-5, atol=1e-6)
    assert ours.description.startswith(f"LPIPS {net} v0.1 (trunk trunk.safetensors, sha256 ")


@nets
def test_the_smallest_image_is_told(net: Net, tmp_path: Path) -> None:
    ours = lpips(net=net, weights=save_trunk(random_trunk(net), tmp_path / "t.safetensors"))
    side, last = SMALLEST[net], ours.default_layers[-1]
    small = uniform(1, 3, side, side, dtype=torch.float32)
    assert all(map(torch.numel, ours.observe(small, ours.default_layers).values()))
    with pytest.raises(InputError, match=rf"{last}.* at least {side}×{side} .* {side - 1}×{side}"):
        ours.observe(small[:, :, 1:], [last])
    with pytest.raises(RuntimeError, match="too small"):  # the bound is not too careful
        random_trunk(net)[:30](small[:, :, 1:])
    assert ours.observe(small[:, :, 1:], ours.default_layers[:1])


def test_alexnet_takes_the_sizes_of_small_pictures(tmp_path: Path) -> None:
    ours = lpips(weights=save_trunk(random_trunk("alex"), tmp_path / "t.safetensors"))
    for side, sides in ((32, [7, 3, 1, 1, 1]), (64, [15, 7, 3, 3, 3])):
        seen = ours.observe(uniform(1, 3, side, side, dtype=torch.float32), ours.default_layers)
        assert [features.shape[-1] for features in seen.values()] == sides


def test_the_trunk_comes_from_the_cache_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    trunk = random_trunk("squeeze")
    cached = tmp_path / "torch" / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    save_trunk(trunk, cached)
    ours, image = lpips(net="squeeze"), uniform(1, 3, 33, 33, dtype=torch.float32)
    for name, features in lpips(net="squeeze", weights=cached).observe(image, ["default"]).items():
        assert torch.equal(ours.observe(image, [name])[name], features)
    assert capfd.readouterr() == ("", "")


def test_a_trunk_is_fetched_once_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(url: str, path: str, prefix: str, *, progress: bool) -> None:
        asked.append((url, prefix, progress))
        save_trunk(random_trunk("alex"), Path(path))

    monkeypatch.setattr("torch.hub.download_url_to_file", fetch)
    lpips()
    lpips()
    url = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
    assert asked == [(url, "7be5be79", False)]


def test_a_trunk_that_cannot_be_had_is_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        lpips()
    path = tmp_path / "torch" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    assert str(caught.value) == (
        "The trunk of LPIPS alex is not in the cache and cannot be fetched (<urlopen error no "
        f"route to host>): put {path.name} of torchvision at {path}, or give the file with "
        "`weights:`, or take `features: embedded`, which needs no download."
    )


def test_a_trunk_of_another_network_is_refused(tmp_path: Path) -> None:
    path = save_trunk(random_trunk("alex"), tmp_path / "alex.safetensors")
    with pytest.raises(WeightsError, match="belongs to another network than SqueezeNet"):
        lpips(net="squeeze", weights=path)
    with pytest.raises(WeightsError, match="no such weights file"):
        lpips(weights=tmp_path / "absent.pth")


def test_without_its_package_lpips_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_trunk(random_trunk("alex"), tmp_path / "alex.safetensors")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WeightsError, match="`pip install lpips`"):
        lpips(weights=path)


def test_published_lpips_does_not_import_its_package(tmp_path: Path) -> None:
    """It would import plotting and image libraries that nothing here needs."""
    before = set(sys.modules)
    lpips(weights=save_trunk(random_trunk("alex"), tmp_path / "alex.safetensors"))
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] == "lpips"}


# ---------------------------------------------------------------------- embedded


LITE0 = ("conv_stem", "blocks.1", "blocks.2", "blocks.4")


@pytest.mark.parametrize(("weights", "layers"), [(None, LITE0), (KITNET, LAYERS)])
def test_embedded_features_are_those_of_the_classifier(
    weights: Path | None, layers: tuple[str, ...]
) -> None:
    with global_generators_unmoved():
        ours, classifier = lpips(features="embedded", weights=weights), embedded(weights=weights)
    assert ours.default_layers == layers
    a, b = (uniform(1, 3, 24, 28, seed=seed, dtype=torch.float32) for seed in (1, 2))
    seen, wanted = ours.observe(a, layers), classifier.observe(a, layers)
    for name in layers:
        torch.testing.assert_close(seen[name], wanted[name])
    other, total = classifier.observe(b, layers), 0.0
    for name in layers:
        f, g = (each / each.norm(dim=1, keepdim=True) for each in (wanted[name], other[name]))
        total += (f - g).square().mean().item()
    assert ours(a, b).item() == pytest.approx(total, rel=1e-4)
    assert "not LPIPS's own" in ours.description
    assert classifier.description in ours.description


@pytest.mark.parametrize(
    ("weights", "layers", "sides"), [(None, LITE0, (16, 8, 4, 2)), (KITNET, LAYERS, (8, 4, 2))]
)
def test_embedded_features_take_small_images(
    weights: Path | None, layers: tuple[str, ...], sides: tuple[int, ...]
) -> None:
    ours = lpips(features="embedded", weights=weights)
    for last, side in zip(range(4, 0, -1), sides, strict=False):
        image = uniform(1, 3, side, side, dtype=torch.float32)
        assert all(map(torch.numel, ours.observe(image, layers[:last]).values()))
        with pytest.raises(InputError, match=f"at least {side}×{side}"):
            ours.observe(image[:, :, 1:], layers[:last])


@pytest.mark.parametrize("architecture", ["timm:test_vit", "squeezenet1_1"])
def test_a_network_whose_layers_do_not_follow_one_another_is_refused(
    tmp_path: Path, architecture: str
) -> None:
    """One adds places between two modules; of the other no layers are known."""
    net = architectures.build(architecture, 3)
    facts = {"architecture": architecture, "classes": ["a", "b", "c"], "mean": [0.5] * 3,
             "std": [0.5] * 3}  # fmt: skip
    texts = {key: json.dumps(value) for key, value in facts.items()}
    save_file(net.state_dict(), tmp_path / "w.safetensors", metadata=texts)
    with pytest.raises(WeightsError, match="cannot be a perceptual network"):
        lpips(features="embedded", weights=tmp_path / "w.safetensors")


# ---------------------------------------------------------------------- any


def test_observe_runs_no_further_than_needed() -> None:
    ours = tiny_perceptual()
    ran: list[str] = []
    for name, part in zip(LAYERS, ours.trunk, strict=True):
        part.register_forward_hook(lambda *_, name=name: ran.append(name))
    image = uniform(1, 3, 16, 16)
    assert list(ours.observe(image, ["layer1"])) == ["layer1"]
    assert ran == ["stem", "layer1"]
    ran.clear()
    assert list(ours.observe(image, ["layer3", "stem"])) == ["stem", "layer3"]
    assert ran == list(LAYERS)
    assert ours.observe(image, []) == {}
    assert ours.resolve(["default"]) == LAYERS


@pytest.mark.parametrize("name", ["layer4", "logits", "stem:input"])
def test_a_layer_that_does_not_exist_is_told(name: str) -> None:
    ours = tiny_perceptual()
    with pytest.raises(TapError, match=f"no layer '{name}'; it has: stem, layer1, layer2, layer3"):
        ours.observe(uniform(1, 3, 16, 16), [name])


def test_a_perceptual_net_is_frozen_and_moves_as_a_whole() -> None:
    ours = tiny_perceptual().to(torch.float32)
    assert not ours.training
    assert not any(weight.requires_grad for weight in ours.parameters())
    assert {head.dtype for head in ours.heads.values()} == {torch.float32}
    image = uniform(2, 3, 16, 16, dtype=torch.float32).requires_grad_()
    ours(image, image.detach().flip(0)).sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()


@given(seed=st.integers(0, 99))
def test_the_distance_is_symmetric_positive_and_zero_only_for_equal_images(seed: int) -> None:
    ours: PerceptualNet = tiny_perceptual()
    a, b = uniform(2, 3, 12, 16, seed=seed), uniform(1, 3, 12, 16, seed=seed + 100)
    there, back = ours(a, b), ours(b, a)
    assert there.shape == (2,)
    torch.testing.assert_close(there, back, rtol=1e-12, atol=0)
    assert (there > 0).all()
    assert torch.equal(ours(a, a), torch.zeros(2, dtype=a.dtype))


@given(seed=st.integers(0, 99), scale=st.floats(0.01, 100))
def test_unit_channels_have_length_one_whatever_the_scale(seed: int, scale: float) -> None:
    features = normal(2, 5, 3, 4, seed=seed)
    unit = unit_channels(features * scale)
    torch.testing.assert_close(unit, unit_channels(features), rtol=1e-6, atol=1e-6)
    ones = torch.ones(2, 3, 4, dtype=features.dtype)
    torch.testing.assert_close(unit.norm(dim=1), ones, rtol=1e-6, atol=0)


def test_unit_channels_has_a_finite_slope_where_a_rectifier_leaves_nothing() -> None:
    features = torch.full((1, 3, 2, 2), -1.0, dtype=torch.float64, requires_grad=True)
    unit = unit_channels(features.relu())
    (slope,) = torch.autograd.grad(unit.square().sum(), features)
    assert not unit.any()
    assert torch.equal(slope, torch.zeros_like(slope))


def test_gradient_of_the_distance_agrees_with_finite_differences() -> None:
    ours, other = tiny_perceptual(), uniform(1, 3, 8, 9, seed=1)
    gradcheck(lambda image: ours(image, other), uniform(2, 3, 8, 9, seed=2))
