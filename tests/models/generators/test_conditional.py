from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from invertkit.models.generators.class_maps import Mixture
from invertkit.models.generators.conditional import (
    ConditionalBatchNorm,
    ConditionalEncoder,
    ConditionalGenerator,
    encoder_widths,
)
from tests.helpers import normal, uniform

WIDTHS = (8, 6, 4)


def made(make: Callable[[], nn.Module]) -> nn.Module:
    """Statistics of norms and biases are such as no default would give; in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make().double()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.3, 1.5)
            elif isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.normal_(module.bias, std=0.3)
    return net.eval().requires_grad_(False)


def generator(*, class_at_start: bool = False) -> ConditionalGenerator:
    net = made(
        lambda: ConditionalGenerator(
            3, latent=5, embedding=4, widths=WIDTHS, class_at_start=class_at_start
        )
    )
    assert isinstance(net, ConditionalGenerator)
    return net


# ---------------------------------------------------------------------- conditional batch norm


@given(seed=st.integers(0, 99), train=st.sampled_from([True, False]))
def test_conditional_batch_norm_is_its_plain_restatement(seed: int, train: bool) -> None:  # noqa: FBT001
    norm = made(lambda: ConditionalBatchNorm(6, 5))
    features, condition = normal(3, 6, 4, 5, seed=seed), normal(3, 5, seed=seed + 1)
    if train:
        norm.train()
        mean, var = features.mean((0, 2, 3)), features.var((0, 2, 3), unbiased=False)
    else:
        mean, var = norm.norm.running_mean, norm.norm.running_var
    plain = (features - mean[:, None, None]) / (var[:, None, None] + 1e-4).sqrt()
    scale = torch.einsum("ck,bk->bc", norm.scale.weight, condition) + norm.scale.bias
    shift = torch.einsum("ck,bk->bc", norm.shift.weight, condition) + norm.shift.bias
    wanted = plain * (1 + scale)[:, :, None, None] + shift[:, :, None, None]
    torch.testing.assert_close(norm(features, condition), wanted, rtol=1e-12, atol=1e-12)


def test_a_condition_may_differ_from_place_to_place() -> None:
    norm = made(lambda: ConditionalBatchNorm(6, 5))
    features, left, right = normal(2, 6, 4, 4), normal(2, 5, seed=1), normal(2, 5, seed=2)
    weights = torch.zeros(2, 2, 4, 4, dtype=torch.float64)
    weights[:, 0, :, :2] = 1
    weights[:, 1, :, 2:] = 1
    both = norm(features, Mixture(torch.stack([left, right], 1), weights))
    torch.testing.assert_close(both[..., :2], norm(features, left)[..., :2], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        both[..., 2:], norm(features, right)[..., 2:], rtol=1e-12, atol=1e-12
    )


# ---------------------------------------------------------------------- the generator


@pytest.mark.parametrize("class_at_start", [True, False])
def test_the_generator_is_its_plain_restatement(class_at_start: bool) -> None:  # noqa: FBT001
    net = generator(class_at_start=class_at_start)
    latent, embedding = normal(2, 5), normal(2, 4, seed=1)
    condition = torch.cat([latent, embedding], 1)

    def norm(part: ConditionalBatchNorm, features: Tensor) -> Tensor:
        mean, var = part.norm.running_mean, part.norm.running_var
        assert isinstance(mean, Tensor)
        assert isinstance(var, Tensor)
        plain = (features - mean[:, None, None]) / (var[:, None, None] + 1e-4).sqrt()
        scale, shift = (
            condition @ layer.weight.T + layer.bias for layer in (part.scale, part.shift)
        )
        return plain * (1 + scale[:, :, None, None]) + shift[:, :, None, None]

    def twice(features: Tensor) -> Tensor:
        return features.repeat_interleave(2, 2).repeat_interleave(2, 3)

    start = condition if class_at_start else latent
    features = F.linear(start, net.gen_z.weight, net.gen_z.bias).reshape(2, WIDTHS[0], 4, 4)
    for block in net.blocks:
        inner = F.conv2d(
            norm(block.bn1, features).relu(), block.conv1.weight, block.conv1.bias, padding=1
        )
        inner = norm(block.bn2, twice(inner)).relu()
        inner = F.conv2d(inner, block.conv2.weight, block.conv2.bias, padding=1)
        features = inner + twice(F.conv2d(features, block.skip.weight))
    mean, var = net.bn.running_mean, net.bn.running_var
    plain = (features - mean[:, None, None]) / (var[:, None, None] + 1e-4).sqrt()
    plain = plain * net.bn.weight[:, None, None] + net.bn.bias[:, None, None]
    wanted = F.conv2d(plain.relu(), net.to_rgb.weight, net.to_rgb.bias, padding=1).tanh()
    found = net(latent, embedding)
    assert found.shape == (2, 3, 16, 16)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_pictures_do_not_depend_on_their_neighbours_and_stay_in_double_precision() -> None:
    net, latent, embedding = generator(), normal(3, 5), normal(3, 4, seed=1)
    together = net(latent, embedding)
    assert together.dtype == torch.float64
    assert together.abs().max() <= 1
    for i in range(3):
        alone = net(latent[i : i + 1], embedding[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-12, atol=1e-12)


def test_half_precision_ends_in_single() -> None:
    net = generator().bfloat16()
    out = net(normal(1, 5).bfloat16(), normal(1, 4).bfloat16())
    assert out.dtype == torch.float32
    assert out.isfinite().all()


def test_gradients_of_latent_and_embedding_are_true() -> None:
    net = generator()
    latent, embedding = normal(1, 5).requires_grad_(), normal(1, 4, seed=1).requires_grad_()
    pull = normal(1, 3, 16, 16, seed=5)
    assert torch.autograd.gradcheck(
        lambda z, e: (net(z, e) * pull).sum(), (latent, embedding), atol=1e-6
    )


# ---------------------------------------------------------------------- the encoder


def test_the_encoder_depends_on_picture_and_class_and_on_nobody_else() -> None:
    net = made(lambda: ConditionalEncoder(latent=5, embedding=4, widths=(8, 8, 16)))
    images, embeddings = uniform(3, 3, 32, 32) * 2 - 1, normal(3, 4)
    latent = net(images, embeddings)
    assert latent.shape == (3, 5)
    alone = net(images[1:2], embeddings[1:2])
    torch.testing.assert_close(alone, latent[1:2], rtol=1e-10, atol=1e-12)
    assert not torch.allclose(net(images, embeddings.flip(0)), latent)
    assert not torch.allclose(net(images.flip(0), embeddings), latent)


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_an_encoder_of_any_size_ends_at_two_places_a_side(size: int) -> None:
    net = made(lambda: ConditionalEncoder(latent=5, embedding=4, widths=encoder_widths(size)))
    assert net(uniform(1, 3, size, size), normal(1, 4)).shape == (1, 5)
