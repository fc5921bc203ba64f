"""Fixed mixing and normed heads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.models.generators.projected import (
    FeatureMixer,
    ProjectedDiscriminator,
    ScaleHead,
    baked,
    keep_leaves,
    run_leaves,
)
from tests.helpers import normal, tiny_classifier, uniform

SIDES = (12, 7, 3)
CHANNELS = (5, 70, 6)


def maps(seed: int = 0) -> list[Tensor]:
    pairs = zip(CHANNELS, SIDES, strict=True)
    return [normal(2, c, side, side, seed=seed + i) for i, (c, side) in enumerate(pairs)]


def made_mixer(seed: int = 0) -> FeatureMixer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FeatureMixer(CHANNELS).double()


def made_head(side: int = 14) -> ScaleHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ScaleHead(6, side, 3, width=8)


# ---------------------------------------------------------------------- mixing


@given(seed=st.integers(0, 99))
def test_mixing_is_its_plain_restatement(seed: int) -> None:
    mixer, given_ = made_mixer(), maps(seed)
    assert mixer.widths == (64, 128, 64)
    below = None
    wanted = []
    for depth in (2, 1, 0):
        own = torch.einsum(
            "oc, bchw -> bohw", mixer.across_channels[depth].weight[:, :, 0, 0], given_[depth]
        )
        if below is not None:
            convolved = F.conv2d(below, mixer.across_scales[depth].weight, padding=1)
            larger = F.interpolate(convolved, own.shape[-2:], mode="bilinear")
            own = (own + larger) / 2**0.5
        below = own
        wanted.insert(0, own)
    for found, plain in zip(mixer(given_), wanted, strict=True):
        torch.testing.assert_close(found, plain, rtol=1e-10, atol=1e-10)


def test_mixing_takes_no_gradient_of_its_own_and_keeps_the_size_of_features() -> None:
    mixer = made_mixer()
    assert not any(weight.requires_grad for weight in mixer.parameters())
    for seen in mixer(maps()):
        assert 0.5 < seen.std() < 2


def test_a_fine_map_shows_something_of_every_deeper_one() -> None:
    mixer, given_ = made_mixer(), maps()
    for depth in range(3):
        other = [each.clone() for each in given_]
        other[depth] += 1
        moved = [
            bool((a - b).abs().max() > 1e-3)
            for a, b in zip(mixer(given_), mixer(other), strict=True)
        ]
        assert moved == [place <= depth for place in range(3)]


# ---------------------------------------------------------------------- heads


@pytest.mark.parametrize(("side", "left"), [(48, 6), (24, 6), (14, 3), (6, 6), (4, 4), (1, 1)])
def test_a_head_stops_halving_at_six(side: int, left: int) -> None:
    scores = made_head(side).eval()(normal(2, 6, side, side).float(), torch.tensor([0, 1]))
    assert scores.shape == (2, left, left)


def test_no_weight_of_a_head_stretches_after_some_looks() -> None:
    head = made_head()
    with torch.no_grad():
        for weight in head.parameters():
            weight.mul_(5)
    for _ in range(50):  # power iterations
        head(normal(4, 6, 14, 14).float(), torch.tensor([0, 1, 2, 0]))
    head.eval()
    convolutions = [block[0].weight.flatten(1) for block in head.trunk]
    for weight in (*convolutions, head.linear.weight.flatten(1), head.embedding.weight):
        assert torch.linalg.matrix_norm(weight, 2) <= 1 + 1e-3


def test_scores_are_the_projection_at_every_place() -> None:
    head = baked(made_head())
    features, labels = normal(2, 6, 14, 14).float(), torch.tensor([2, 0])
    seen, found = head.trunk(features), head(features, labels)
    for i, label in enumerate(labels.tolist()):
        direction = head.linear.weight[0, :, 0, 0] + head.embedding.weight[label] / 8**0.5
        wanted = torch.einsum("k, khw -> hw", direction, seen[i]) + head.linear.bias
        torch.testing.assert_close(found[i], wanted, rtol=1e-4, atol=1e-5)
        of_all = head.of_all(features)[i, label]
        torch.testing.assert_close(of_all, wanted.mean(), rtol=1e-4, atol=1e-5)


def test_a_baked_head_is_the_spectral_one_with_plain_weights() -> None:
    head, labels = made_head().eval(), torch.tensor([2, 0])
    features = normal(2, 6, 14, 14).float()
    plain = baked(head)
    torch.testing.assert_close(plain(features, labels), head(features, labels))
    assert not any("parametrizations" in name for name in plain.state_dict())
    assert any("parametrizations" in name for name in head.state_dict())
    empty = ScaleHead(6, 14, 3, width=8, spectral=False).eval()
    empty.load_state_dict(plain.state_dict())  # what the weights file is read into
    assert torch.equal(empty(features, labels), plain(features, labels))


# ---------------------------------------------------------------------- eyes


def test_what_never_ran_can_be_left_out() -> None:
    whole, cut = tiny_classifier(torch.float32), tiny_classifier(torch.float32)
    ran = run_leaves(whole, ["layer2"], 32)
    assert ran
    assert not any(name.startswith(("layer3", "fc")) for name in ran)
    keep_leaves(cut.net, ran)
    image = uniform(2, 3, 32, 32).float()
    for name in ("layer1", "layer2"):
        torch.testing.assert_close(
            cut.observe(image, [name])[name], whole.observe(image, [name])[name]
        )
    assert {name.rpartition(".")[0] for name in cut.net.state_dict()} == ran


def test_leaving_out_a_layer_leaves_out_what_is_in_it() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.inner = nn.Parameter(torch.ones(1)), nn.Linear(2, 2)

    net = nn.Sequential(nn.Linear(2, 2), Scaled())
    keep_leaves(net, {"0"})
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]


def test_the_discriminator_is_what_its_parts_say() -> None:
    eyes = tiny_classifier(torch.float32)
    layers = ("layer1", "layer3")
    image = uniform(2, 3, 16, 16).float() * 2 - 1
    view = F.interpolate(image / 2 + 0.5, (40, 40), mode="bilinear")
    seen = eyes.observe(view, layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mixer = FeatureMixer([seen[name].shape[1] for name in layers])
        heads = [
            ScaleHead(width, seen[name].shape[-1], 3, spectral=False)
            for width, name in zip(mixer.widths, layers, strict=True)
        ]
    net = ProjectedDiscriminator(
        eyes, eyes_layers=layers, eyes_size=40, mixer=mixer, heads=heads
    ).eval()
    mixed = mixer([seen[name] for name in layers])
    for label in range(3):
        labels = torch.full((2,), label)
        wanted = sum(
            head(each, labels).mean((1, 2)) for head, each in zip(heads, mixed, strict=True)
        )
        torch.testing.assert_close(net(image)[:, label], wanted, rtol=1e-4, atol=1e-5)
    assert net.layers == ("heads.0.trunk", "heads.1.trunk")
