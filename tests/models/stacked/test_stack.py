from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from invertkit.models.critics.patch_critic import PatchCriticNet
from invertkit.models.segmenters.encoder_decoder import EncoderDecoder
from invertkit.models.stacked.normed_leaky import NormKind
from invertkit.models.stacked.stack import Stack
from tests.helpers import normal, same, uniform
from tests.players.plain import plain

SMALL: dict[str, Any] = {"kernels": (3, 2, 1), "strides": (1, 2, 1), "widths": (4, 5)}
norms = pytest.mark.parametrize("norm", ["instance", "batch", "none"])


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def make(kind: str, norm: NormKind, *seeds: int) -> Stack:
    """A small stack with weights large enough for the norms to matter, in float64."""
    net: Stack
    if kind == "critic":
        net = PatchCriticNet(norm=norm, generators=seeded(*seeds), **SMALL)
    else:
        net = EncoderDecoder(width=4, norm=norm, generators=seeded(*seeds))
    with torch.no_grad():
        for layer in net.stack:
            layer.weight.mul_(6)
    return net.double()


def seen(ask: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """The output, and the gradient of a weighted sum of it."""
    images = images.clone().requires_grad_()
    output = ask(images)
    (slope,) = torch.autograd.grad(output, images, normal(*output.shape, seed=8))
    return output.detach(), slope


def ways(net: Stack) -> list[Callable[[Tensor], Tensor]]:
    """Both ways to ask: as on a CPU, and all side by side."""
    return [net.look, net]


# ---------------------------------------------------------------------- side by side


@norms
@pytest.mark.parametrize("kind", ["critic", "segmenter"])
@pytest.mark.parametrize("seeds", [(1,), (1, 2, 3)])
def test_a_stack_is_its_networks_in_plain_layers(
    kind: str, norm: NormKind, seeds: tuple[int, ...]
) -> None:
    net, images = make(kind, norm, *seeds), uniform(len(seeds), 3, 12, 13)
    for ask in ways(net):
        output, slope = seen(ask, images)
        for i in range(len(seeds)):
            weights = normal(*output.shape, seed=8)[i : i + 1]
            image = images[i : i + 1].clone().requires_grad_()
            wanted = plain(net, i)(image)
            torch.testing.assert_close(output[i : i + 1], wanted, rtol=1e-10, atol=1e-12)
            (steep,) = torch.autograd.grad(wanted, image, weights)
            torch.testing.assert_close(slope[i : i + 1], steep, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["critic", "segmenter"])
@pytest.mark.parametrize("norm", ["instance", "none"])
def test_one_network_sees_each_image_alone(kind: str, norm: NormKind) -> None:
    net, images = make(kind, norm, 1), uniform(3, 3, 12, 13)
    for ask in ways(net):
        output, slope = seen(ask, images)
        alone = torch.cat([net(image[None]) for image in images])
        torch.testing.assert_close(output, alone, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(slope, seen(net.look, images)[1], rtol=1e-10, atol=1e-12)


def test_several_images_of_each_network_follow_one_another() -> None:
    for norm in ("instance", "batch"):
        net, images = make("critic", norm, 1, 2), uniform(6, 3, 12, 13)  # type: ignore[arg-type]
        for ask in ways(net):
            first, second = plain(net, 0), plain(net, 1)
            if norm == "instance":
                wanted = [first(i[None]) for i in images[:3]] + [
                    second(i[None]) for i in images[3:]
                ]
            else:
                wanted = [first(images[:3]), second(images[3:])]
            torch.testing.assert_close(ask(images), torch.cat(wanted), rtol=1e-10, atol=1e-12)


@norms
def test_on_a_cpu_an_image_is_seen_the_same_to_the_last_bit_in_any_company(norm: NormKind) -> None:
    net, images = make("critic", norm, 1, 2, 3).float(), uniform(3, 3, 12, 13, dtype=torch.float32)
    alone = make("critic", norm, 2).float()
    assert torch.equal(net.look(images)[1:2], alone.look(images[1:2]))


def test_batch_norm_makes_scores_depend_on_company_and_instance_norm_does_not() -> None:
    images = normal(2, 3, 16, 16)
    for norm, independent in (("instance", True), ("none", True), ("batch", False)):
        for ask in ways(make("critic", norm, 1)):  # type: ignore[arg-type]
            found = torch.allclose(ask(images)[:1], ask(images[:1]), rtol=1e-10)
            assert found is independent


@norms
def test_a_bias_that_the_norm_cancels_is_kept_and_not_learnt(norm: NormKind) -> None:
    net, images = make("critic", norm, 1), uniform(1, 3, 12, 13)
    before, layer = net(images), net.stack[0]
    layer.bias.add_(normal(1, 4))
    same_scores = torch.allclose(net(images), before, rtol=1e-10)
    assert same_scores is (norm != "none")
    assert any(weight is layer.bias for weight in net.learnt()) is (norm == "none")
    torch.testing.assert_close(plain(net)(images), net(images), rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------------- the networks


@given(layers=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=4))
def test_the_receptive_field_is_where_gradients_reach(layers: list[tuple[int, int]]) -> None:
    """Strides no larger than kernels, so that the field has no holes."""
    kernels = [kernel for kernel, _ in layers]
    strides = [min(stride, kernel) for kernel, stride in layers]
    net = PatchCriticNet(
        kernels=kernels, strides=strides, widths=(2,) * (len(kernels) - 1), norm="none"
    )
    with torch.no_grad():
        for weight in net.parameters():
            weight.fill_(0.1)
    jump = 1
    for stride in strides:
        jump *= stride
    side = net.receptive_field + jump
    image = torch.ones(1, 3, side, side, requires_grad=True)
    scores = net(image)
    (slope,) = torch.autograd.grad(scores[0, 0, 0, 0], image)
    seen = slope[0].abs().sum(0).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [net.receptive_field] * 2


@pytest.mark.parametrize("norm", ["instance", "none"])
@pytest.mark.parametrize("kind", ["critic", "segmenter"])
def test_initial_weights_are_drawn_layer_by_layer_from_each_generator(
    kind: str, norm: NormKind
) -> None:
    """Released rules; weight, bias and norm of a layer, in this order, for each network alone."""
    net = make(kind, norm, 5, 7).float()
    for network, generator in enumerate(seeded(5, 7)):
        for layer in net.stack:
            weight = torch.empty_like(layer.weight[network])
            bound = 1 / weight[0].numel() ** 0.5
            if layer.transposed:
                weight.uniform_(-bound, bound, generator=generator)
            else:
                weight.normal_(0, 0.02, generator=generator)
            torch.testing.assert_close(layer.weight[network], weight * 6)
            bias = torch.empty_like(layer.bias[network])
            assert torch.equal(
                layer.bias[network], bias.uniform_(-bound, bound, generator=generator)
            )
            if layer.norm != "none":
                scale = torch.empty_like(layer.scale[network]).normal_(1, 0.02, generator=generator)
                assert torch.equal(layer.scale[network], scale)
                assert not layer.shift[network].any()


def test_initial_weights_are_those_of_their_seed_whatever_stands_beside() -> None:
    pair, single = make("critic", "instance", 5, 7), make("critic", "instance", 7)
    for both, alone in zip(pair.parameters(), single.parameters(), strict=True):
        assert torch.equal(both[1:], alone)
    assert not same(pair.stack[0].weight[0], pair.stack[0].weight[1])
    assert not any(weight.requires_grad for weight in pair.parameters())
